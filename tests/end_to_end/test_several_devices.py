"""A search for this machine and for a board that is only known by its card."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
from nas_command import TINY, Here

from nas.run.front import read_front_csv

BOARD = """\
name: board
description: a small board
where: none
kind: cpu
peaks:
  memory_bandwidth: {value: 10 GB/s, source: a test}
  float32: {value: 20 GFLOP/s, source: a test}
  int8: {value: 40 GOP/s, source: a test}
energy:
  static: {value: 2 W, source: a test}
"""


def test_models_are_judged_on_every_device(again: Here) -> None:
    card = again.folder / "latency_models" / "board" / "device.yaml"
    card.parent.mkdir(parents=True)
    card.write_text(BOARD, encoding="utf-8")
    outcome = again.nas(
        "search", *TINY, "runner=serial", "run.candidates=4", "run.name=both", "device=[this-machine,board]",
        "objectives=[accuracy,latency_worst,energy.board]", "budget.latency={board: 20 ms}",
        "deploy.precisions=[float32]",
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    assert "board float32 (searched): estimated from the device's card, not measured; 95% bound" in outcome.out
    run = again.folder / "runs" / "both"
    front = read_front_csv(run / "front.csv")
    assert (front["latency_ms.this-machine"] > 0).all()
    assert front["latency_ms.board"].isna().all()
    assert (front["latency_upper_ms.board"] > front["predicted_latency_ms.board"]).all()
    assert front["energy_mj.board"].isna().all()
    assert (front["predicted_energy_mj.board"] > 0).all()
    assert front["accepted"].all() == (front["latency_upper_ms.board"] <= 20).all()
    for line in (run / "history.jsonl").read_text(encoding="utf-8").splitlines():
        predicted = json.loads(line)["predicted"]
        assert {"latency_ms.this-machine", "latency_ms.board", "latency_worst", "energy_mj.board"} <= predicted.keys()
        assert math.isclose(predicted["energy_mj.board"], 2 * predicted["latency_ms.board"], rel_tol=1e-6)
        assert predicted["latency_worst"] >= predicted["latency_ms.board"] / 20 - 1e-9
    check_manifest(run, front)


def check_manifest(run: Path, front: pd.DataFrame) -> None:
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert [device["name"] for device in manifest["devices"]] == ["this-machine", "board"]
    assert manifest["latency_models"]["board"] == {"float32": {"source": "estimated"}}
    for path in front["path"]:
        model = json.loads((run / path).with_name("manifest.json").read_text(encoding="utf-8"))
        (entry,) = model["files"]
        assert entry["latencies"]["board"]["measured"] is None
        assert entry["latencies"]["board"]["source"] == "estimated"
        assert entry["latencies"]["this-machine"]["source"] == "calibrated"
        assert entry["energies"]["board"]["measured"] is None


def test_a_device_that_is_not_known_by_anything_is_refused_before_anything_is_spent(again: Here) -> None:
    card = again.folder / "latency_models" / "stone" / "device.yaml"
    card.parent.mkdir(parents=True)
    card.write_text("name: stone\nwhere: none\n", encoding="utf-8")
    outcome = again.nas("search", *TINY, "device=stone", "--dry-run")
    assert outcome.code == 2
    assert "stone has no latency model for small on this input, and its card gives no estimate" in outcome.err
    assert "nas calibrate device=stone" in outcome.err


def test_an_energy_goal_needs_a_card_with_energies(again: Here) -> None:
    outcome = again.nas("search", *TINY, "objectives=[accuracy,energy]", "--dry-run")
    assert outcome.code == 2
    assert "this-machine/device.yaml: energy: must give mac_float32 or static" in outcome.err
    assert "latency" not in outcome.out
