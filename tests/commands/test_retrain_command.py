"""`nas retrain` as a user has it: killed, gone on with, and what is left then; and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nas
from nas.cli.main import main
from nas.commands.settings import RunOptions
from nas.deploy.load import verify_model_folder
from nas.report.records import read_front
from nas.run.serial import SerialRunner

SPACE = """\
name: tiny
network:
  - {op: conv, channels: {choose: [4, 8], name: width}, stride: 2}
  - {op: classifier}
"""
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}
PATIENCE = 120.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search that is done, of the two networks that there are."""
    folder = tmp_path_factory.mktemp("retrain")
    (folder / "tiny.yaml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        nas.search(
            space="tiny.yaml",
            device="x86-server",
            runner=SerialRunner(),
            run=RunOptions(name="base", candidates=2, epochs=1, final_epochs=1, front=2),
        )
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return place


def killed_while_it_tunes(folder: Path, *arguments: str) -> Path:
    """Starts a retraining and kills it when its first trial is done; the file of that trial's training."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "nas.cli.main", "retrain", *arguments, "display=quiet"]
    with subprocess.Popen(command, env=environment, start_new_session=True) as driver:
        until = time.monotonic() + PATIENCE
        done: list[Path] = []
        while not done and driver.poll() is None and time.monotonic() < until:
            records = folder.glob("tuning/*/trials/*.json")
            done = [path for path in records if '"complete"' in path.read_text()]
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
    assert driver.returncode == -signal.SIGKILL, "it was over before it could be killed"
    return done[0].with_name(f"{done[0].stem}-0.safetensors")


def test_a_killed_retraining_goes_on_and_repeats_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here / "runs" / "longer"
    wanted = sorted(path.name for path in (here / "runs" / "base" / "models").iterdir())[0]
    run_before = {path: path.read_bytes() for path in (here / "runs" / "base").rglob("*") if path.is_file()}
    trained = killed_while_it_tunes(
        folder, "run=runs/base", f"models={wanted}", "name=longer", "epochs=6", "tune.trials=2", "tune.scheduler=none",
        "runner.workers=1",
    )  # fmt: skip
    written = trained.stat().st_mtime_ns
    assert not (folder / "front.csv").exists()
    assert main(["retrain", f"resume={folder}", "runner.workers=1", "display=plain"]) == 0
    assert trained.stat().st_mtime_ns == written
    shown = capsys.readouterr().out
    assert "before" in shown
    assert "untuned" in shown
    outcomes = [json.loads(path.read_text()) for path in folder.glob("tuning/*/outcome.json")]
    assert [outcome["trials"] for outcome in outcomes] == [2]
    assert all(outcome["validation"] >= outcome["untuned_validation"] for outcome in outcomes)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["finished"]
    assert "name=longer" in manifest["command"]
    assert {row["digest"] for row in read_front(folder / "front.csv")} == {wanted}
    for outcome in outcomes:
        model = folder / "models" / outcome["digest"]
        verify_model_folder(model)
        training = json.loads((model / "manifest.json").read_text())["training"]
        assert training["epochs"] == 6
        assert training["validation_accuracy"] == outcome["validation"]
        assert {name: training["recipe"][name] for name in outcome["fields"]} == outcome["fields"]
    assert len((folder / "history.jsonl").read_text().splitlines()) == 1
    assert (folder / "report.html").is_file()
    assert (folder / "before_after.html").is_file()
    assert not (Path.home() / "ray_results").exists()
    run_after = {path: path.read_bytes() for path in (here / "runs" / "base").rglob("*") if path.is_file()}
    assert run_after == run_before


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "run: must name a run folder"),
        (["run=nowhere"], "run: nowhere must be a run folder with models"),
        (["run=runs/base", "models=[zzz]"], "models: must be the beginning of one digest"),
        (["run=runs/base", "runner=serial"], "runner: must be ray"),
        (["run=runs/base", "name=base"], "name: must be that of a new folder"),
        (["run=runs/base", "name=../base"], "name: must be a plain folder name"),
        (["run=runs/base", "epochs=0"], "epochs: must be a whole number at least 1, got 0"),
        (["run=runs/base", "epochs=2", "tune.grace=3"], "tune.grace: must be at most the 2 epochs"),
        (["run=runs/base", "tune.scheduler=asa"], "tune.scheduler: no scheduler named 'asa'; did you mean asha?"),
        (
            ["run=runs/base", "tune.space.shift=uniform 0 1"],
            "tune.space.shift: must be a number at least 0 and below 1",
        ),
        (["run=runs/base", "tune.space.flip=[1,2]"], "tune.space.flip: must be true or false"),
        (["run=runs/base", "+tune.space.rate=[1,2]"], "tune.space.rate: no setting named 'rate'"),
        (["run=runs/base", "tune.space=null"], "tune.space: must be settings with their ranges"),
        (["run=runs/base", "tune.space.distil_weight=uniform 0 1"], "tune.space.distil_weight: must be null where"),
        (
            ["run=runs/base", "tune.scheduler=pbt", "tune.space.ema_decay=uniform 0 0.9"],
            "tune.space.ema_decay: must not come to 0 with tune.scheduler=pbt",
        ),
        (["run=runs/base", "gpus_per_trial=1.5"], "gpus_per_trial: must be a fraction up to 1, or whole"),
        (["run=runs/base", "space=mobilenet-tiny"], "space: must be that of the run, tiny"),
        (["resume=nowhere"], "resume: must be the folder of a retraining, but there is no nowhere/manifest.json"),
        (["resume=runs/base"], "resume: must be the folder of a retraining, but runs/base/manifest.json is not of one"),
    ],
)
def test_a_mistake_is_one_line(here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str) -> None:
    before = set((here / "runs").iterdir())
    assert main(["retrain", *arguments, "display=quiet"]) == 2
    error = capsys.readouterr().err
    assert f"error: {line}" in error
    assert error.count("\n") == 1
    assert set((here / "runs").iterdir()) == before


def test_a_plan_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set((here / "runs").iterdir())
    assert main(["retrain", "run=runs/base", "models=all", "epochs=30", "--dry-run", "display=plain"]) == 0
    shown = capsys.readouterr().out
    assert "2 models x 8 trials x up to 30 epochs (asha looks after 3, 9, 27)" in shown
    assert "learning_rate log 0.03 to 0.3" in shown
    assert set((here / "runs").iterdir()) == before
