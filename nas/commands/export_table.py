"""The files of a bundle as a plain-text table, and as plain records for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.deploy.bundle.pages import judged_in
from nas.units import format_quantity

_HEADS = ("model", "target", "precision", "level", "accuracy", "agrees", "error", "size", "activations")
_RIGHT = 4  # columns from here on are figures
_GAP = "  "
_NOTHING_RAN = ("structure-only", "script-only")


def exported_table(manifest: Mapping[str, Any]) -> str:
    """A line a file: how far it was checked, accuracy, share of torch's classes, largest error of a logit, sizes."""
    rows = [_HEADS]
    for record in exported_records(manifest):
        error, peak = record["relative_error"], record["peak_bytes"]
        rows.append(
            (
                record["model"][:6],
                record["target"],
                record["precision"] + ("" if record["accepted"] else "!"),
                record["level"],
                _percent(record["accuracy"]),
                _percent(record["agreement"]),
                "-" if error is None else f"{error:.1g}",
                format_quantity(record["bytes"], "bytes"),
                format_quantity(peak, "bytes") if isinstance(peak, int | float) else "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = [_line(row, widths) for row in rows]
    others = dict.fromkeys((record["level"], record["judged_in"]) for record in exported_records(manifest))
    lines += [
        f" {level}: nothing of the target ran; accuracy and agreement are those of {found}"
        for level, found in others
        if level in _NOTHING_RAN and found
    ]
    if any(not record["accepted"] for record in exported_records(manifest)):
        lines.append(" ! must not be shipped; the manifest says why")
    return "\n".join(lines)


def exported_records(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A record a file with its path and what was found of it."""
    names = ("target", "precision", "path", "level", "bytes", "accepted", "reason")
    judged = ("accuracy", "agreement", "relative_error", "num_samples")
    return [
        {
            "model": model["digest"],
            **{name: entry[name] for name in names},
            **{name: (entry["judgement"] or {}).get(name) for name in judged},
            "judged_in": judged_in(entry),
            "peak_bytes": entry["figures"].get("peak_bytes"),
        }
        for model in manifest["models"]
        for entry in model["files"]
    ]


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [
        cell.rjust(width) if place >= _RIGHT else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return (" " + _GAP.join(cells)).rstrip()


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
