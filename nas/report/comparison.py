"""Several runs side by side: their fronts on one plot, their hypervolumes in one box.

Responsible for which figures of runs may stand on one axis, and for saying where they may not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.errors import UserError
from nas.problem.front import hypervolume
from nas.report.evaluations import Evaluations, reference_box
from nas.report.records import RunRecords, mapping, number, read_run, sequence, truth

MOST_RUNS = 12  # that colours can tell apart on one plot
_WHERE = "nas runs compare"
Box = tuple[NDArray[np.float64], NDArray[np.float64]]
_COSTS = ("macs", "parameters", "size_bytes", "peak_activation_bytes")


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedRun:
    """A run in a comparison.

    Attributes:
        name: of its folder; the whole path where two are alike.
        records: as they were read.
        search: its history, over the objectives that all runs share.
        files: its exported files as measured, over the same.
    """

    name: str
    records: RunRecords
    search: Evaluations
    files: Evaluations


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Runs that can be held against each other.

    Attributes:
        runs: in the order given.
        objectives: metric keys that span the fronts, common to all runs.
        axes: further costs that all have figures of.
        warnings: where the runs differ so that figures are not like for like, one sentence each.
        volumes: name -> hypervolume of the candidates as judged in the search, as a share of one box for all; NaN
            where there is no box.
        box: ideal and worst cost of each objective for the candidates of all runs; None where one is not known.
        file_volumes: likewise of the exported files as measured; NaN for a run without any.
    """

    runs: tuple[ComparedRun, ...]
    objectives: tuple[str, ...]
    axes: tuple[str, ...]
    warnings: tuple[str, ...]
    box: Box | None
    volumes: Mapping[str, float]
    file_volumes: Mapping[str, float]


def compare_runs(folders: Sequence[Path]) -> Comparison:
    """Reads runs and finds what they have in common.

    Raises:
        UserError: fewer than two runs or too many, a folder without one, runs on other data, or runs that share less
            than two objectives.
    """
    if not 2 <= len(folders) <= MOST_RUNS:
        raise UserError(
            _WHERE, f"must be given 2 to {MOST_RUNS} runs, got {len(folders)}", "nas runs compare runs/a runs/b"
        )
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError(_WHERE, "must be given each run once", "nas runs lists them")
    records = [read_run(folder) for folder in folders]
    names = _names(folders)
    _refuse_other_data(names, records)
    objectives = _common([[str(key) for key in sequence(one.manifest.get("objectives"))] for one in records])
    if len(objectives) < 2:
        told = "; ".join(f"{name}: {_listed(one.manifest)}" for name, one in zip(names, records, strict=True))
        raise UserError(
            _WHERE, f"must be runs that share two objectives, got {told}", "compare runs for the same device"
        )
    runs = tuple(
        ComparedRun(
            name=name,
            records=one,
            search=Evaluations(records=one.history, objectives=objectives),
            files=Evaluations(records=_file_records(one), objectives=objectives),
        )
        for name, one in zip(names, records, strict=True)
    )
    limits = _common_limits(records)
    box, file_box = (
        _box(histories, limits) for histories in ([run.search for run in runs], [run.files for run in runs])
    )
    return Comparison(
        runs=runs,
        objectives=objectives,
        axes=tuple(key for key in _COSTS if key not in objectives and all(_has(run, key) for run in runs)),
        warnings=tuple(_warnings(names, records)),
        box=box,
        volumes={run.name: _volume(run.search, box) for run in runs},
        file_volumes={run.name: _volume(run.files, file_box) for run in runs},
    )


def _file_records(records: RunRecords) -> tuple[dict[str, Any], ...]:
    """Accepted exported files in the form of evaluations, with what was measured."""
    return tuple(
        {
            "digest": row.get("digest", ""),
            "precision": row.get("precision", ""),
            "status": "complete",
            "metrics": {key: value for key, text in row.items() if (value := number(text)) is not None},
        }
        for row in records.front
        if truth(row.get("accepted")) is not False
    )


def _refuse_other_data(names: Sequence[str], records: Sequence[RunRecords]) -> None:
    digests = {name: mapping(one.manifest.get("data")).get("digest") for name, one in zip(names, records, strict=True)}
    first = names[0]
    for name in names[1:]:
        if digests[name] != digests[first]:
            ours, theirs = (named(one.manifest, "data") for one in (records[0], records[list(names).index(name)]))
            problem = f"must be runs on the same data, but {first} is on {ours} and {name} on {theirs}"
            raise UserError(_WHERE, problem, "accuracies on other images cannot be compared")


def _warnings(names: Sequence[str], records: Sequence[RunRecords]) -> list[str]:
    manifests = [one.manifest for one in records]
    found = []
    spaces = [named(manifest, "space") for manifest in manifests]
    if len(set(spaces)) > 1:
        found.append(f"The runs are in different spaces: {_each(names, spaces)}.")
    devices = [
        ", ".join(str(mapping(one).get("name")) for one in sequence(manifest.get("devices"))) for manifest in manifests
    ]
    if len(set(devices)) > 1:
        found.append(f"The runs are for different devices: {_each(names, devices)}. Only what they share is compared.")
    epochs = [_epochs(one) for one in records]
    if len(set(epochs)) > 1:
        text = f"Candidates were trained for different numbers of epochs: {_each(names, epochs)}."
        found.append(f"{text} Their accuracies are not like for like; those of exported files are.")
    recipes = [str(mapping(manifest.get("config")).get("recipe")) for manifest in manifests]
    if len(set(recipes)) > 1:
        found.append("The runs have different recipes: their accuracies are those of different trainings.")
    return found


def _epochs(records: RunRecords) -> str:
    counts = {mapping(record.get("fidelity")).get("epochs") for record in records.history}
    return "/".join(str(count) for count in sorted(count for count in counts if isinstance(count, int))) or "-"


def _each(names: Sequence[str], values: Sequence[str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True))


def _common(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(key for key in lists[0] if all(key in others for others in lists[1:]))


def _common_limits(records: Sequence[RunRecords]) -> dict[str, float]:
    """Budgets on which all runs agree."""
    each = [
        {
            str(budget.get("key")): number(budget.get("limit"))
            for budget in map(mapping, sequence(one.manifest.get("budgets")))
        }
        for one in records
    ]
    return {
        key: limit
        for key, limit in each[0].items()
        if limit is not None and all(limits.get(key) == limit for limits in each[1:])
    }


def _box(histories: Sequence[Evaluations], limits: Mapping[str, float]) -> Box | None:
    known = [history for history in histories if len(history)]
    return reference_box(known, limits) if known else None


def _volume(history: Evaluations, box: Box | None) -> float:
    if box is None or not len(history):
        return float("nan")
    low, high = box
    front = history.costs[history.on_front]
    return float(hypervolume((front - low) / (high - low), np.ones(len(low))))


def _has(run: ComparedRun, key: str) -> bool:
    return bool(np.isfinite(run.search.values(key)).any()) if len(run.search) else False


def named(manifest: Mapping[str, Any], section: str) -> str:
    """Name and digest of the space or data of a run."""
    record = mapping(manifest.get(section))
    return f"{record.get('name', '?')} ({record.get('digest', '?')})"


def _listed(manifest: Mapping[str, Any]) -> str:
    return ", ".join(str(key) for key in sequence(manifest.get("objectives"))) or "none"


def _names(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]
