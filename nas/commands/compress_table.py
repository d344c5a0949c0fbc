"""What each step of a compression bought: a table, a line a step, and the front.

Responsible for setting figures beside those of the network as it was given; measuring them is done elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.commands.compress_bench import Variant
from nas.commands.compress_folder import WrittenFile
from nas.problem.goals import Budget, objectives_from
from nas.problem.metrics import METRICS
from nas.run.front import DeviceCost, FrontFile, broken_budgets, front_table
from nas.space.architecture import Architecture
from nas.units import format_quantity

_HEADS = ("", "model", "file", "accuracy", "agrees", "size", "smaller", "latency", "faster", "macs")
_LEFT = 3  # columns before the figures
_GAP = "  "
_TOLD = ("float32", "int8", "mixed")  # files that a step's line is about
Latencies = Mapping[Path, float]
"""File -> measured ms; files that were not measured are left out."""


def front_files(
    files: Sequence[WrittenFile], latencies: Latencies, *, device: str, place: Path
) -> tuple[FrontFile, ...]:
    """The files that have a line of their own, as a search's front has them, in the same order."""
    key = METRICS["latency"].key(device)
    return tuple(
        FrontFile(
            architecture=Architecture(
                row=(), choices={"step": file.variant, "file": file.label}, digest=file.path.parent.name
            ),
            precision=file.precision,
            accuracy=file.accuracy,
            on_device={key: DeviceCost(measured=latencies.get(file.path, math.nan))},
            macs=file.macs,
            parameters=file.parameters,
            size_bytes=file.size_bytes,
            peak_activation_bytes=file.peak_activation_bytes,
            path=str(file.path.relative_to(place)),
            accepted=not file.reason,
            reason=file.reason,
        )
        for file in files
        if file.shown
    )


def front_records(
    files: Sequence[WrittenFile], fronts: Sequence[FrontFile], budgets: Sequence[Budget], *, device: str
) -> tuple[Any, list[dict[str, Any]]]:
    """The table of ``front.csv``, and a record a file in the order of the steps, with what it breaks."""
    objectives = objectives_from(["accuracy", "latency", "size"], device=device)
    key = METRICS["latency"].key(device)
    table = front_table(fronts, keys=[key], choices=["step", "file"], objectives=objectives, budgets=budgets)
    best = {str(row["path"]) for _, row in table.iterrows() if row["non_dominated"]}
    records = []
    for file, front in zip((file for file in files if file.shown), fronts, strict=True):
        latency = front.latency_ms
        records.append(
            {
                "model": file.variant,
                "file": file.label,
                "path": front.path,
                "accuracy": file.accuracy,
                "agreement": file.agreement,
                "size_bytes": file.size_bytes,
                "packed_bytes": file.packed_bytes,
                "latency_ms": None if math.isnan(latency) else latency,
                "peak_activation_bytes": file.peak_activation_bytes,
                "macs": file.macs,
                "parameters": file.parameters,
                "quality": file.reason,
                "budgets": broken_budgets(front, budgets),
                "non_dominated": front.path in best,
                "text": file.text,
            }
        )
    return table, records


def compressed_table(records: Sequence[Mapping[str, Any]]) -> str:
    """A line a file; factors are against the first record: the float32 file of the original."""
    first = records[0]
    rows = [_HEADS]
    before = ""
    for record in records:
        faulty = record["quality"] or record["budgets"]
        rows.append(
            (
                "*" if record["non_dominated"] else "!" if faulty else "",
                record["model"] if record["model"] != before else "",
                record["file"],
                f"{record['accuracy']:.1%}",
                f"{record['agreement']:.1%}",
                format_quantity(record["size_bytes"], "bytes"),
                _factor(first["size_bytes"], record["size_bytes"]),
                "-" if record["latency_ms"] is None else format_quantity(record["latency_ms"], "time"),
                _factor(first["latency_ms"], record["latency_ms"]),
                format_quantity(record["macs"], "count"),
            )
        )
        before = record["model"]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = [_line(row, widths) for row in rows]
    lines.append("* non-dominated in accuracy, latency and size, ! must not be shipped or breaks a budget")
    for record in records:
        reasons = "; ".join(text for text in (record["quality"], record["budgets"]) if text)
        if reasons:
            lines.append(f"! {record['model']} {record['file']}: {reasons}")
    return "\n".join(lines)


def step_lines(variants: Sequence[Variant], records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a step: what was done, and what the file bought against the same file of the form that it was made of."""
    by_name = {(record["model"], record["file"]): record for record in records}
    lines = []
    for variant in variants:
        if not variant.parent:
            continue
        for label in (label for label in variant.shown if label in _TOLD):
            own = by_name.get((variant.name, label))
            rival = by_name.get((variant.parent, label)) or by_name.get((variant.parent, "float32"))
            if own is None or rival is None:
                continue
            against = f"{rival['model']} {rival['file']}"
            text = f"{variant.name} {label} against {against}: {_bought(own, rival)}"
            lines.append(text + (f" ({own['text']})" if own["text"] else ""))
    return lines


def _bought(own: Mapping[str, Any], rival: Mapping[str, Any]) -> str:
    parts = [f"{100 * (own['accuracy'] - rival['accuracy']):+.1f} points"]
    if own["macs"] != rival["macs"]:
        parts.append(f"{_percent(own['macs'], rival['macs'])} of the MACs")
    parts.append(f"{_percent(own['size_bytes'], rival['size_bytes'])} of the file")
    if abs(own["packed_bytes"] / rival["packed_bytes"] - own["size_bytes"] / rival["size_bytes"]) > 0.1:
        parts.append(f"{_percent(own['packed_bytes'], rival['packed_bytes'])} packed")
    if own["latency_ms"] is not None and rival["latency_ms"] is not None:
        parts.append(f"{_percent(own['latency_ms'], rival['latency_ms'])} of the time")
    return ", ".join(parts)


def _percent(value: float, of: float) -> str:
    return f"{100 * value / of:.0f} %" if of else "-"


def _factor(before: float | None, after: float | None) -> str:
    return f"{before / after:.1f}x" if before and after else "-"


def _line(row: tuple[str, ...], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if place >= _LEFT else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return (" " + _GAP.join(cells)).rstrip()
