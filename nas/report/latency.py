"""Predicted against measured latency: the calibration's points, and how the predictor did on the exported files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas.report.records import mapping, number, sequence

_POINTS = 600  # drawn at most; further ones are thinned evenly


def latency_panels(
    latency_models: Mapping[str, Any], files: Sequence[Mapping[str, Any]], *, keys: Sequence[str]
) -> list[dict[str, Any]]:
    """One panel a device and precision: the quality stored with its model, its points, and the check on files.

    Args:
        latency_models: device -> precision -> quality and points, as in the manifest.
        files: entries of `nas.report.files.file_entries`.
        keys: the latencies' metric keys.
    """
    return [
        panel
        for key in keys
        for panel in _panels_of_device(mapping(latency_models.get(key.partition(".")[2])), files, key=key)
    ]


def _panels_of_device(
    latency_models: Mapping[str, Any], files: Sequence[Mapping[str, Any]], *, key: str
) -> list[dict[str, Any]]:
    precisions = dict.fromkeys([*latency_models, *(_precision(file) for file in files if key in file["predicted"])])
    panels = []
    for precision in precisions:
        model = mapping(latency_models.get(precision))
        quality = {name: number(value) for name, value in mapping(model.get("quality")).items()}
        points = [point for item in sequence(model.get("points")) if (point := _point(mapping(item))) is not None]
        panels.append(
            {
                "key": key,
                "device": key.partition(".")[2],
                "precision": precision,
                "estimated": model.get("source") == "estimated",
                "file": str(model.get("file", "") or ""),
                "quality": quality,
                "cross_validated": mapping(model.get("quality")).get("cross_validated") is True,
                "points": _thinned(points),
                "num_points": len(points),
                "exported": exported_check([file for file in files if _precision(file) == precision], key=key),
            }
        )
    return panels


def _precision(file: Mapping[str, Any]) -> str:
    """Of a file, as devices see it."""
    return str(file.get("device_precision") or file["precision"])


def exported_check(files: Sequence[Mapping[str, Any]], *, key: str) -> dict[str, Any]:
    """How the predictions of ``key`` fit what was measured on exported files.

    Returns:
        ``num_files`` with both figures, and over those ``mape`` and ``within_10_percent`` (shares, None without
        files), ``num_bounds`` known and how many of these ``bounds_held``.
    """
    pairs = [
        (file["costs"][key], file["predicted"][key], file["upper"].get(key))
        for file in files
        if key in file["costs"] and key in file["predicted"] and file["costs"][key] > 0
    ]
    errors = [abs(predicted - measured) / measured for measured, predicted, _ in pairs]
    bounds = [(measured, upper) for measured, _, upper in pairs if upper is not None]
    return {
        "num_files": len(pairs),
        "mape": sum(errors) / len(errors) if errors else None,
        "within_10_percent": sum(error <= 0.1 for error in errors) / len(errors) if errors else None,
        "num_bounds": len(bounds),
        "bounds_held": sum(measured <= upper for measured, upper in bounds),
    }


def _point(item: Mapping[str, Any]) -> list[float | bool | None] | None:
    measured, predicted = number(item.get("measured_ms")), number(item.get("predicted_ms"))
    if measured is None or predicted is None or measured <= 0 or predicted <= 0:
        return None
    return [measured, predicted, number(item.get("upper_ms")), bool(item.get("held_out"))]


def _thinned(points: list[list[float | bool | None]]) -> list[list[float | bool | None]]:
    if len(points) <= _POINTS:
        return points
    return [points[round(place * (len(points) - 1) / (_POINTS - 1))] for place in range(_POINTS)]
