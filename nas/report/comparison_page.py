"""The page of a comparison, and its table: self-contained, offline, of bounded size.

Responsible for how figures of several runs are shown; which may be compared is up to `nas.report.comparison`.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas.report.comparison import ComparedRun, Comparison, named
from nas.report.evaluations import Evaluations, hypervolume_so_far, sample_places
from nas.report.page import fill_page, json_for_script
from nas.report.quantities import quantities, quantity
from nas.report.records import mapping, number, sequence
from nas.units import format_quantity

PAYLOAD_FORMAT = 1
SCRIPTS = ("format.js", "dom.js", "chart.js", "comparison.js")
STYLES = ("page.css", "blocks.css", "plots.css", "tables.css", "comparison.css", "print.css")
_SAMPLE = 300  # candidates of a run that are drawn beside its front


def comparison_table(comparison: Comparison) -> str:
    """A line a run, for a terminal: candidates, failures, the best of each objective, hypervolumes."""
    head = ["run", "candidates", "failed", *(f"best {quantity(key).short}" for key in comparison.objectives)]
    head += ["hypervolume", "exported", "as measured"]
    rows = [head]
    for run in comparison.runs:
        failed = sum(record.get("status") not in ("complete", "stopped") for record in run.search.records)
        rows.append(
            [
                run.name,
                str(len(run.search)),
                str(failed),
                *(_best(run.search, key) for key in comparison.objectives),
                _share(comparison.volumes[run.name]),
                str(len(run.files)),
                _share(comparison.file_volumes[run.name]),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def comparison_page(comparison: Comparison) -> str:
    """The page as text: self-contained, offline, shown without scripts as a table."""
    names = ", ".join(run.name for run in comparison.runs)
    fields = {
        "title": html.escape(f"{names} · nas runs compare"),
        "generator": '<meta name="generator" content="nas runs compare">',
        "table": html.escape(comparison_table(comparison)),
        "payload": json_for_script(comparison_payload(comparison)),
    }
    return fill_page("comparison.html", scripts=SCRIPTS, styles=STYLES, fields=fields)


def comparison_payload(comparison: Comparison) -> dict[str, Any]:
    """What the page shows, as plain JSON of bounded size."""
    keys = (*comparison.objectives, *comparison.axes)
    return {
        "format": PAYLOAD_FORMAT,
        "quantities": quantities(keys),
        "objectives": list(comparison.objectives),
        "axes": [key for key in keys if key != comparison.objectives[0]],
        "warnings": list(comparison.warnings),
        "notes": [f"{run.name}: {note}" for run in comparison.runs for note in run.records.notes],
        "runs": [_run(run, comparison, keys) for run in comparison.runs],
    }


def _run(run: ComparedRun, comparison: Comparison, keys: Sequence[str]) -> dict[str, Any]:
    manifest = run.records.manifest
    statuses = [str(record.get("status")) for record in run.search.records]
    strategy = mapping(mapping(manifest.get("config")).get("strategy")).get("_target_", "")
    growth: dict[str, list[float]] = {"position": [], "value": []}
    if comparison.box is not None and len(run.search):
        growth = hypervolume_so_far(run.search, comparison.box)
    return {
        "name": run.name,
        "space": named(manifest, "space"),
        "data": named(manifest, "data"),
        "devices": [str(mapping(one).get("name", "")) for one in sequence(manifest.get("devices"))],
        "strategy": str(strategy).rpartition(".")[2],
        "seed": number(manifest.get("seed")),
        "created": str(manifest.get("created") or ""),
        "finished": str(manifest.get("finished") or ""),
        "count": len(statuses),
        "failed": sum(status not in ("complete", "stopped") for status in statuses),
        "stopped": statuses.count("stopped"),
        "seconds": float(sum(number(record.get("seconds")) or 0.0 for record in run.search.records)),
        "hypervolume": _plain(comparison.volumes[run.name]),
        "file_hypervolume": _plain(comparison.file_volumes[run.name]),
        "best": {key: _plain(_best_value(run.search, key)) for key in comparison.objectives},
        "candidates": _points(run.search, keys),
        "files": _points(run.files, keys),
        "growth": growth,
    }


def _points(evaluations: Evaluations, keys: Sequence[str]) -> dict[str, Any]:
    places = sample_places(evaluations, limit=_SAMPLE).tolist()
    return {
        "label": [_label(evaluations.records[place]) for place in places],
        "front": [bool(evaluations.on_front[place]) for place in places],
        "figures": {key: [_plain(evaluations.values(key)[place]) for place in places] for key in keys},
    }


def _label(record: Mapping[str, Any]) -> str:
    text = str(record.get("digest", ""))[:6]
    precision = record.get("precision")
    epochs = mapping(record.get("fidelity")).get("epochs")
    return f"{text} {precision}" if precision else f"{text}, {epochs} epochs" if epochs else text


def _best_value(history: Evaluations, key: str) -> float:
    values = history.values(key)
    known = values[np.isfinite(values)]
    return float(known.max() if quantity(key).maximize else known.min()) if len(known) else float("nan")


def _best(history: Evaluations, key: str) -> str:
    value, kind = _best_value(history, key), quantity(key)
    return format_quantity(100 * value if kind.dimension == "share" else value, kind.dimension)


def _share(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "-"


def _plain(value: float) -> float | None:
    return float(f"{value:.7g}") if np.isfinite(value) else None
