"""The retraining as one function: the models of a run trained long, with a tuned recipe, as a new run folder."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nas.commands.display import Display, Remembering, Silent
from nas.commands.latency import DeviceModels, latency_models
from nas.commands.measure import measure_finalists
from nas.commands.plan import Plan
from nas.commands.retrain_export import Outcome, RetrainedWork, read_outcome
from nas.commands.retrain_inputs import (
    Retrained,
    candidates,
    forecast_seconds,
    models_of,
    plan_text,
    rows_of,
    search_settings,
)  # fmt: skip
from nas.commands.retrain_settings import OF_TEACHER, RetrainSettings
from nas.commands.retrain_table import gain_table, gain_text, progress_text, write_before_and_after
from nas.commands.retrain_trial import Retraining, TrialRecord, best_of, changes
from nas.commands.run_folder import check_resumable, open_folder
from nas.commands.run_place import check_run_place
from nas.commands.screen import search_screen, units_ms
from nas.commands.setup import Setup, prepare
from nas.commands.shown_front import shown_front
from nas.errors import UserError
from nas.problem.history import read_history
from nas.run.folder import RunFolder
from nas.run.front import FrontFile
from nas.run.guarded_file import GuardedFile
from nas.run.observer import Observer
from nas.run.runner import Workers, now
from nas.run.tuning import Tuning, run_trials
from nas.run.tuning_space import proposals
from nas.strategy.forecast import forecast
from nas.strategy.screening import Screen
from nas.train.evaluate import TrainingEvaluate
from nas.units import format_seconds

TUNING = "tuning"
_STREAM = 11  # of the seed; smaller ones are a search's
_LOOK_SECONDS = 1.0
_ANEW = ("runner", "allow")  # what is not taken from a folder, and has to be said again


@dataclass(frozen=True, kw_only=True)
class RetrainResult:
    """What a retraining leaves.

    Attributes:
        folder: the new run folder; None where it was to stop after the plan.
        seconds: that the trainings take, as forecast; NaN where that is not known.
        outcomes: of the models that came through.
        files: their exported files, measured.
        failed: digest -> why there is nothing of it.
    """

    folder: Path | None
    seconds: float
    outcomes: Sequence[Outcome] = ()
    files: Sequence[FrontFile] = ()
    failed: Mapping[str, str] | None = None


class RetrainInterrupted(KeyboardInterrupt):
    """A retraining that the user stopped; says how to go on."""

    def __init__(self, folder: Path, done: int, total: int, *, again: Sequence[str] = ()) -> None:
        self.folder = folder
        command = shlex.join(["nas", "retrain", f"resume={folder}", *again])
        super().__init__(f"stopped: {done} of {total} models are retrained, trials are kept. Go on with: {command}")


def retrain(
    settings: RetrainSettings, *, display: Display | None = None, record: Mapping[str, object] | None = None
) -> RetrainResult:
    """Trains models of a run again, long, with a tuned recipe; exports, verifies and measures them in a new run folder.

    Each model is tuned by itself, the largest first. Trials are chosen among by the validation split, and the untuned
    recipe is one of them; the test split judges what was chosen. The run is not written to.

    Args:
        settings: what to do.
        display: is told what happens; None: nobody.
        record: ``command``, ``overrides`` and ``config`` for the manifest, where a command line was given.

    Raises:
        UserError: something that the user gave does not fit, or nothing came of any model.
        RetrainInterrupted: on an interrupt.
    """
    shown = Remembering(display or Silent())
    chosen = models_of(settings, shown)
    epochs = settings.epochs_after(max(int(model.manifest["training"]["epochs"]) for model in chosen))
    scheduling = settings.tune.scheduling(epochs)
    search = search_settings(settings, epochs)
    check_run_place(search.run)
    settings.runner.check()
    setup = prepare(search, shown)
    check_resumable(setup)
    rows_of(setup, chosen)  # before anything is measured for another space
    models = latency_models(setup, shown)
    screen = search_screen(setup, models)
    retrained = candidates(settings, setup, screen, chosen, epochs=epochs)
    slots = settings.runner.expected_slots()
    seconds = forecast_seconds(retrained, scheduling, trials=settings.tune.trials, slots=slots)
    shown.say("plan", plan_text(retrained, scheduling, trials=settings.tune.trials, slots=slots, seconds=seconds))
    if settings.ranges and settings.tune.trials > 1:
        shown.say("tunes", ", ".join(f"{name} {span}" for name, span in settings.ranges.items()))
    if settings.forecast_only:
        return RetrainResult(folder=None, seconds=seconds)
    about = {"created": now(), "command": "nas.retrain(...)", **(record or {})}
    found = forecast(screen, setup.space, setup.objectives, np.random.default_rng([setup.settings.seed, _STREAM]))
    plan = Plan(forecast=found, search_seconds=seconds, finish_seconds=0.0)
    return _Retrain(settings, setup, models, screen, retrained).run(plan, about, shown)


class _Retrain:
    """One retraining, from the folder on: what several steps share."""

    def __init__(
        self,
        settings: RetrainSettings,
        setup: Setup,
        models: Sequence[DeviceModels],
        screen: Screen,
        retrained: Sequence[Retrained],
    ) -> None:
        self.settings, self.setup, self.models, self.screen = settings, setup, models, screen
        self.retrained = retrained
        self.epochs = retrained[0].candidate.fidelity.epochs
        self.runner = settings.runner
        search = setup.settings
        self.evaluate = TrainingEvaluate(
            space=setup.space,
            task=setup.task,
            recipe=search.recipe,
            allow=tuple(search.allow),
            time_limit_seconds=self.runner.time_limit_seconds,
            device=self.runner.torch_device,
        )

    def run(self, plan: Plan, about: Mapping[str, object], display: Remembering) -> RetrainResult:
        started = time.monotonic()
        with ExitStack() as stack:
            running = stack.enter_context(ExitStack())
            workers = running.enter_context(self.runner.start(modules=tuple(self.setup.settings.allow)))
            display.say("runner", workers.description)
            folder = open_folder(self.setup, plan, self.models, about, stack, note=display.note)
            self.command = str(about["command"])
            observer = stack.enter_context(
                Observer(
                    folder.path,
                    manifest=folder.manifest(),
                    objectives=[goal.key for goal in self.setup.objectives],
                    note=display.note,
                )
            )
            failed: dict[str, str] = {}
            if self.settings.compress.distil_kind == "largest" and len(self.retrained) == 1:
                display.note("a single model is its own largest: it has no teacher")
            if self.settings.compress.qat_epochs:
                display.note("compress.qat_epochs has no effect here: INT8 files are calibrated, not trained for")
            try:
                for model in self.retrained:
                    observer.begin("tune", total=self.settings.tune.trials)
                    error = self._retrain(folder, model, workers, display)
                    if error:
                        failed[model.digest] = error
                        display.note(f"{model.digest[:6]} is not retrained: {error}")
                running.close()  # timing wants a quiet machine
                observer.begin("measure")
                files = self._measure(folder, display)
            except KeyboardInterrupt:
                running.close()
                done = sum(read_outcome(self._outcome_file(folder, model)) is not None for model in self.retrained)
                again = [text for text in _texts(about.get("overrides")) if text.startswith(_ANEW)]
                raise RetrainInterrupted(folder.path, done, len(self.retrained), again=again) from None
            outcomes = self._outcomes(folder)
            num_test = len(self.setup.task.data.splits["test"])
            notes = [*display.notes, *(gain_text(outcome, num_test) for outcome in outcomes)]
            timings = {"tune": time.monotonic() - started}
            told = {"run": str(self.settings.run.resolve()), "outcomes": [asdict(outcome) for outcome in outcomes]}
            folder.update({"finished": now(), "timings": timings, "notes": notes, "retrain": told})
            self._show(folder, files, outcomes, display)
        return RetrainResult(
            folder=folder.path, seconds=plan.search_seconds, outcomes=outcomes, files=files, failed=failed
        )

    def _retrain(self, folder: RunFolder, model: Retrained, workers: Workers, display: Display) -> str:
        """Tunes and exports a model; why there is nothing of it, or ""."""
        if read_outcome(self._outcome_file(folder, model)) is not None:
            display.say("kept", f"{model.digest[:6]}  was retrained before")
            return ""
        retraining = self._retraining(folder, model)
        records = self._tune(folder, retraining, display)
        best = best_of(records)
        if best is None:
            errors = [record.error for record in records if record.error]
            return f"no trial of {self.settings.tune.trials} came to its end: {(errors or ['all were lost'])[0]}"
        stopped = sum(record.status == "running" for record in records)
        done = sum(record.status == "complete" for record in records)
        text = f"{best.accuracy:.1%} validation by {changes(best.fields)}"
        display.say("tuned", f"{model.digest[:6]}  {text}; {done} to the end, {stopped} stopped early")
        work = RetrainedWork(
            retraining=retraining,
            records=tuple(records),
            best=best,
            options=self.setup.settings.deploy,
            models=folder.models.resolve(),
            outcome=self._outcome_file(folder, model).resolve(),
            command=self.command,
        )
        with workers.open(work) as session:
            session.submit(model.candidate)
            (evaluation,) = session.wait()
        if evaluation.status != "complete":
            return evaluation.error
        earlier, _ = read_history(folder.history_file)
        if model.digest not in earlier.digests:
            GuardedFile(folder.history_file).append(evaluation)
        return ""

    def _retraining(self, folder: RunFolder, model: Retrained) -> Retraining:
        compress, teacher = self.settings.compress, None
        largest = self.retrained[0].digest
        if compress.distil_kind == "largest" and model.digest != largest and folder.model(largest).is_dir():
            teacher = folder.model(largest).resolve()
        scheduling = self.settings.tune.scheduling(self.epochs)
        return Retraining(
            evaluate=self.evaluate,
            candidate=model.candidate,
            compress=compress,
            teacher=teacher,
            folder=(folder.path / TUNING / model.digest / "trials").resolve(),
            milestones=scheduling.milestones,
            replicas=self.runner.replicas,
            takes_over=scheduling.takes_over,
        )

    def _tune(self, folder: RunFolder, retraining: Retraining, display: Display) -> list[TrialRecord]:
        """The records of all trials that began, after the last of them ended."""
        options, seed = self.settings.tune, retraining.candidate.seed
        space = self.settings.ranges
        if self.settings.compress.distil_kind == "largest" and retraining.teacher is None:
            space = {name: span for name, span in space.items() if name not in OF_TEACHER}  # it has no teacher itself
        draws = proposals(space, options.trials - 1, np.random.default_rng([seed, _STREAM]))
        tuning = Tuning(
            settings=[{}, *draws],
            space=space,
            scheduling=options.scheduling(self.epochs),
            seed=seed,
            folder=folder.path / TUNING / retraining.candidate.architecture.digest / "ray",
        )
        with self._shown(retraining, display):
            run_trials(retraining, tuning, runner=self.runner, restore=options.restore)
        return retraining.records(options.trials)

    @contextmanager
    def _shown(self, retraining: Retraining, display: Display) -> Iterator[None]:
        """Shows how the trials do while they run, by their records: Tune keeps this thread to itself."""
        trials = self.settings.tune.trials
        expected = max(1, round(self.settings.tune.scheduling(self.epochs).expected_epochs(trials)))
        ending = threading.Event()

        def look() -> None:
            started, before = time.monotonic(), sum(map(retraining.epochs_done, retraining.records(trials)))
            while not ending.wait(_LOOK_SECONDS):
                records = retraining.records(trials)
                done = min(sum(map(retraining.epochs_done, records)), expected - 1)
                text = progress_text(retraining, records, trials)
                if done > before:
                    left = (time.monotonic() - started) * (expected - done) / (done - before)
                    text = f"{text}  {format_seconds(left)} left"
                display.progress("tune", done, expected, text=text)

        thread = threading.Thread(target=look, name="nas-tuning", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()
        text = progress_text(retraining, retraining.records(trials), trials)
        display.progress("tune", expected, expected, text=text)

    def _measure(self, folder: RunFolder, display: Display) -> list[FrontFile]:
        through = [one for one in self.retrained if read_outcome(self._outcome_file(folder, one)) is not None]
        if not through:
            problem = "holds no retrained model: each of them failed"
            raise UserError(str(folder.path), problem, "the notes above say why")
        wanted = [one.candidate for one in through]
        return measure_finalists(self.setup, folder, wanted, self.models, display, units_ms=units_ms(self.screen))

    def _outcome_file(self, folder: RunFolder, model: Retrained) -> Path:
        return folder.path / TUNING / model.digest / "outcome.json"

    def _outcomes(self, folder: RunFolder) -> list[Outcome]:
        found = (read_outcome(self._outcome_file(folder, model)) for model in self.retrained)
        return [outcome for outcome in found if outcome is not None]

    def _show(
        self, folder: RunFolder, files: Sequence[FrontFile], outcomes: Sequence[Outcome], display: Display
    ) -> None:
        table, figures = shown_front(self.setup, self.models, folder, files)
        page = write_before_and_after(self.settings.run, folder.path, display)
        num_test = len(self.setup.task.data.splits["test"])
        gains = gain_table(self.retrained, outcomes, epochs=self.epochs, num_test=num_test)
        figures["before_after"] = None if page is None else str(page)
        figures["outcomes"] = [asdict(outcome) for outcome in outcomes]
        display.result(f"\n{gains}\n\n{table}\n", figures)
        display.say("report", str(figures["report"]) + ("" if page is None else f"   {page}"))
        display.say("models", f"{folder.models}/   {folder.front_file}")
        display.say("next", f"nas export run={shlex.quote(str(folder.path))}")


def _texts(given: object) -> list[str]:
    return [str(text) for text in given] if isinstance(given, list | tuple) else []
