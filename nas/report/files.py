"""The exported files as the page shows them: ``front.csv`` joined with the manifests of the model folders.

Responsible for what is known of each file and how sure it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nas.report.intervals import wilson
from nas.report.records import Record, mapping, number, sequence, truth

_COSTS = ("macs", "parameters", "size_bytes", "peak_activation_bytes")
_PLAIN = ("digest", "precision", "accuracy", "non_dominated", "accepted", "reason", "path", *_COSTS)
_OF_DEVICE = ("predicted_latency_ms.", "latency_upper_ms.", "latency_ms.")


def choice_columns(columns: Iterable[str]) -> list[str]:
    """The columns of ``front.csv`` that hold choices: all that the contract does not name."""
    return [name for name in columns if name not in _PLAIN and not name.startswith(_OF_DEVICE)]


def file_entries(
    front: Sequence[Mapping[str, str]], models: Mapping[str, Record], *, num_test: int | None
) -> list[dict[str, Any]]:
    """One entry an exported file, in the order of ``front.csv``.

    Args:
        front: its rows.
        models: digest -> manifest of the model folder.
        num_test: test samples of the run, where a file's own manifest does not say.

    Returns:
        Entries with ``costs``, ``predicted`` and ``upper`` by metric key, accuracy with its 95 % Wilson interval,
        flags (None where unknown), the path, the choices and the facts of the file's manifest.
    """
    return [_entry(row, _facts(mapping(models.get(row["digest"])), row), num_test) for row in front]


def _entry(row: Mapping[str, str], facts: Mapping[str, Any], num_test: int | None) -> dict[str, Any]:
    accuracy = number(row.get("accuracy"))
    samples = facts["num_samples"] or num_test
    inside = accuracy is not None and 0 <= accuracy <= 1
    interval = wilson(accuracy or 0.0, samples) if inside and samples else None
    costs = {key: number(row.get(key)) for key in _COSTS}
    costs |= {key: number(value) for key, value in row.items() if key.startswith("latency_ms.")}
    return {
        "digest": row["digest"],
        "precision": row.get("precision", ""),
        "accuracy": accuracy,
        "interval": interval,
        "costs": {key: value for key, value in costs.items() if value is not None},
        "predicted": _by_device(row, "predicted_latency_ms."),
        "upper": _by_device(row, "latency_upper_ms."),
        "non_dominated": truth(row.get("non_dominated")),
        "accepted": truth(row.get("accepted")),
        "reason": row.get("reason", ""),
        "path": row.get("path", ""),
        "choices": {name: row[name] for name in choice_columns(row) if row[name] != ""},
        **facts,
        "num_samples": samples,
    }


def _by_device(row: Mapping[str, str], prefix: str) -> dict[str, float]:
    """Figures of columns ``<prefix><device>``, under the key of the measured latency that they are about."""
    found = {f"latency_ms.{key[len(prefix) :]}": number(row[key]) for key in row if key.startswith(prefix)}
    return {key: value for key, value in found.items() if value is not None}


def _facts(manifest: Mapping[str, Any], row: Mapping[str, str]) -> dict[str, Any]:
    """What the model folder's manifest adds to a row of the front; None or empty for whatever it does not say."""
    entry = _file_entry(manifest, row)
    # Of the run's first device; the others have their figures in the row.
    first: object = next(iter(mapping(entry.get("latencies")).values()), {})
    latency = mapping(mapping(first).get("measured"))
    samples = number(entry.get("num_test_samples"))
    return {
        "num_samples": int(samples) if samples and samples >= 1 else None,
        "spread": number(latency.get("spread")),
        "timing_note": str(latency.get("note") or ""),
        "settled": truth(latency.get("settled")),
        "blocks": number(latency.get("blocks")),
        "runs": number(latency.get("runs")),
        "p90_ms": number(latency.get("p90_ms")),
        "host": {key: str(value) for key, value in mapping(latency.get("host")).items() if value not in (None, "")},
        "agreement": number(entry.get("agreement")),
        "max_abs_error": number(entry.get("max_abs_error")),
        "quality_reason": str(entry.get("quality_reason") or ""),
        "verification": str(entry.get("verification") or ""),
        "sha256": str(entry.get("sha256") or ""),
        "runtime": " ".join(str(entry[key]) for key in ("runtime", "runtime_version") if entry.get(key)),
    }


def _file_entry(manifest: Mapping[str, Any], row: Mapping[str, str]) -> dict[str, Any]:
    """The manifest's entry of the row's file: by file name, else by precision."""
    entries = [mapping(value) for value in sequence(manifest.get("files"))]
    name = row.get("path", "").replace("\\", "/").rpartition("/")[2]
    named = (entry for entry in entries if name and entry.get("path") == name)
    alike = (entry for entry in entries if entry.get("precision") == row.get("precision"))
    return next(named, next(alike, {}))
