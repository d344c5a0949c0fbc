"""A run folder of invented data: no figure in it was measured anywhere.

It follows the contract of a run folder, is deterministic in its seed, and holds the strings that break careless pages:
markup in names, errors that end scripts, other alphabets, missing figures.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

DEVICE = "this-machine"
KEY = f"latency_ms.{DEVICE}"
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
CLASSES = ["zero", "Größe 2", "数字三", HOSTILE, "a\u2028b", '"quoted" & <b>bold</b>', "six", "seven", "eight", "nine"]
CHOICES: list[dict[str, Any]] = [
    {"name": "resolution", "labels": ["1.0", "1.5", "2.0"], "ordered": True},
    {"name": "stem.width", "labels": ["8", "12", "16", "24"], "ordered": True},
    {"name": "stage1.kernel", "labels": ["3", "5"], "ordered": True},
    {"name": "stage1.expansion", "labels": ["1", "2", "4", "6"], "ordered": True},
    {"name": "stage1.depth", "labels": ["1", "2", "3"], "ordered": True},
    {"name": "stage1.squeeze_excite", "labels": ["no", "yes"], "ordered": False},
    {"name": "stage2.kernel", "labels": ["3", "5"], "ordered": True},
    {"name": "stage2.expansion", "labels": ["1", "2", "4", "6"], "ordered": True},
    {"name": "stage2.depth", "labels": ["0", "1", "2"], "ordered": True},
    {"name": "activation <b>", "labels": ["relu", "hardswish", HOSTILE, "活性化 silu"], "ordered": False},
]
ERRORS = [
    ("failed", "RuntimeError: loss became NaN after 37 steps of epoch 2"),
    ("failed", "RuntimeError: loss became NaN after 112 steps of epoch 1"),
    ("timeout", "took longer than 60 s"),
    ("failed", f"mine.layers: {HOSTILE}"),
    ("infeasible", "network[3]: kernel 5 does not fit an input of 4x4 ünïcode"),
]


def write_run_folder(folder: Path, *, num_evaluations: int = 64, baseline: bool = True, seed: int = 0) -> Path:
    """Writes the invented run into ``folder`` and gives it back."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    history = [_evaluation(index, num_evaluations, rng) for index in range(num_evaluations)]
    _write_lines(folder / "history.jsonl", history)
    if baseline:
        _write_lines(folder / "baseline.jsonl", [_evaluation(index, 0, rng) for index in range(num_evaluations)])
    rows = _front_rows(history, rng)
    with (folder / "front.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        _write_model(folder, row, rng)
    manifest = _manifest(num_evaluations, rng)
    (folder / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
    return folder


def _write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def _evaluation(index: int, total: int, rng: np.random.Generator) -> dict[str, Any]:
    """One evaluation; with ``total`` > 0 later ones are drawn from better options, as a search would."""
    progress = index / total if total else 0.0
    row = []
    for choice in CHOICES:
        size = len(choice["labels"])
        weights = np.ones(size) + 4 * progress * (np.arange(size) == (size - 1) // 2)
        row.append(int(rng.choice(size, p=weights / weights.sum())))
    if row[8] == 0:
        row[6] = row[7] = -1
    choices = {c["name"]: c["labels"][o] for c, o in zip(CHOICES, row, strict=True) if o >= 0}
    work = (1 + row[0]) * (1 + row[1]) * (1 + max(0, row[3]) * (1 + row[4])) * (1 + max(row[7], 0) * row[8] / 2)
    predicted = 0.045 + 0.0042 * work**0.9 * (1 + 0.3 * row[5])
    accuracy = 0.985 - 0.22 / (1 + 0.5 * work**0.7) + 0.012 * progress + rng.normal(0, 0.009)
    digest = hashlib.sha256(str(row).encode()).hexdigest()[:16]
    record = {
        "index": index,
        "digest": digest,
        "choices": choices,
        "row": row,
        "fidelity": {"epochs": 6, "resolution": 1.0, "data_share": 1.0},
        "seed": int(rng.integers(2**31)),
        "predicted": {KEY: predicted, "macs": 4e4 * work, "parameters": 900.0 * work + 2000},
        "upper": {KEY: predicted * 1.09},
        "status": "complete",
        "metrics": {"accuracy": min(0.999, max(0.1, accuracy)), "macs": 4e4 * work, "loss": 0.3},
        "seconds": float(3 + 0.02 * work + rng.random()),
        "error": "",
        "worker": "host/1234",
        "finished": "2026-01-01T00:00:00+00:00",
    }
    if rng.random() < 0.08:
        status, error = ERRORS[int(rng.integers(len(ERRORS)))]
        record |= {"status": status, "error": error, "metrics": {}}
    return record


def _front_rows(history: list[dict[str, Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
    complete = [record for record in history if record["status"] == "complete"]
    chosen: dict[str, dict[str, Any]] = {}
    for low, high in [(0, 0.08), (0.08, 0.12), (0.12, 0.18), (0.18, 0.25), (0.25, 0.33), (0.33, 0.5), (0.5, 0.8)]:
        inside = [record for record in complete if low <= record["predicted"][KEY] < high]
        if inside:
            best = max(inside, key=lambda record: record["metrics"]["accuracy"])
            chosen[best["digest"]] = best
    chosen = chosen or {complete[0]["digest"]: complete[0]}
    rows = []
    for digest, record in chosen.items():
        rows += [_front_row(digest, record, precision, rng) for precision in ("float32", "int8")]
    for row in rows:
        row["non_dominated"] = not any(
            other["accuracy"] >= row["accuracy"] and other[KEY] <= row[KEY] and other is not row for other in rows
        )
    return rows


def _front_row(digest: str, record: dict[str, Any], precision: str, rng: np.random.Generator) -> dict[str, Any]:
    small = precision == "int8"
    predicted = record["predicted"][KEY] * (0.62 if small else 1.0)
    measured = predicted * float(rng.lognormal(0.0, 0.05))
    correct = round((record["metrics"]["accuracy"] + (0.002 if small else 0.008)) * 180)
    accepted = measured <= 0.4
    parameters = record["predicted"]["parameters"]
    return {
        "digest": digest,
        "precision": precision,
        "accuracy": min(180, correct) / 180,
        KEY: measured,
        f"predicted_{KEY}": predicted,
        f"latency_upper_ms.{DEVICE}": predicted * 1.1,
        "macs": record["metrics"]["macs"],
        "parameters": parameters,
        "size_bytes": round(parameters * (1.1 if small else 4.1)),
        "peak_activation_bytes": round(9000 + record["metrics"]["macs"] / 200 * (0.25 if small else 1)),
        "non_dominated": False,
        "accepted": accepted,
        "reason": "" if accepted else f"latency <= 0.4 ms is broken: measured {measured:.3f} ms",
        "path": f"models/{digest}/model.{'int8' if small else 'fp32'}.onnx",
        **{choice["name"]: record["choices"].get(choice["name"], "") for choice in CHOICES},
    }


def _write_model(folder: Path, row: dict[str, Any], rng: np.random.Generator) -> None:
    path = folder / "models" / row["digest"] / "manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    manifest = (
        json.loads(path.read_text(encoding="utf-8"))
        if path.is_file()
        else {"format": 1, "files": [], "failed": {"int4": f"no kernel {HOSTILE}"}}
    )
    name = row["path"].rpartition("/")[2]
    manifest["labels"] = CLASSES
    manifest["files"].append(
        {
            "path": name,
            "sha256": hashlib.sha256(name.encode() + row["digest"].encode()).hexdigest(),
            "bytes": row["size_bytes"],
            "precision": row["precision"],
            "runtime": "onnxruntime",
            "runtime_version": "1.32.0",
            "accuracy": row["accuracy"],
            "num_test_samples": 180,
            "max_abs_error": 1e-6 if row["precision"] == "float32" else 0.31,
            "quality_reason": "",
            "agreement": 1.0 if row["precision"] == "float32" else 0.983,
            "verification": "executed",
            "latencies": {
                DEVICE: {
                    "measured": {
                        "latency_ms": row[KEY],
                        "spread": float(rng.uniform(0.004, 0.02)),
                        "settled": bool(rng.random() > 0.1),
                        "note": "5 of 20 blocks counted",
                        "blocks": 20,
                        "runs": 200,
                        "p90_ms": row[KEY] * 1.2,
                        "host": {"cpu": "Invented CPU 9000 <b>", "load": 1.2},
                    }
                }
            },
        }
    )
    path.write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")


def _points(rng: np.random.Generator, scale: float) -> list[dict[str, Any]]:
    points = []
    for place in range(40):
        measured = scale * math.exp(rng.uniform(math.log(0.05), math.log(1.6)))
        predicted = measured * float(rng.lognormal(0, 0.03 if place < 28 else 0.045))
        points.append(
            {"measured_ms": measured, "predicted_ms": predicted, "upper_ms": predicted * 1.09, "held_out": place >= 28}
        )
    return points


def _manifest(num_evaluations: int, rng: np.random.Generator) -> dict[str, Any]:
    quality = {
        "spearman": 0.984,
        "mape": 0.041,
        "within_10_percent": 0.92,
        "coverage": 0.94,
        "num_train": 28,
        "num_test": 12,
    }
    return {
        "format": 1,
        "created": "2026-01-01T09:00:00+00:00",
        "finished": "2026-01-01T09:04:12+00:00",
        "command": f"nas search space=mobilenet-tiny budget.latency='0.4 ms' note='{HOSTILE}'",
        "config": {"budget": {"latency": "0.4 ms"}, "run": {"workers": 2}, "odd": HOSTILE},
        "overrides": ["space=mobilenet-tiny", "budget.latency=0.4 ms"],
        "seed": 1,
        "versions": {"torch": "2.13.0", "onnxruntime": "1.32.0", "numpy": "2.4.6", "nas": "0.1.0"},
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "host": {"cpu": "Invented CPU 9000", "cores": 2, "memory_bytes": 8_000_000_000, "os": "Linux 0.0"},
        "space": {"name": "mobilenet-tiny", "digest": "4f1c9d0e77aa1234", "size": "1200000000", "choices": CHOICES},
        "data": {
            "name": "digits",
            "digest": "abcdef0123456789",
            "num_train": 1437,
            "num_validation": 180,
            "num_test": 180,
            "input_shape": [1, 8, 8],
            "classes": CLASSES,
        },
        "objectives": ["accuracy", KEY],
        "budgets": [{"key": KEY, "limit": 0.4, "confidence": 0.95, "text": "latency <= 0.4 ms with 95% confidence"}],
        "devices": [{"name": DEVICE, "card": {"name": DEVICE, "runtime": "onnxruntime", "threads": 1, "batch": 1}}],
        "latency_models": {
            DEVICE: {
                "float32": {"file": "mobilenet-tiny-float32.npz", "quality": quality, "points": _points(rng, 1.0)},
                "int8": {
                    "file": "mobilenet-tiny-int8.npz",
                    "quality": {**quality, "mape": 0.063, "within_10_percent": 0.83},
                    "points": _points(rng, 0.6),
                },
            }
        },
        "forecast": {
            "num_samples": 100_000,
            "share": 0.31,
            "share_low": 0.307,
            "share_high": 0.313,
            "budgets": {"latency <= 0.4 ms with 95% confidence": 0.34, "size <= 200 kB": 0.62},
            "ranges": {
                KEY: {"min": 0.048, "median": 0.61, "max": 1.93},
                "macs": {"min": 4e4, "median": 2.3e6, "max": 2.1e7},
                "size_bytes": {"min": 11e3, "median": 140e3, "max": 1.4e6},
            },
            "seconds": 131.0,
        },
        "screened": {
            "proposed": num_evaluations * 4,
            "broken": {"latency <= 0.4 ms with 95% confidence": num_evaluations * 3},
        },
        "timings": {"calibrate": 31.4, "search": 128.0, "finish": 62.1},
        "notes": ["the last line of history.jsonl was torn and is repaired", f"odd note {HOSTILE}"],
    }
