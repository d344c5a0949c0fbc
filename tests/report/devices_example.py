"""The invented run folder, searched for three devices: here, over a network, and one known by its card only."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from run_folder_example import KEY, write_run_folder

PHONE, BOARD = "phone-9", "board <b>"
FACTORS = {PHONE: 2.1, BOARD: 31.0}
LIMITS = {PHONE: 0.62, BOARD: 9.0}


def write_devices_folder(folder: Path, *, seed: int = 0) -> Path:
    """Writes the run into ``folder`` and gives it back."""
    write_run_folder(folder, seed=seed)
    rng = np.random.default_rng(seed)
    latencies = _change_front(folder / "front.csv", rng)
    for path in sorted((folder / "models").glob("*/manifest.json")):
        model = json.loads(path.read_text(encoding="utf-8"))
        for entry in model["files"]:
            entry["latencies"] |= latencies[path.parent.name, entry["precision"]]
        path.write_text(json.dumps(model, ensure_ascii=False), encoding="utf-8")
    for name in ("history.jsonl", "baseline.jsonl"):
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        records = [_with_devices(json.loads(line)) for line in lines]
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (folder / name).write_text(text, encoding="utf-8")
    _change_manifest(folder / "manifest.json")
    return folder


def _with_devices(record: dict[str, Any]) -> dict[str, Any]:
    for device, factor in FACTORS.items():
        # Devices differ by more than a factor: one of them is slow at depth.
        slower = 1.0 + 0.15 * record["row"][4]
        value = record["predicted"][KEY] * factor * (slower if device == PHONE else 1.0)
        record["predicted"][f"latency_ms.{device}"] = value
        record["upper"][f"latency_ms.{device}"] = value * (1.12 if device == PHONE else 2.2)
    return record


def _change_front(path: Path, rng: np.random.Generator) -> dict[tuple[str, str], Any]:
    """Adds columns of the further devices; gives what belongs into the models' manifests."""
    with path.open(newline="", encoding="utf-8") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    latencies = {}
    for row in rows:
        found = {device: _latency(row, device, factor, rng) for device, factor in FACTORS.items()}
        for device, latency in found.items():
            measured = latency["measured"]
            row[f"latency_ms.{device}"] = "" if measured is None else measured["latency_ms"]
            row[f"predicted_latency_ms.{device}"] = latency["predicted_ms"]
            row[f"latency_upper_ms.{device}"] = latency["upper_ms"]
        broken = [
            d
            for d in FACTORS
            if (found[d]["measured"] or {"latency_ms": found[d]["upper_ms"]})["latency_ms"] > LIMITS[d]
        ]
        if broken and row["accepted"] == "True":
            row |= {"accepted": "False", "reason": f"latency on {broken[0]} breaks the budget"}
        latencies[row["digest"], row["precision"]] = found
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return latencies


def _latency(row: dict[str, Any], device: str, factor: float, rng: np.random.Generator) -> dict[str, Any]:
    slower = (1.6 if row["precision"] == "int8" else 1.0) if device == PHONE else 1.0
    predicted = float(row[KEY]) * factor * slower
    measured = predicted * float(rng.lognormal(0, 0.05))
    timed = {"latency_ms": measured, "spread": 0.03, "settled": bool(rng.random() > 0.2), "note": "warm", "blocks": 20}
    return {
        "measured": timed | {"runs": 200, "p90_ms": measured * 1.1, "host": {"cpu": "Phone core"}}
        if device == PHONE
        else None,
        "predicted_ms": predicted,
        "upper_ms": predicted * (1.12 if device == PHONE else 2.2),
        "confidence": 0.95,
        "source": "calibrated" if device == PHONE else "estimated",
    }


def _change_manifest(path: Path) -> None:
    manifest = json.loads(path.read_text(encoding="utf-8"))
    places = {PHONE: "nas.device.where.places.Adb", BOARD: "nas.device.where.places.Nowhere"}
    for device, place in places.items():
        card = {"name": device, "precision": "float32", "runtime": "onnxruntime", "where": {"_target_": place}}
        manifest["devices"].append({"name": device, "card": card})
        key = f"latency_ms.{device}"
        text = f"latency on {device} <= {LIMITS[device]} ms with 95% confidence"
        manifest["budgets"].append({"key": key, "limit": LIMITS[device], "confidence": 0.95, "text": text})
    quality = manifest["latency_models"]["this-machine"]
    manifest["latency_models"][PHONE] = {name: {**model, "points": []} for name, model in quality.items()}
    manifest["latency_models"][BOARD] = {"float32": {"source": "estimated"}, "int8": {"source": "estimated"}}
    manifest["objectives"] = ["accuracy", KEY, f"latency_ms.{PHONE}", f"latency_ms.{BOARD}"]
    path.write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
