"""Many runs: listing them, holding them against each other, joining them, handing them to other tools."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.commands.display import Display
from nas.commands.status import metric_text, status_record, statuses
from nas.errors import UserError
from nas.run.status import RunStatus

_COLUMNS = ("run", "state", "candidates", "best", "hypervolume", "space", "data", "device", "when")


def list_runs(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """All runs of a folder as a table, and as plain JSON, a record each; a broken one is a line that says why.

    Raises:
        UserError: there is no such folder.
    """
    rows: list[Sequence[str]] = []
    broken: list[str] = []
    records: list[dict[str, Any]] = []
    for path, found in statuses(folder):
        if isinstance(found, UserError):
            broken.append(f"{path.name}  broken: {found.problem}")
            records.append({"folder": str(path), "name": path.name, "state": "broken", "text": str(found)})
            continue
        volume = found.hypervolume if math.isfinite(found.hypervolume) else _volume(path)
        rows.append(_row(found, volume))
        records.append({**status_record(found), "hypervolume": round(volume, 6) if math.isfinite(volume) else None})
    if not rows and not broken:
        return f"no runs in {folder}/", []
    lines = [_aligned([_COLUMNS, *rows])] if rows else []
    return "\n".join([*lines, *broken]), records


def compare(folders: Sequence[Path], *, out: Path | None, display: Display) -> None:
    """Shows runs side by side, and writes the page to ``out``; None writes none.

    Raises:
        UserError: see `nas.report.comparison.compare_runs`; the page cannot be written.
    """
    from nas.report.comparison import compare_runs
    from nas.report.comparison_page import comparison_page, comparison_table
    from nas.run.atomic import write_atomically

    comparison = compare_runs(folders)
    for warning in comparison.warnings:
        display.note(warning)
    figures = {
        "hypervolumes": {name: _finite(value) for name, value in comparison.volumes.items()},
        "hypervolumes_of_files": {name: _finite(value) for name, value in comparison.file_volumes.items()},
        "warnings": list(comparison.warnings),
        "page": None if out is None else str(out),
    }
    if out is not None:
        write_atomically(out, comparison_page(comparison))
    display.result(comparison_table(comparison), figures)
    if out is not None:
        display.say("page", str(out))


def merge(folders: Sequence[Path], out: Path, *, display: Display) -> None:
    """Joins runs into a new run folder. Raises `UserError`, see `nas.run.merge.merge_runs`."""
    from nas.run.merge import merge_runs

    merged = merge_runs(folders, out)
    for note in merged.notes:
        display.note(note)
    taken = ", ".join(f"{count} of {name}" for name, count in merged.counts.items())
    display.say("merged", f"{out}  {sum(merged.counts.values())} evaluations: {taken}; {merged.repeated} were repeated")
    display.say("next", f"nas search run.resume={shlex.quote(str(out))} run.candidates=<more>")


def export(folder: Path, storage: str, *, study: str | None, display: Display) -> None:
    """Hands a run to an Optuna storage. Raises `UserError`, see `nas.run.optuna_export.export_to_optuna`."""
    from nas.run.optuna_export import export_to_optuna

    exported = export_to_optuna(
        folder, storage, study=study, progress=lambda done, total: display.progress("export", done, total)
    )
    display.say(
        "export", f"study {exported.study}: {exported.total} trials, {exported.added} of them new, in {storage}"
    )
    display.say("next", f"optuna-dashboard {shlex.quote(storage)}")


def _row(run: RunStatus, volume: float) -> list[str]:
    key = next(iter(run.best), None)
    return [
        run.name,
        run.state,
        f"{run.done}/{run.total or '?'}",
        metric_text(key, run.best[key]) if key is not None else "-",
        f"{volume:.3f}" if math.isfinite(volume) else "-",
        run.space[0] or "-",
        run.data[0] or "-",
        ",".join(run.devices) or "-",
        run.updated[:16].replace("T", " "),
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _volume(folder: Path) -> float:
    """The hypervolume of a run whose driver told none, in the box of its search; NaN where that is not known."""
    from nas.problem.goals import Objective
    from nas.problem.history import read_history
    from nas.problem.metrics import METRICS
    from nas.run.progress import FrontVolume

    by_name = {metric.name: metric for metric in METRICS.values()}
    try:
        manifest: Mapping[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        objectives = [
            Objective(key=str(key), metric=by_name[str(key).partition(".")[0]]) for key in manifest["objectives"]
        ]
        ranges = {key: float(spans["max"]) for key, spans in manifest["forecast"]["ranges"].items()}
        limits = {budget["key"]: float(budget["limit"]) for budget in manifest["budgets"]}
        worst = {one.key: {**ranges, **limits}[one.key] for one in objectives if not one.metric.maximize}
        volume = FrontVolume(objectives, worst)
        for evaluation in read_history(folder / "history.jsonl", repair=False)[0]:
            volume.add(evaluation)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return math.nan
    return volume.value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
