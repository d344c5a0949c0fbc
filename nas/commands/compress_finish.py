"""The front trained in full where its members have a teacher.

Responsible for the order: the teacher of the others, where it is one of them, is trained before them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.commands.display import Display
from nas.deploy.finalist import FinalistWork
from nas.deploy.manifest import NAME, read_manifest
from nas.deploy.qat_gain import describe_gain
from nas.problem.evaluation import Candidate, Evaluation
from nas.train.compression.options import CompressOptions

Train = Callable[[FinalistWork, Sequence[Candidate]], list[Evaluation]]
"""Trains candidates that are not trained yet; returns the evaluations of those that failed."""


def train_taught(work: FinalistWork, chosen: Sequence[Candidate], train: Train, display: Display) -> list[Evaluation]:
    """Trains the members of the front, and tells what rounding gained; returns the evaluations of those that failed.

    Args:
        work: on one of them, by nobody or by a teacher that is there already.
        chosen: the members, at least one.
        train: how.
        display: is told who teaches, and what came of it.
    """
    work = replace(work, compress=absolute_teacher(work.compress))
    _note_others(work, chosen, display)
    failed = _train_in_order(work, chosen, train, display)
    for candidate in chosen:
        digest = candidate.architecture.digest
        qat = _rounding(work.models / digest)
        if qat:
            display.say("rounding", f"{digest[:6]}  {describe_gain(qat)}")
    return failed


def _train_in_order(
    work: FinalistWork, chosen: Sequence[Candidate], train: Train, display: Display
) -> list[Evaluation]:
    if work.compress.distil_kind != "largest" or len(chosen) == 1:
        return train(work, chosen)
    teacher = largest_of(chosen)
    failed = train(work, [teacher])
    if failed:
        display.note("the largest network of the front could not be trained: the others have no teacher")
        return failed + train(work, [candidate for candidate in chosen if candidate is not teacher])
    digest = teacher.architecture.digest
    display.say("teacher", f"{digest[:6]}, the largest network of the front")
    return train(replace(work, largest=work.models / digest), chosen)


def _note_others(work: FinalistWork, chosen: Sequence[Candidate], display: Display) -> None:
    """Says which models a run that goes on keeps, though they were compressed by other options."""
    folders = [work.models / candidate.architecture.digest for candidate in chosen]
    kept = [folder.name[:6] for folder in folders if (folder / NAME).is_file() and not work.made(folder)]
    if kept:
        display.note(f"{', '.join(kept)}: trained before with other options of compress, kept as they are")


def _rounding(folder: Path) -> Mapping[str, Any]:
    """What the manifest of a model folder says of its training with rounding; {} where there was none."""
    if not (folder / NAME).is_file():
        return {}
    quantisations = [entry["quantisation"] or {} for entry in read_manifest(folder)["files"]]
    return next((each["qat"] for each in quantisations if "qat" in each), {})


def largest_of(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the most multiply-accumulates, the first of equals."""
    return max(candidates, key=lambda candidate: candidate.predicted.get("macs", 0.0))


def absolute_teacher(options: CompressOptions) -> CompressOptions:
    """The same options with a teacher's file by its full path: workers have folders of their own."""
    if options.distil_kind != "onnx":
        return options
    return replace(options, distil=str(Path(options.distil).expanduser().resolve()))
