"""What a retraining is doing and what it brought, model by model: in a line, a table, a sentence and a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from nas.commands.display import Display
from nas.commands.retrain_export import Outcome
from nas.commands.retrain_inputs import Retrained
from nas.commands.retrain_trial import Retraining, TrialRecord, changes
from nas.errors import UserError
from nas.report.comparison import compare_runs
from nas.report.comparison_page import comparison_page
from nas.report.intervals import wilson
from nas.run.atomic import write_atomically

_HEAD = ("model", "before", "untuned", "tuned", "gain", "validation", "trials")


def gain_table(models: Sequence[Retrained], outcomes: Sequence[Outcome], *, epochs: int, num_test: int) -> str:
    """A line a model: test accuracies of the run, of the untuned recipe and of the tuned one, and the gain by tuning.

    Accuracies are torch's in float32, but for that of the run, which is its float32 file's.

    Args:
        models: as they were chosen.
        outcomes: of those that came through.
        epochs: of the retraining.
        num_test: images that test accuracies are of.
    """
    by_digest = {model.digest: model for model in models}
    rows = [_HEAD, *(_row(by_digest[outcome.digest], outcome) for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{outcome.digest[:6]}: {changes(outcome.fields)}" for outcome in outcomes]
    earlier = sorted({int(model.chosen.manifest["training"]["epochs"]) for model in models})
    lines.append(
        f"before: {'/'.join(map(str, earlier))} epochs, now {epochs}; accuracies of {num_test} test images, of which "
        f"one is {100 / num_test:.2g} %; trials were chosen on the validation split"
    )
    return "\n".join(lines)


def gain_text(outcome: Outcome, num_test: int) -> str:
    """One sentence on a model, for the report."""
    tuned = f"{_percent(outcome.test)} on the test split ({_percent(outcome.validation)} validation)"
    name = outcome.digest[:6]
    if outcome.untuned_test is None or outcome.untuned_validation is None:
        return f"{name} retrained: {tuned} by {changes(outcome.fields)}; the untuned recipe failed"
    before = f"{_percent(outcome.untuned_test)} ({_percent(outcome.untuned_validation)})"
    if not outcome.trial:
        return f"{name} retrained: {tuned}; no tuned trial of {outcome.trials} was better than the recipe as it was"
    low, high = wilson(outcome.untuned_test, num_test)
    within = "within" if low <= outcome.test <= high else "beyond"
    return (
        f"{name} retrained: {tuned} by {changes(outcome.fields)}; the recipe as it was gives {before} at as many "
        f"epochs, so tuning brought {_points(outcome.test - outcome.untuned_test)} on the test split, {within} its "
        f"95 % interval of {num_test} images"
    )


def progress_text(retraining: Retraining, records: Sequence[TrialRecord], trials: int) -> str:
    """``9c41d2  trial 5 of 8  best 98.9 %  untuned 98.3 % at 30``"""
    scores = [(record.accuracy, record) for record in records if record.scores]
    parts = [retraining.candidate.architecture.digest[:6], f"trials {len(records)} of {trials}"]
    failed = sum(record.status in ("failed", "timeout") for record in records)
    if failed:
        parts.append(f"failed {failed}")
    if scores:
        accuracy, record = max(scores, key=lambda pair: (pair[1].epoch, pair[0]))
        parts.append(f"best of the longest {accuracy:.1%} after {record.epoch} epochs")
    untuned = next((record for record in records if record.place == 0 and record.scores), None)
    if untuned is not None and not math.isnan(untuned.accuracy):
        parts.append(f"untuned {untuned.accuracy:.1%} after {untuned.epoch}")
    return "  ".join(parts)


def write_before_and_after(run: Path, folder: Path, display: Display) -> Path | None:
    """``before_after.html`` in the new folder: both fronts on one plot. None where they cannot be compared."""
    try:
        comparison = compare_runs([run, folder])
    except UserError as error:
        display.note(f"no page of before and after: {error}")
        return None
    page = folder / "before_after.html"
    write_atomically(page, comparison_page(comparison))
    return page


def _row(model: Retrained, outcome: Outcome) -> tuple[str, ...]:
    known = outcome.untuned_test is not None and outcome.untuned_validation is not None
    gain, validation = "-", _percent(outcome.validation)
    if known and outcome.untuned_test is not None and outcome.untuned_validation is not None:
        gain = _points(outcome.test - outcome.untuned_test)
        validation = f"{validation} ({_points(outcome.validation - outcome.untuned_validation)})"
    return (
        outcome.digest[:6],
        _percent(model.before),
        _percent(outcome.untuned_test),
        _percent(outcome.test),
        gain,
        validation,
        f"{outcome.trials}, {outcome.complete} to the end" + (f", {outcome.failed} failed" if outcome.failed else ""),
    )


def _percent(share: float | None) -> str:
    return "-" if share is None or math.isnan(share) else f"{share * 100:.1f} %"


def _points(difference: float) -> str:
    return f"{difference * 100:+.1f}"
