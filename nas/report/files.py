"""The exported files as the page shows them: ``front.csv`` joined with the manifests of the model folders.

Responsible for what is known of each file and how sure it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nas.device.card import precision_on_device
from nas.report.intervals import wilson
from nas.report.quantities import device_column
from nas.report.records import Record, mapping, number, sequence, truth

_COSTS = ("macs", "parameters", "size_bytes", "peak_activation_bytes")
_MOST_OPERATORS = 64
_PLAIN = ("digest", "precision", "accuracy", "non_dominated", "accepted", "reason", "path", *_COSTS)


def choice_columns(columns: Iterable[str]) -> list[str]:
    """The columns of ``front.csv`` that hold choices: all that the contract does not name."""
    return [name for name in columns if name not in _PLAIN and device_column(name) is None]


def file_entries(
    front: Sequence[Mapping[str, str]], models: Mapping[str, Record], *, num_test: int | None
) -> list[dict[str, Any]]:
    """One entry an exported file, in the order of ``front.csv``.

    Args:
        front: its rows.
        models: digest -> manifest of the model folder.
        num_test: test samples of the run, where a file's own manifest does not say.

    Returns:
        Entries with ``costs`` (counted or measured), ``predicted`` and ``upper`` by metric key, accuracy with its 95 %
        Wilson interval, flags (None where unknown), the path, the choices, the facts of the file's manifest, and by
        device what is known of its ``timings`` there.
    """
    return [_entry(row, _facts(mapping(models.get(row["digest"])), row), num_test) for row in front]


def _entry(row: Mapping[str, str], facts: Mapping[str, Any], num_test: int | None) -> dict[str, Any]:
    accuracy = number(row.get("accuracy"))
    samples = facts["num_samples"] or num_test
    inside = accuracy is not None and 0 <= accuracy <= 1
    interval = wilson(accuracy or 0.0, samples) if inside and samples else None
    costs = {key: number(row.get(key)) for key in _COSTS}
    return {
        "digest": row["digest"],
        "precision": row.get("precision", ""),
        "accuracy": accuracy,
        "interval": interval,
        "costs": {key: value for key, value in costs.items() if value is not None} | _of_devices(row, "measured"),
        "predicted": _of_devices(row, "predicted"),
        "upper": _of_devices(row, "upper"),
        "non_dominated": truth(row.get("non_dominated")),
        "accepted": truth(row.get("accepted")),
        "reason": row.get("reason", ""),
        "path": row.get("path", ""),
        "choices": {name: row[name] for name in choice_columns(row) if row[name] != ""},
        **facts,
        "num_samples": samples,
    }


def _of_devices(row: Mapping[str, str], part: str) -> dict[str, float]:
    """Metric key -> figure, of the columns that hold this part (measured, predicted, upper) of a device's figures."""
    found = {}
    for column, text in row.items():
        said = device_column(column)
        value = number(text)
        if said is not None and said[0] == part and value is not None:
            found[said[1]] = value
    return found


def _facts(manifest: Mapping[str, Any], row: Mapping[str, str]) -> dict[str, Any]:
    """What the model folder's manifest adds to a row of the front; None or empty for whatever it does not say."""
    entry = _file_entry(manifest, row)
    samples = number(entry.get("num_test_samples"))
    quantisation = mapping(entry.get("quantisation"))
    return {
        "num_samples": int(samples) if samples and samples >= 1 else None,
        "device_precision": precision_on_device(str(row.get("precision", "")), quantisation.get("activations")),
        "timings": {name: _timing(mapping(value)) for name, value in mapping(entry.get("latencies")).items()},
        "agreement": number(entry.get("agreement")),
        "max_abs_error": number(entry.get("max_abs_error")),
        "quality_reason": str(entry.get("quality_reason") or ""),
        "verification": str(entry.get("verification") or ""),
        "sha256": str(entry.get("sha256") or ""),
        "runtime": " ".join(str(entry[key]) for key in ("runtime", "runtime_version") if entry.get(key)),
        "sensitivities": [
            _sensitivity(mapping(value)) for value in sequence(quantisation.get("sensitivities"))[:_MOST_OPERATORS]
        ],
        "reverted": [str(name) for name in sequence(quantisation.get("reverted"))[:_MOST_OPERATORS]],
    }


def _sensitivity(record: Mapping[str, Any]) -> dict[str, Any]:
    """How an operator takes its precision, the text and the figures that a plot needs; None where there is no noise."""
    return {
        "operator": str(record.get("operator") or ""),
        "op_type": str(record.get("op_type") or ""),
        "precision": str(record.get("precision") or ""),
        "num_weights": number(record.get("num_weights")),
        "sqnr_db": number(record.get("sqnr_db")),
    }


def _timing(latency: Mapping[str, Any]) -> dict[str, Any]:
    """How a file was timed on a device, and where its prediction there comes from."""
    measured = mapping(latency.get("measured"))
    return {
        "measured": bool(measured),
        "source": str(latency.get("source") or ""),
        "spread": number(measured.get("spread")),
        "note": str(measured.get("note") or ""),
        "settled": truth(measured.get("settled")),
        "blocks": number(measured.get("blocks")),
        "runs": number(measured.get("runs")),
        "p90_ms": number(measured.get("p90_ms")),
        "host": {key: str(value) for key, value in mapping(measured.get("host")).items() if value not in (None, "")},
    }


def _file_entry(manifest: Mapping[str, Any], row: Mapping[str, str]) -> dict[str, Any]:
    """The manifest's entry of the row's file: by file name, else by precision."""
    entries = [mapping(value) for value in sequence(manifest.get("files"))]
    name = row.get("path", "").replace("\\", "/").rpartition("/")[2]
    named = (entry for entry in entries if name and entry.get("path") == name)
    alike = (entry for entry in entries if entry.get("precision") == row.get("precision"))
    return next(named, next(alike, {}))
