from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nas.cli.main import main

Captured = pytest.CaptureFixture[str]


def wrong(capsys: Captured, *arguments: str) -> str:
    """What a mistake is answered with: one line, exit code 2."""
    assert main(["export", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run" / "models").mkdir(parents=True)
    return tmp_path / "run"


def test_a_run_must_be_given(capsys: Captured) -> None:
    assert "run" in wrong(capsys)


def test_a_run_folder_must_be_there_and_hold_models(run: Path, capsys: Captured) -> None:
    assert "there is no such folder" in wrong(capsys, f"run={run / 'other'}")
    assert "must hold models, holds none" in wrong(capsys, f"run={run}")
    (run / "manifest.json").write_text("[")
    assert "cannot be read" in wrong(capsys, f"run={run}")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("targets=[onnxruntim]", "did you mean onnxruntime?"),
        ("targets=[]", "targets: must name at least one"),
        ("targets=[onnxruntime,onnxruntime]", "each once"),
        ("targets=3", "must be a list of names"),
        ("images=0", "images: must be a whole number of at least 1"),
        ("workers=-1", "workers: must be a whole number"),
        ("archive=often", "archive: must be true or false"),
        ("licence.texts=[nothing.txt]", "there is no nothing.txt"),
        ("licence=3", "licence: must be a group of fields"),
        ("precision=int8", "did you mean precisions?"),
        ("data=photos", "no data named 'photos'"),
        ("+more=1", "no field named 'more'"),
        ("deploy.calibration_images=0", "deploy.calibration_images: must be a whole number of at least 1"),
        ("deploy.calibration=8", "did you mean calibration_images?"),
        ("--dry-run", "no option named '--dry-run'"),
    ],
)
def test_a_mistake_is_told_in_one_line(run: Path, capsys: Captured, argument: str, expected: str) -> None:
    assert expected in wrong(capsys, f"run={run}", argument)


def test_help_says_what_the_exit_codes_mean(capsys: Captured) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["export", "--help"])
    shown = capsys.readouterr().out
    assert "Exit code 0" in shown
    assert "targets" in shown


def test_a_bundle_is_checked_without_torch(tmp_path: Path) -> None:
    (tmp_path / "bundle.zip").write_bytes(b"PK")
    script = (
        "import sys; from nas.cli.main import main; code = main(['verify', sys.argv[1]]);"
        "print(code, sorted({'torch', 'ray', 'hydra', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "bundle.zip")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2])
    assert done.stdout.strip() == "2 []"
    assert "truncated or damaged" in done.stderr


def test_what_is_no_bundle_and_no_model_folder_is_told(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    for place in (tmp_path, tmp_path / "none"):
        assert main(["verify", str(place)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
