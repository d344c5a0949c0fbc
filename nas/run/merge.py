"""Several runs as one: the union of their histories, with what each evaluation came from.

Responsible for which runs may be joined and for the folder that is made of them, which a search goes on with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.problem.evaluation import Evaluation
from nas.problem.history import read_history
from nas.problem.records import evaluation_to_record
from nas.run.atomic import write_atomically
from nas.run.folder import RunFolder, refuse_used
from nas.run.identity import differences

ORIGIN = "origin"  # key of a history's line: run and index that it was taken from
_MERGED = "merged"  # section of a manifest
_WATCHED = ("devices", "objectives")  # sections whose difference is worth a word


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What a merge left.

    Attributes:
        folder: the new run folder.
        counts: run -> evaluations that were taken from it.
        repeated: evaluations that were there already.
        notes: what the user should know about, one sentence each.
    """

    folder: Path
    counts: Mapping[str, int]
    repeated: int
    notes: tuple[str, ...]


def merge_runs(runs: Sequence[Path], out: Path) -> Merged:
    """Makes a run folder of several runs in one space, on the same data.

    Each architecture with the same fidelity and seed is taken once, with the first complete evaluation of it, else the
    first. Evaluations stand in the order in which they ended, and are numbered anew; each line names the run and the
    index that it came from. The manifest is that of the first run: a search that goes on with the new folder is
    configured as that one. Files of models are not taken over. No run is written to.

    Args:
        runs: at least two run folders.
        out: of the new run; must not exist, or be empty.

    Raises:
        UserError: too few runs, one that cannot be read, or another space or other data.
    """
    if len({run.resolve() for run in runs}) < 2:
        raise UserError("nas runs merge", f"must be given at least two runs, got {', '.join(map(str, runs)) or 'none'}")
    refuse_used(out)
    manifests = [_manifest(run) for run in runs]
    for run, manifest in zip(runs[1:], manifests[1:], strict=True):
        _refuse_other(runs[0], manifests[0], run, manifest)
    names = _names(runs)
    taken, repeated = _union([(name, run) for name, run in zip(names, runs, strict=True)])
    lines = [
        {**evaluation_to_record(_numbered(evaluation, index)), ORIGIN: origin}
        for index, (evaluation, origin) in enumerate(taken)
    ]
    counts = {name: sum(origin["run"] == name for _, origin in taken) for name in names}
    notes = _notes(names, manifests)
    about = {
        "runs": [
            {"name": name, "path": str(run.resolve()), "created": manifest.get("created"), "taken": counts[name]}
            for name, run, manifest in zip(names, runs, manifests, strict=True)
        ],
        "repeated": repeated,
    }
    sections = {
        key: value for key, value in manifests[0].items() if key not in ("format", "name", "created", "updated")
    }
    folder = RunFolder.create(
        out,
        {**sections, "finished": None, "timings": {}, "screened": _screened(manifests), "notes": notes, _MERGED: about},
    )
    with folder.locked():
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        write_atomically(folder.history_file, text)
    return Merged(folder=out, counts=counts, repeated=repeated, notes=tuple(notes))


def _numbered(evaluation: Evaluation, index: int) -> Evaluation:
    """The evaluation under another number."""
    return replace(evaluation, candidate=replace(evaluation.candidate, index=index))


def _manifest(run: Path) -> dict[str, Any]:
    try:
        return RunFolder(path=run).manifest()
    except UserError as error:
        raise UserError("nas runs merge", error.problem if error.where == "run.resume" else str(error)) from error


def _refuse_other(first: Path, ours: Mapping[str, Any], run: Path, theirs: Mapping[str, Any]) -> None:
    for kind in ("space", "data"):
        left, right = ours.get(kind), theirs.get(kind)
        if not isinstance(left, Mapping) or not isinstance(right, Mapping):
            raise UserError("nas runs merge", f"the manifests of {first} and {run} must say what {kind} they are about")
        changed = differences(left, right)
        if changed:
            problem = f"must be runs with the same {kind}, but from {first} to {run}: {'; '.join(changed)}"
            raise UserError("nas runs merge", problem, "nas runs compare shows them side by side")


def _union(runs: Sequence[tuple[str, Path]]) -> tuple[list[tuple[Evaluation, dict[str, Any]]], int]:
    """Evaluations with their origins, in the order in which they ended; how many were there already."""
    found: dict[tuple[object, ...], tuple[Evaluation, dict[str, Any]]] = {}
    repeated = 0
    for name, run in runs:
        history, _ = read_history(RunFolder(path=run).history_file, repair=False)
        for evaluation in history:
            candidate = evaluation.candidate
            key = (candidate.architecture.digest, candidate.fidelity, candidate.seed)
            before = found.get(key)
            repeated += before is not None
            better = before is not None and before[0].status != "complete" == evaluation.status
            if before is None or better:
                found[key] = evaluation, {"run": name, "index": candidate.index}
    return sorted(found.values(), key=lambda one: one[0].finished), repeated


def _names(runs: Sequence[Path]) -> list[str]:
    """Names of the folders; whole paths where two are alike."""
    names = [run.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _notes(names: Sequence[str], manifests: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = [f"merged from {', '.join(names)}"]
    for section in _WATCHED:
        values = [_plain(manifest.get(section)) for manifest in manifests]
        if any(value != values[0] for value in values[1:]):
            notes.append(f"the {section} of the runs differ: what was predicted for one may be missing for another")
    recipes = [_plain(_config(manifest).get("recipe")) for manifest in manifests]
    if any(recipe != recipes[0] for recipe in recipes[1:]):
        notes.append("the recipes of the runs differ: their accuracies are those of different trainings")
    return notes


def _config(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    config = manifest.get("config")
    return config if isinstance(config, Mapping) else {}


def _plain(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _screened(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts of all runs together."""
    proposed, broken = 0, dict[str, int]()
    for manifest in manifests:
        counts = manifest.get("screened")
        if not isinstance(counts, Mapping):
            continue
        proposed += int(counts.get("proposed", 0))
        for text, count in (counts.get("broken") or {}).items():
            broken[text] = broken.get(text, 0) + int(count)
    return {"proposed": proposed, "broken": broken}
