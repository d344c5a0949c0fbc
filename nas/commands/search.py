"""The search as one function: the six steps in their order, and what stays of them in the run folder."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from nas.commands.compress_finish import train_taught
from nas.commands.display import Display, Remembering, Silent
from nas.commands.explore import Exploration, explore
from nas.commands.finish import finalists, train_finalists
from nas.commands.latency import DeviceModels, latency_models
from nas.commands.measure import measure_finalists
from nas.commands.plan import Plan, make_plan
from nas.commands.run_folder import check_resumable, open_folder
from nas.commands.run_place import check_run_place
from nas.commands.screen import search_screen, units_ms
from nas.commands.settings import SearchSettings
from nas.commands.setup import Setup, prepare, score_names
from nas.commands.shown_front import shown_front
from nas.commands.warm_start import check_warm_start
from nas.deploy.deployed import CandidateEvaluate, DeployedEvaluate
from nas.deploy.finalist import FinalistWork
from nas.errors import UserError
from nas.problem.evaluation import Candidate, Evaluation
from nas.problem.history import History, read_history
from nas.report.write import write_report
from nas.run.folder import GIVEN_AGAIN, RunFolder
from nas.run.front import FrontFile
from nas.run.loop import Stopped
from nas.run.observer import Observer
from nas.run.runner import Workers, now
from nas.strategy.problem import SearchProblem, SearchStrategy
from nas.strategy.random_search import RandomSearch
from nas.strategy.screening import CountedScreen
from nas.train.evaluate import TrainingEvaluate
from nas.train.scores.population import PopulationScores
from nas.train.scores.preselect import Preselect

_BASELINE_SEED = 1_000_003  # added to the seed, so that the baseline does not repeat the search's first draws


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search leaves.

    Attributes:
        folder: the run folder; None where the search was to stop after the forecast.
        plan: the forecast.
        files: the exported files of the front, measured; [] after a forecast.
        failed: members of the front that could not be trained or exported.
    """

    folder: Path | None
    plan: Plan
    files: Sequence[FrontFile] = ()
    failed: Sequence[Evaluation] = ()


def search(
    settings: SearchSettings | None = None,
    *,
    display: Display | None = None,
    record: Mapping[str, object] | None = None,
    **given: Any,
) -> SearchResult:
    """Searches a space for networks that fit the budgets; trains, exports and measures the best.

    The six steps are functions of their own: `nas.commands.setup.prepare`, `nas.commands.latency.latency_models`,
    `nas.commands.plan.make_plan`, `nas.commands.explore.explore`, `nas.commands.finish.train_finalists`,
    `nas.commands.measure.measure_finalists`, and `nas.report.write.write_report`.

    Args:
        settings: what to do; None: the defaults with ``given``.
        display: is told what happens; None: nobody.
        record: ``command``, ``overrides`` and ``config`` for the manifest, where a command line was given.
        given: fields of `SearchSettings`, in place of ``settings``: ``search(space="resnet-tiny", seed=1)``.

    Raises:
        UserError: something that the user gave does not fit, or nothing keeps the budgets.
        Stopped: on an interrupt; what was finished is recorded.
    """
    if settings is None:
        unknown = given.keys() - {field.name for field in fields(SearchSettings)}
        if unknown:
            raise UserError(
                "search", f"takes no field {sorted(unknown)[0]}", "see nas.commands.settings.SearchSettings"
            )
        settings = SearchSettings(**given)
    elif given:
        raise UserError("search", "takes either settings or their fields, got both")
    display = Remembering(display or Silent())
    record = {"created": now(), **(record or {})}
    check_run_place(settings.run)
    settings.runner.check()
    setup = prepare(settings, display)
    check_resumable(setup)
    check_warm_start(setup, display)
    started = time.monotonic()
    models = latency_models(setup, display)
    timings = {"calibrate": time.monotonic() - started}
    return _Search(setup, models, display, record, timings).run()


class _Search:
    """One run, from the forecast on: what several steps share."""

    def __init__(
        self,
        setup: Setup,
        models: Sequence[DeviceModels],
        display: Remembering,
        record: Mapping[str, object],
        timings: dict[str, float],
    ) -> None:
        self.setup = setup
        self.models = models
        self.display = display
        self.record = record
        self.timings = timings
        settings = setup.settings
        self.screen = search_screen(setup, models)
        training = TrainingEvaluate(
            space=setup.space,
            task=setup.task,
            recipe=settings.recipe,
            allow=tuple(settings.allow),
            time_limit_seconds=settings.runner.time_limit_seconds,
            device=settings.runner.torch_device,
        )
        self.evaluate = evaluation_of(setup, training)

    def run(self) -> SearchResult:
        settings, display = self.setup.settings, self.display
        slots = settings.runner.expected_slots(settings.run.workers)
        plan = make_plan(self.setup, self.screen, self.evaluate, display, workers=slots)
        if settings.run.forecast_only:
            return SearchResult(folder=None, plan=plan)
        with ExitStack() as stack:
            running = stack.enter_context(ExitStack())
            # First the workers, which may be refused: then no folder is made.
            workers = running.enter_context(
                settings.runner.start(workers=settings.run.workers, modules=tuple(settings.allow))
            )
            display.say("runner", workers.description)
            folder = open_folder(self.setup, plan, self.models, self.record, stack, note=display.note)
            self.observer = stack.enter_context(
                Observer(
                    folder.path,
                    manifest=folder.manifest(),
                    objectives=[goal.key for goal in self.setup.objectives],
                    callbacks=settings.callbacks,
                    note=display.note,
                )
            )
            if settings.run.checkpoints:
                self.evaluate = trained_with(self.evaluate, checkpoints=folder.path.resolve() / "checkpoints")
            try:
                failed, chosen = self._train(folder, plan, workers)
                running.close()  # timing wants a quiet machine
                started = time.monotonic()
                self.observer.begin("measure")
                files = measure_finalists(
                    self.setup, folder, chosen, self.models, display, units_ms=units_ms(self.screen)
                )
                self.timings["measure"] = time.monotonic() - started
            except (KeyboardInterrupt, UserError) as error:
                running.close()
                self._leave(folder)
                if isinstance(error, UserError):
                    raise
                recorded = error.recorded if isinstance(error, Stopped) else len(read_history(folder.history_file)[0])
                command = _resume_command(folder, self.record)
                raise Interrupted(folder.path, recorded, settings.run.candidates, command) from None
            for evaluation in failed:
                display.note(f"{evaluation.candidate.architecture.digest[:6]} is not in the front: {evaluation.error}")
            folder.update({"finished": now(), "timings": self._all_timings(folder), "notes": display.notes})
            self._show(folder, files)
            address = folder.manifest().get("address")
        if address:  # the last copy is made as the folder is left
            display.say("copy", str(address))
        return SearchResult(folder=folder.path, plan=plan, files=files, failed=failed)

    def _train(self, folder: RunFolder, plan: Plan, workers: Workers) -> tuple[list[Evaluation], list[Any]]:
        """Steps 4 and 5 as far as workers are needed."""
        history = self._explore(folder, plan, workers)
        started = time.monotonic()
        chosen = finalists(self.setup, history, self._screened(history))
        if not chosen:
            raise UserError(
                str(folder.path),
                f"holds no complete candidate that keeps the budgets, out of {len(history)}",
                f"the first error is: {_first_error(history)}",
            )
        del history  # a long one takes hundreds of megabytes, and the rest reads its file
        failed = self._finish(folder, chosen, workers)
        self.timings["finish"] = time.monotonic() - started
        return failed, chosen

    def _finish(self, folder: RunFolder, chosen: Sequence[Candidate], workers: Workers) -> list[Evaluation]:
        """Trains and exports the finalists; returns those that failed."""
        settings, limit = self.setup.settings, self.setup.settings.runner.time_limit_seconds
        factor = max(1.0, settings.run.final_epochs / settings.run.rungs[-1].epochs)
        factor *= settings.compress.time_factor(settings.run.final_epochs)
        work = FinalistWork(
            evaluate=trained_with(self.evaluate, time_limit_seconds=None if limit is None else limit * factor),
            options=settings.deploy,
            models=folder.models.resolve(),
            command=str(self.record.get("command", "nas.search(...)")),
            compress=settings.compress,
        )

        def train(work: FinalistWork, candidates: Sequence[Candidate]) -> list[Evaluation]:
            with workers.open(self.observer.logged(work, phase="finish"), time_factor=factor) as session:
                return train_finalists(folder, candidates, self.observer.watched(session), self.display)

        self.observer.begin("finish", total=len(chosen))
        return train_taught(work, chosen, train, self.display)

    def _explore(self, folder: RunFolder, plan: Plan, workers: Workers) -> History:
        settings, started = self.setup.settings, time.monotonic()
        screen = CountedScreen(self.screen)
        problem = SearchProblem(
            space=self.setup.space,
            objectives=self.setup.objectives,
            screen=screen,
            limits=tuple(budget for budget in self.setup.budgets if not budget.metric.known_before_training),
        )
        what = Exploration(
            topic="search",
            strategy=_strategy(self.setup),
            file=folder.history_file,
            candidates=settings.run.candidates,
            seed=settings.seed,
            told=self.observer.told,
        )
        with workers.open(self.observer.logged(self.evaluate)) as opened:
            session = self.observer.watched(opened)
            self.observer.begin("search", total=settings.run.candidates)
            history = explore(self.setup, problem, session, plan, what, self.display)
            self.timings["search"] = time.monotonic() - started
            texts = {budget.key: str(budget) for budget in self.setup.budgets}
            broken = {texts.get(key, key): count for key, count in screen.broken.items() if count}
            folder.update({"screened": _added(folder.manifest().get("screened"), screen.num_screened, broken)})
            if settings.run.random_baseline:
                baseline = Exploration(
                    topic="baseline",
                    strategy=RandomSearch(),
                    file=folder.baseline_file,
                    candidates=settings.run.random_baseline,
                    seed=settings.seed + _BASELINE_SEED,
                    baseline=True,
                    told=self.observer.told,
                )
                self.observer.begin("baseline", total=settings.run.random_baseline)
                explore(self.setup, problem, session, plan, baseline, self.display)
        return history

    def _screened(self, history: History) -> dict[str, bool]:
        """Digest -> whether it keeps the budgets of now: a resumed run may have others than it began with."""
        feasible = self.screen(np.asarray(history.rows)).feasible
        return {
            evaluation.candidate.architecture.digest: bool(kept)
            for evaluation, kept in zip(history, feasible, strict=True)
        }

    def _leave(self, folder: RunFolder) -> None:
        """What an interrupted run still leaves: its times, and a report of what there is."""
        folder.update({"timings": self._all_timings(folder), "notes": self.display.notes})
        if folder.history_file.is_file():
            write_report(folder.path)

    def _all_timings(self, folder: RunFolder) -> dict[str, float]:
        """Seconds of each step, those of before a resume included."""
        earlier = folder.manifest().get("timings")
        before = earlier if isinstance(earlier, Mapping) else {}
        steps = [*before, *(step for step in self.timings if step not in before)]
        return {step: float(before.get(step, 0.0)) + self.timings.get(step, 0.0) for step in steps}

    def _show(self, folder: RunFolder, files: Sequence[FrontFile]) -> None:
        table, figures = shown_front(self.setup, self.models, folder, files)
        self.display.result("\n" + table + "\n", figures)
        self.display.say("report", str(figures["report"]))
        self.display.say("models", f"{folder.models}/   {folder.front_file}")
        candidates = self.setup.settings.run.candidates
        more = min(2 * candidates, self.setup.space.size)
        if more > candidates:
            self.display.say("next", f"{_resume_command(folder, self.record)} run.candidates={more}")


def evaluation_of(setup: Setup, training: TrainingEvaluate) -> CandidateEvaluate:
    """How candidates are judged: by training, or by their files where the space says what becomes of networks."""
    if setup.space.deploy is None:
        return training
    settings = setup.settings
    return DeployedEvaluate(
        training=training, options=settings.deploy, judging=settings.run.judging, compress=settings.compress
    )


def trained_with(evaluate: CandidateEvaluate, **changed: Any) -> CandidateEvaluate:
    """The same evaluation with other fields of `TrainingEvaluate`."""
    if isinstance(evaluate, DeployedEvaluate):
        return replace(evaluate, training=replace(evaluate.training, **changed))
    return replace(evaluate, **changed)


class Interrupted(KeyboardInterrupt):
    """A search that the user stopped; says how to go on."""

    def __init__(self, folder: Path, recorded: int, total: int, command: str) -> None:
        self.folder = folder
        super().__init__(f"stopped: {recorded} of {total} candidates are recorded. Go on with: {command}")


def _resume_command(folder: RunFolder, record: Mapping[str, Any]) -> str:
    """How to go on. What a run folder cannot decide is given again (``docs/security.md``)."""
    place = folder.manifest().get("address") or folder.path
    told = [str(override) for override in record.get("overrides", [])]
    again = [override for override in told if override.startswith(GIVEN_AGAIN)]
    return shlex.join(["nas", "search", f"run.resume={place}", *again])


def _strategy(setup: Setup) -> SearchStrategy:
    """The strategy, behind scores of untrained networks where the settings ask for them."""
    settings = setup.settings
    if not settings.scores:
        return settings.strategy
    scores = PopulationScores(setup.space, setup.task, score_names(settings.scores), allow=tuple(settings.allow))
    return Preselect(strategy=settings.strategy, scores=scores)


def _added(earlier: Any, proposed: int, broken: Mapping[str, int]) -> dict[str, object]:
    """Screening counts with those of before a resume."""
    before = earlier or {"proposed": 0, "broken": {}}
    texts = [*before["broken"], *(text for text in broken if text not in before["broken"])]
    counts = {text: before["broken"].get(text, 0) + broken.get(text, 0) for text in texts}
    return {"proposed": before["proposed"] + proposed, "broken": counts}


def _first_error(history: History) -> str:
    return next((evaluation.error for evaluation in history if evaluation.error), "none, but none was accurate enough")
