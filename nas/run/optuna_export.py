"""A history as an Optuna study, for tools that read those, such as optuna-dashboard.

Responsible for the translation alone; nothing is read back, and no strategy looks at it.

| history | study |
|---|---|
| a line | a trial; its index in the run as user attribute ``nas:index`` |
| active choices | categorical parameters, with all labels of the space |
| objectives | values, in the metrics' canonical units, maximised or minimised as they are |
| ``complete`` | COMPLETE; FAIL where an objective has no finite value |
| ``stopped`` | PRUNED |
| ``failed``, ``timeout``, ``infeasible`` | FAIL |
| ``curve`` | intermediate values, by epoch from 1 |
| metrics, predictions, fidelity, seed, worker, seconds, error | user attributes |
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.errors import UserError, one_line
from nas.problem.evaluation import Evaluation
from nas.problem.history import History, read_history
from nas.problem.metrics import METRICS
from nas.run.folder import RunFolder

_WHERE = "storage"
_INDEX = "nas:index"
_RUN = "nas:run"
_CREATED = "nas:created"
_STATES = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
_BATCH = 200  # trials that are added between two words on progress


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export did.

    Attributes:
        study: name of the study.
        added: trials that were added now.
        total: trials in it.
    """

    study: str
    added: int
    total: int


def export_to_optuna(
    folder: Path,
    storage: str,
    *,
    study: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Adds the evaluations of a run that a study lacks, and makes the study where there is none.

    Exported again, only what came since is added, so that a running search can be looked at. The run is not written
    to.

    Args:
        folder: the run folder.
        storage: URL of Optuna, e.g. ``sqlite:///study.db``; a path that ends in ``.log`` is a journal.
        study: its name; None: that of the run.
        progress: is told how many of how many trials are there.

    Raises:
        UserError: no run, a storage that cannot be opened, or a study of something else.
    """
    run = RunFolder(path=folder)
    manifest = run.manifest()
    objectives = _texts(manifest.get("objectives"))
    if not objectives:
        raise UserError(str(run.manifest_file), "must name the objectives of the run", "is it a run folder?")
    history, _ = read_history(run.history_file, repair=False)
    name = study or run.name
    found = _study(storage, name, objectives, manifest)
    present = {trial.user_attrs.get(_INDEX) for trial in found.get_trials(deepcopy=False)}
    distributions = _distributions(manifest, history)
    missing = [evaluation for evaluation in history if evaluation.candidate.index not in present]
    done = len(history) - len(missing)
    progress(done, len(history))
    for start in range(0, len(missing), _BATCH):
        batch = missing[start : start + _BATCH]
        found.add_trials([_trial(evaluation, objectives, distributions) for evaluation in batch])
        done += len(batch)
        progress(done, len(history))
    return Exported(study=name, added=len(missing), total=done)


def _study(storage: str, name: str, objectives: Sequence[str], manifest: Mapping[str, Any]) -> optuna.Study:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        found = optuna.create_study(
            storage=_storage(storage), study_name=name, directions=_directions(objectives), load_if_exists=True
        )
    except Exception as error:  # SQLAlchemy, drivers and Optuna each raise their own
        raise UserError(
            _WHERE, f"cannot be opened, got '{storage}': {one_line(error)}", "e.g. sqlite:///study.db"
        ) from error
    finally:
        optuna.logging.set_verbosity(verbosity)
    created = str(manifest.get("created", ""))
    of = found.user_attrs.get(_CREATED)
    if (of is None and len(found.get_trials(deepcopy=False))) or of not in (None, created):
        theirs = f"another one, {found.user_attrs.get(_RUN, 'not a run')}"
        raise UserError(
            "study", f"must be a study of this run, but '{name}' in {storage} is of {theirs}", "give study=..."
        )
    if [direction.name for direction in found.directions] != [name.upper() for name in _directions(objectives)]:
        raise UserError("study", f"'{name}' in {storage} has other objectives", "give study=...")
    if of is None:
        space, data = manifest.get("space"), manifest.get("data")
        with warnings.catch_warnings():  # it may change, and it is only what a dashboard shows
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            found.set_metric_names(list(objectives))
        found.set_user_attr(_RUN, str(manifest.get("name", name)))
        found.set_user_attr(_CREATED, created)
        for key, record in (("nas:space", space), ("nas:data", data)):
            if isinstance(record, Mapping):
                found.set_user_attr(key, f"{record.get('name')} ({record.get('digest')})")
    return found


def _storage(text: str) -> Any:
    if text.endswith(".log") and "://" not in text:
        return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(text))
    return text


def _directions(objectives: Sequence[str]) -> list[str]:
    maximised = {metric.name for metric in METRICS.values() if metric.maximize}
    return ["maximize" if key.partition(".")[0] in maximised else "minimize" for key in objectives]


def _distributions(manifest: Mapping[str, Any], history: History) -> dict[str, BaseDistribution]:
    """Choice -> its labels, as the manifest lists them; those that only the history knows stand behind."""
    labels: dict[str, list[str]] = {}
    space = manifest.get("space")
    for choice in space.get("choices", ()) if isinstance(space, Mapping) else ():
        labels[str(choice["name"])] = [str(label) for label in choice["labels"]]
    for evaluation in history:
        for name, label in evaluation.candidate.architecture.choices.items():
            known = labels.setdefault(name, [])
            if label not in known:
                known.append(label)
    return {name: CategoricalDistribution(tuple(known)) for name, known in labels.items() if known}


def _trial(
    evaluation: Evaluation, objectives: Sequence[str], distributions: Mapping[str, BaseDistribution]
) -> FrozenTrial:
    candidate = evaluation.candidate
    figures = {**candidate.predicted, **evaluation.metrics}
    values = [figures.get(key, math.nan) for key in objectives]
    state = _STATES.get(evaluation.status, TrialState.FAIL)
    if state == TrialState.COMPLETE and not all(map(math.isfinite, values)):
        state = TrialState.FAIL
    params = dict(candidate.architecture.choices)
    trial = create_trial(
        state=state,
        values=values if state == TrialState.COMPLETE else None,
        params=params,
        distributions={name: distributions[name] for name in params},
        intermediate_values={
            epoch: float(value) for epoch, value in enumerate(evaluation.curve, start=1) if math.isfinite(value)
        },
        user_attrs=_attributes(evaluation),
    )
    if evaluation.finished:
        # Optuna's times are local and without a zone.
        trial.datetime_complete = datetime.fromisoformat(evaluation.finished).astimezone().replace(tzinfo=None)
        trial.datetime_start = trial.datetime_complete - timedelta(seconds=evaluation.seconds)
    return trial


def _attributes(evaluation: Evaluation) -> dict[str, Any]:
    candidate, fidelity = evaluation.candidate, evaluation.candidate.fidelity
    attributes: dict[str, Any] = {
        _INDEX: candidate.index,
        "digest": candidate.architecture.digest,
        "status": evaluation.status,
        "epochs": fidelity.epochs,
        "resolution": fidelity.resolution,
        "data_share": fidelity.data_share,
        "seed": candidate.seed,
        "seconds": round(evaluation.seconds, 3),
        "worker": evaluation.worker,
    }
    if evaluation.error:
        attributes["error"] = evaluation.error
    for kind, figures in (("", evaluation.metrics), ("predicted ", candidate.predicted), ("upper ", candidate.upper)):
        attributes |= {f"{kind}{key}": value for key, value in figures.items() if math.isfinite(value)}
    return attributes


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
