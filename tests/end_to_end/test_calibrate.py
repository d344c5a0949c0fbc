"""`nas calibrate` as a user runs it: here, again, with more samples, and by a folder that is carried away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nas_command import SPACE, TINY, Here

CARD = """\
name: board
description: a board under the desk
where: offline
"""
QUICK = ("space=small.yaml", "data.limit=300", "samples=12", "blocks=3", "deploy.precisions=[float32]")


@pytest.fixture
def place(here: Here) -> Here:
    (here.folder / "small.yaml").write_text(SPACE)
    return here


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_a_device_is_calibrated_and_more_samples_add_to_what_is_there(place: Here) -> None:
    outcome = place.nas("calibrate", *QUICK)
    assert (outcome.code, outcome.err) == (0, "")
    assert "measuring 12 architectures as float32" in outcome.out
    assert "brackets: 95 % intervals" in outcome.out
    assert "advice   float32: " in outcome.out
    folder = place.folder / "latency_models" / "this-machine"
    store = folder / "measurements" / "small-1x8x8-10-float32.jsonl"
    first = lines_of(store)
    assert len(first) == 1 + 12
    assert (folder / "small-1x8x8-10-float32.npz").is_file()
    assert "small-1x8x8-10-float32.npz" in (folder / "card.md").read_text(encoding="utf-8")

    again = place.nas("calibrate", *QUICK)
    assert "all 12 architectures of small are measured already" in again.out
    assert lines_of(store) == first

    more = place.nas("calibrate", *QUICK[:2], "samples=16", *QUICK[3:])
    assert "going on with a calibration" in more.out
    assert lines_of(store)[: len(first)] == first
    assert 2 <= len(lines_of(store)) - len(first) <= 5

    fresh = place.nas("calibrate", *QUICK, "refresh=true")
    assert "measuring 12 architectures" in fresh.out
    assert len(lines_of(store)) == 13


def test_an_interrupted_calibration_goes_on_without_measuring_twice(place: Here) -> None:
    assert place.nas("calibrate", *QUICK).code == 0
    folder = place.folder / "latency_models" / "this-machine"
    store = folder / "measurements" / "small-1x8x8-10-float32.jsonl"
    kept = lines_of(store)[:8]
    store.write_text("\n".join(kept) + '\n{"row": [1, ', encoding="utf-8")
    outcome = place.nas("calibrate", *QUICK)
    assert outcome.code == 0
    assert "going on with a calibration: 5 of 12 as float32" in outcome.out
    assert lines_of(store)[:8] == kept
    assert len(lines_of(store)) == 13


def test_a_search_uses_what_was_calibrated(place: Here) -> None:
    assert place.nas("calibrate", *QUICK).code == 0
    outcome = place.nas("search", *TINY, "deploy.precisions=[float32]", "--dry-run")
    assert (outcome.code, outcome.err) == (0, "")
    assert "no latency model" not in outcome.out
    assert "float32 (searched): Spearman" in outcome.out


def test_a_machine_that_nobody_reaches_is_measured_by_a_folder(place: Here) -> None:
    card = place.folder / "latency_models" / "board" / "device.yaml"
    card.parent.mkdir(parents=True)
    card.write_text(CARD, encoding="utf-8")
    first = place.nas("calibrate", "device=board", *QUICK)
    assert (first.code, first.err) == (0, "")
    assert "waits for the results of 12 files" in first.out
    (job,) = place.folder.rglob("nas-runner.pyz")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["TMPDIR"] = str(place.folder)  # with a lock of its own: other tests measure on this machine, too
    # Status 3: some did not settle, which on a busy machine may happen.
    done = subprocess.run(
        [sys.executable, job.name], cwd=job.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 3), done.stderr
    second = place.nas("calibrate", "device=board", *QUICK)
    assert (second.code, second.err) == (0, "")
    assert "advice   float32: " in second.out
    searched = place.nas("search", "device=board", *TINY, "deploy.precisions=[float32]", "--dry-run")
    assert searched.code == 0, searched.err
    assert "float32 (searched): Spearman" in searched.out


def test_figures_for_scripts_are_one_object_a_line(place: Here) -> None:
    outcome = place.nas("calibrate", *QUICK, "--json")
    records = [json.loads(line) for line in outcome.out.splitlines()]
    (result,) = [record for record in records if record["event"] == "result"]
    assert 0 < result["models"]["float32"]["quality"]["mape"] < 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("device=pixel-99",), "device: no device named 'pixel-99'"),
        (("device=pixel-8",), "pixel-8: must be measured somewhere, its card says `where: none`"),
        (("samples=3",), "samples: must be a whole number of at least 12, got 3"),
        (("blocks=many",), "blocks: must be int, got 'many'"),
        (("precisions=[int2]",), "precisions: no precision named 'int2'"),
        (("where=moon",), "where: no place named 'moon'; Known: offline"),
        (("input=3x32", "classes=10"), "input: must be channels x height x width, got '3x32'"),
        (("input=3x32x32",), "input: must be given together with classes"),
        (("space=nope",), "space: no space named 'nope'"),
        (("run.candidates=3",), "run"),
        (("--dry-run",), "nas calibrate: no option named '--dry-run'"),
    ],
)
def test_a_users_mistake_is_one_line(place: Here, arguments: tuple[str, ...], problem: str) -> None:
    outcome = place.nas("calibrate", *QUICK, *arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert problem in outcome.err
    assert outcome.err.count("\n") == 1
