"""Everything the page shows, as one JSON object of bounded size.

Responsible for what is on the page; how it looks is up to the scripts in ``assets``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nas.report.audit import audit_part
from nas.report.devices import broken, compared, devices_of, serving
from nas.report.evaluations import (
    Evaluations,
    best_so_far,
    choice_shares,
    failed_places,
    failures,
    hypervolume_so_far,
    reference_box,
    sample_places,
)
from nas.report.files import file_entries
from nas.report.latency import latency_panels
from nas.report.quantities import latency_keys, quantities
from nas.report.records import Record, RunRecords, first_device, mapping, number, sequence, truth

PAYLOAD_FORMAT = 1
_MIN_REFERENCE = 20  # random evaluations from which on they serve as the reference distribution of choices
_COSTS = ("size_bytes", "peak_activation_bytes", "macs", "parameters")
_SPACE_TEXTS = ("name", "digest", "size", "source")
_TEXTS = ("created", "finished", "command", "commit")


def build_payload(records: RunRecords) -> dict[str, Any]:
    """The page's content from the run's records; plain JSON, floats rounded to 7 significant digits."""
    manifest = records.manifest
    num_test = number(mapping(manifest.get("data")).get("num_test"))
    files = file_entries(records.front, records.models, num_test=int(num_test) if num_test and num_test >= 1 else None)
    devices = devices_of(manifest, records.front)
    latencies = _latencies(records, files, devices)
    objectives = _objectives(manifest, latencies)
    search = Evaluations(records=records.history, objectives=objectives)
    baseline = Evaluations(records=records.baseline, objectives=objectives)
    axes = [*latencies, *(key for key in _further_costs(files) if _known(key, files, search))]
    budgets = _budgets(manifest)
    files = _judged(files, devices, budgets)
    asked = [*objectives, *(budget["key"] for budget in budgets)]
    keys = dict.fromkeys(["accuracy", *latencies, *_COSTS, *_further_costs(files), *asked])
    payload = {
        "format": PAYLOAD_FORMAT,
        "name": records.folder.resolve().name,
        **{name: str(manifest.get(name) or "") for name in _TEXTS},
        "quantities": quantities(keys),
        "axes": axes,
        "latency": latencies[0] if latencies else None,
        "objectives": list(objectives),
        "budgets": budgets,
        "num_test": num_test,
        "devices": devices,
        "files": files,
        "serving": serving(devices, files, budgets),
        "search": _search_part(search, baseline, axes, manifest),
        "workers": dataclasses.asdict(records.workers),
        "audit": audit_part(
            records,
            search=search,
            baseline=baseline,
            box=reference_box([search, baseline], _limits(manifest)),
            files=files,
            latencies=latencies,
            budgets=budgets,
        ),
        "latency_panels": latency_panels(mapping(manifest.get("latency_models")), files, keys=latencies),
        "forecast": _forecast(manifest),
        "about": _about(manifest),
        "notes": [*map(str, sequence(manifest.get("notes"))), *_not_exported(records), *records.notes],
    }
    result = _plain(payload)
    assert isinstance(result, dict)
    return result


def _not_exported(records: RunRecords) -> list[str]:
    """A line for each file that a model folder should hold and does not, with the reason."""
    return [
        f"{digest[:6]} has no {precision} file: {reason}"
        for digest, manifest in records.models.items()
        for precision, reason in mapping(manifest.get("failed")).items()
    ]


def _judged(
    files: list[dict[str, Any]], devices: list[dict[str, Any]], budgets: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The files with what they are compared by, the budgets that they break, and whether they are refused otherwise."""
    unreached = [device["name"] for device in devices if not device["measurable"]]
    result = []
    for file in files:
        entry = {**file, **compared(file, unreached)}
        entry["broken"] = broken(entry, budgets)
        entry["refused"] = bool(file["quality_reason"]) or (file["accepted"] is False and not entry["broken"])
        result.append(entry)
    return result


def _further_costs(files: list[dict[str, Any]]) -> list[str]:
    """Costs beside latencies: of files, then of devices (energy, RAM)."""
    keys = [key for file in files for part in ("costs", "predicted") for key in file[part] if "." in key]
    return [*_COSTS, *dict.fromkeys(key for key in keys if not key.startswith("latency_ms."))]


def _latencies(records: RunRecords, files: list[dict[str, Any]], devices: list[dict[str, Any]]) -> list[str]:
    """Latency keys that anything knows of, that of the run's device first."""
    keys = [key for file in files for key in (*file["costs"], *file["predicted"])]
    keys += [str(key) for key in sequence(records.manifest.get("objectives"))]
    for record in records.history[:50]:
        keys += [*mapping(record.get("predicted")), *mapping(record.get("metrics"))]
    known = set(keys)
    ordered = [device["key"] for device in devices if device["key"] in known]
    return latency_keys([*ordered, *keys], first=first_device(records.manifest))


def _objectives(manifest: Record, latencies: list[str]) -> tuple[str, ...]:
    named = tuple(str(key) for key in sequence(manifest.get("objectives")))
    return named or ("accuracy", *latencies[:1])


def _known(key: str, files: list[dict[str, Any]], search: Evaluations) -> bool:
    return any(key in file["costs"] or key in file["predicted"] for file in files) or bool(
        np.isfinite(search.values(key)).any()
    )


def _budgets(manifest: Record) -> list[dict[str, Any]]:
    budgets = []
    for item in map(mapping, sequence(manifest.get("budgets"))):
        limit, key = number(item.get("limit")), str(item.get("key", ""))
        if limit is not None and key:
            text = str(item.get("text") or f"{key} limit {limit:g}")
            budgets.append({"key": key, "limit": limit, "confidence": number(item.get("confidence")), "text": text})
    return budgets


def _search_part(search: Evaluations, baseline: Evaluations, axes: list[str], manifest: Record) -> dict[str, Any]:
    choices = [mapping(choice) for choice in sequence(mapping(manifest.get("space")).get("choices"))]
    box = reference_box([search, baseline], _limits(manifest))
    from_baseline = len(baseline) >= _MIN_REFERENCE
    return {
        "count": len(search),
        "complete": int(search.complete.sum()),
        "front": int(search.on_front.sum()),
        "failures": failures(search),
        "failed_places": failed_places(search),
        "sample": _sample(search, axes, choices),
        "curves": _curves(search, box),
        "baseline": {**_curves(baseline, box), "count": len(baseline)} if len(baseline) else None,
        "shares": choice_shares(search, baseline if from_baseline else search, choices),
        "shares_reference": len(baseline) if from_baseline else len(search),
        "shares_from_baseline": from_baseline,
        "box": dict(zip(search.objectives, np.abs(box[1]).tolist(), strict=True)) if box is not None else None,
        "seconds": _seconds(search),
        "fidelities": _fidelities(search),
    }


def _limits(manifest: Record) -> dict[str, float]:
    """The value of each metric beyond which nothing counts: its budget, else the largest in the space."""
    ranges = mapping(mapping(manifest.get("forecast")).get("ranges"))
    largest = {key: number(mapping(spans).get("max")) for key, spans in ranges.items()}
    limits = {key: value for key, value in largest.items() if value is not None}
    return limits | {budget["key"]: budget["limit"] for budget in _budgets(manifest)}


def _curves(evaluations: Evaluations, box: Any) -> dict[str, Any]:
    volume = hypervolume_so_far(evaluations, box) if box is not None and len(evaluations) else None
    return {"best": best_so_far(evaluations, "accuracy"), "hypervolume": volume}


def _sample(search: Evaluations, axes: list[str], choices: list[dict[str, Any]]) -> dict[str, Any]:
    """Evaluations to be drawn one by one, as columns; options of choices as numbers into ``labels``."""
    places = sample_places(search).tolist()
    records = [search.records[place] for place in places]
    names = [str(choice.get("name")) for choice in choices]
    labels: list[dict[str, int]] = [{} for _ in names]
    codes = []
    for record in records:
        chosen = mapping(record.get("choices"))
        codes.append(
            [
                known.setdefault(str(chosen[name]), len(known)) if name in chosen else -1
                for name, known in zip(names, labels, strict=True)
            ]
        )
    return {
        "place": [place + 1 for place in places],
        "index": [record.get("index") for record in records],
        "digest": [str(record.get("digest", "")) for record in records],
        "front": [int(flag) for flag in search.on_front[places]],
        "seconds": [number(record.get("seconds")) for record in records],
        "accuracy": search.values("accuracy")[places].tolist(),
        "costs": {key: search.values(key)[places].tolist() for key in axes},
        "choices": codes,
        "choice_names": names,
        "choice_labels": [list(known) for known in labels],
    }


def _seconds(search: Evaluations) -> dict[str, float | None]:
    """Worker time of the evaluations: total, median and longest, in seconds."""
    spent = sorted(value for record in search.records if (value := number(record.get("seconds"))) is not None)
    if not spent:
        return {"total": None, "median": None, "longest": None}
    return {"total": sum(spent), "median": spent[len(spent) // 2], "longest": spent[-1]}


def _fidelities(search: Evaluations) -> list[dict[str, Any]]:
    counts: dict[tuple[tuple[str, str], ...], int] = {}
    for record in search.records:
        fidelity = tuple(sorted((key, str(value)) for key, value in mapping(record.get("fidelity")).items()))
        counts[fidelity] = counts.get(fidelity, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [{"fidelity": dict(fidelity), "count": count} for fidelity, count in ordered[:12] if fidelity]


def _forecast(manifest: Record) -> dict[str, Any]:
    forecast, screened = mapping(manifest.get("forecast")), mapping(manifest.get("screened"))
    ranges = [
        {
            **quantities([str(key)])[str(key)],
            **{name: number(mapping(value).get(name)) for name in ("min", "median", "max")},
        }
        for key, value in mapping(forecast.get("ranges")).items()
    ]
    return {
        **{name: number(forecast.get(name)) for name in ("num_samples", "share", "share_low", "share_high", "seconds")},
        "budgets": {text: number(share) for text, share in mapping(forecast.get("budgets")).items()},
        "ranges": ranges,
        "exhaustive": truth(forecast.get("exhaustive")),
        "proposed": number(screened.get("proposed")),
        "broken": {text: number(count) for text, count in mapping(screened.get("broken")).items()},
    }


def _about(manifest: Record) -> dict[str, Any]:
    space = mapping(manifest.get("space"))
    return {
        "config": manifest.get("config", {}),
        "overrides": [str(item) for item in sequence(manifest.get("overrides"))],
        "seed": manifest.get("seed"),
        "versions": mapping(manifest.get("versions")),
        "host": mapping(manifest.get("host")),
        "devices": [mapping(device) for device in sequence(manifest.get("devices"))],
        "data": mapping(manifest.get("data")),
        "timings": {name: number(value) for name, value in mapping(manifest.get("timings")).items()},
        "space": {
            **{name: "" if space.get(name) is None else str(space[name]) for name in _SPACE_TEXTS},
            "num_choices": len(sequence(space.get("choices"))),
        },
    }


def _plain(value: object) -> object:
    """``value`` as JSON takes it: NaN and infinity become None, floats are rounded, keys become text."""
    if isinstance(value, bool) or value is None or isinstance(value, int | str):
        return value
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)
