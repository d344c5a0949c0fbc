"""What a retraining starts from: the models of a run, as candidates of their space, and how long it will take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nas.commands.display import Display
from nas.commands.export_inputs import Chosen, chosen_models, run_record
from nas.commands.export_settings import ExportSettings
from nas.commands.retrain_settings import RetrainSettings
from nas.commands.settings import RunOptions, SearchSettings
from nas.commands.setup import Setup
from nas.errors import UserError
from nas.problem.evaluation import Candidate, Fidelity
from nas.report.records import number, read_front
from nas.run.tuning_schedulers import Scheduling
from nas.strategy.screening import Screen
from nas.units import format_seconds

_DEFAULT_NAME = "retrained"
_MODEL_SECONDS = 10.0  # to start Tune and its workers, and to export


@dataclass(frozen=True, kw_only=True, eq=False)
class Retrained:
    """A model that is trained again.

    Attributes:
        candidate: as it is trained now.
        chosen: as the run left it.
        before: test accuracy of the run's float32 file; NaN where there is none.
    """

    candidate: Candidate
    chosen: Chosen
    before: float

    @property
    def digest(self) -> str:
        """Of the network."""
        return self.candidate.architecture.digest

    @property
    def epoch_seconds(self) -> float:
        """That an epoch took in the run; NaN where it does not say."""
        training = self.chosen.manifest["training"]
        seconds, epochs = number(training.get("seconds")), number(training.get("epochs"))
        return seconds / epochs if seconds and epochs else math.nan


def models_of(settings: RetrainSettings, display: Display) -> list[Chosen]:
    """The models that are trained again, those of the most multiply-accumulates first: they are who may teach.

    Raises:
        UserError: no run, no such models.
    """
    run_record(settings.run)
    chosen = chosen_models(ExportSettings(run=settings.run, models=settings.models), display)
    return sorted(chosen, key=lambda model: -float(model.manifest["macs"]))


def search_settings(settings: RetrainSettings, epochs: int) -> SearchSettings:
    """Settings by which the steps of a search serve a retraining: its own run folder, runner and epochs.

    Raises:
        UserError: a name that is none, or is taken.
    """
    place = settings.folder or settings.run.parent
    if settings.name is not None and (Path(settings.name).name != settings.name or settings.name.startswith(".")):
        raise UserError("name", f"must be a plain folder name, got {settings.name!r}", "folder=... says where")
    if settings.name is not None and settings.resume is None and (place / settings.name).exists():
        problem = f"must be that of a new folder, {place / settings.name} exists"
        raise UserError("name", problem, "give another one, or go on with a retraining by resume=<folder>")
    name = settings.name or _free_name(place, f"{settings.run.resolve().name}-{_DEFAULT_NAME}")
    resume = None if settings.resume is None else str(settings.resume)
    run = RunOptions(name=name, folder=str(place), resume=resume, final_epochs=epochs)
    return replace(settings.search, run=run, runner=settings.runner)


def _free_name(place: Path, name: str) -> str:
    number = 1
    while (place / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return name if number == 1 else f"{name}-{number}"


def candidates(
    settings: RetrainSettings, setup: Setup, screen: Screen, chosen: Sequence[Chosen], *, epochs: int
) -> list[Retrained]:
    """The models as candidates of the space of now. Raises `UserError`, see `rows_of`."""
    accuracies = {
        row["digest"]: value
        for row in read_front(settings.run / "front.csv")
        if row.get("precision") == "float32" and (value := number(row.get("accuracy"))) is not None
    }
    rows = rows_of(setup, chosen)
    predicted = screen(np.array(rows, dtype=np.int16)).predicted
    return [
        Retrained(
            candidate=Candidate(
                index=place,
                architecture=setup.space.architecture(row),
                fidelity=Fidelity(epochs=epochs),
                seed=_seed(setup.settings.seed, model.manifest),
                predicted={key: float(values[place]) for key, values in predicted.items()},
            ),
            chosen=model,
            before=accuracies.get(model.digest, math.nan),
        )
        for place, (row, model) in enumerate(zip(rows, chosen, strict=True))
    ]


def rows_of(setup: Setup, chosen: Sequence[Chosen]) -> list[np.ndarray]:
    """Each model's row ``(m,)`` of the space.

    Raises:
        UserError: the space or the data are not those of the run, or a model is not what its choices say.
    """
    return [_row(setup, model) for model in chosen]


def _row(setup: Setup, model: Chosen) -> np.ndarray:
    space, data = setup.space, setup.task.data
    theirs = model.manifest["space"]
    if theirs["digest"] != space.digest:
        problem = f"must be that of the run, {theirs['name']} (digest {theirs['digest']}), got {space.digest}"
        raise UserError("space", problem, "give the file that the run searched, space=<path>")
    trained_on = model.manifest["training"]["data_digest"]
    if trained_on != data.digest:
        problem = f"must be what the run was trained on (digest {trained_on}), is {data.digest}"
        raise UserError("data", problem, "other data would make before and after incomparable")
    row = space.row(model.manifest["choices"])
    if space.architecture(row).digest != model.digest:
        problem = f"does not hold what its choices say: {space.architecture(row).digest}"
        raise UserError(str(model.folder), problem, "the folder was changed; leave it out with models=[...]")
    return row


def _seed(seed: int, manifest: Mapping[str, Any]) -> int:
    """Another one than that of the run: its models were chosen by what came of that one."""
    return int(np.random.SeedSequence([seed, int(manifest["training"]["seed"])]).generate_state(1)[0])


def forecast_seconds(models: Sequence[Retrained], scheduling: Scheduling, *, trials: int, slots: int) -> float:
    """Seconds that all trainings take, roughly, by what the run took for an epoch; NaN where it does not say."""
    epochs = scheduling.expected_epochs(trials)
    # The untuned one goes to the end whatever comes, and nothing is quicker than one training.
    share = max(epochs / min(slots, trials), float(scheduling.epochs))
    return share * math.fsum(model.epoch_seconds for model in models) + _MODEL_SECONDS * len(models)


def plan_text(models: Sequence[Retrained], scheduling: Scheduling, *, trials: int, slots: int, seconds: float) -> str:
    """``2 models x 8 trials x up to 90 epochs (asha looks after 10, 30), 2 workers: about 3 min 10 s``"""
    looks = ", ".join(map(str, scheduling.milestones[:-1]))
    how = {"asha": f"asha looks after {looks}", "pbt": f"pbt looks after {looks}", "none": "none is stopped"}
    which = how[scheduling.name] if looks else "none is stopped"
    up_to = "up to " if scheduling.name == "asha" and looks else ""
    count, workers = len(models), f"{slots} worker{'s' if slots > 1 else ''}"
    tried = f"{trials} trial{'s' if trials > 1 else ''}"
    known = "" if math.isnan(seconds) else f": about {format_seconds(seconds)}, by what the run took"
    return (
        f"{count} model{'s' if count > 1 else ''} x {tried} x {up_to}{scheduling.epochs} epochs ({which}), "
        f"{workers}{known}"
    )
