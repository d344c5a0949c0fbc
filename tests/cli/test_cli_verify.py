"""`nas verify` as a user calls it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nas.cli.verify import run_verify
from nas.deploy.bundle.archive import write_zip
from nas.deploy.bundle.checking.findings import BundleCheck, FileCheck
from nas.errors import UserError

Captured = pytest.CaptureFixture[str]
HOLDS = BundleCheck(fingerprint="f" * 64, num_contents=3, files=(FileCheck("a.onnx", 0.0, 1.0, ""),), unlisted=())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """What looks like a bundle, and is none: its manifest says no more than its kind."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"kind": "nas-bundle", "format": 1}))
    return folder


def test_what_does_not_hold_is_a_line_and_the_next_one_is_checked_all_the_same(
    bundle: Path, tmp_path: Path, capsys: Captured
) -> None:
    write_zip(bundle, tmp_path / "mine.zip")
    assert run_verify([str(bundle), str(tmp_path / "mine.zip"), str(tmp_path / "none")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"error: {bundle}: manifest.json: it: must have 'name'")
    assert "contents: must be the list of the bundle's files" in lines[1]
    assert "there is no such folder or file" in lines[2]


def test_what_holds_is_told_for_people_for_scripts_or_not_at_all(
    bundle: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.deploy.bundle.verify.verify_bundle", lambda path: HOLDS)
    assert run_verify([str(bundle)]) == 0
    assert capsys.readouterr().out.startswith(f"ok  {bundle}  3 checksums hold, 1 of 1 model files run")
    assert run_verify([str(bundle), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["event"], record["kind"], record["fingerprint"]) == ("verified", "bundle", "f" * 64)
    assert record["files"] == [{"path": "a.onnx", "relative_error": 0.0, "agreement": 1.0, "note": ""}]
    assert run_verify(["--quiet", str(bundle)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "must be given a bundle or a folder, got nothing"),
        (["--quite", "x"], "no option named '--quite'; did you mean --quiet"),
        (["--allow"], "--allow: must be followed by a package"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        run_verify(arguments)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_folder_without_models_is_told(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "models").mkdir()
    assert run_verify([str(tmp_path)]) == 2
    assert "holds no models" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "models")
    assert run_verify([str(tmp_path)]) == 2
    assert "manifest.json" in capsys.readouterr().err


def test_help_says_what_the_exit_codes_mean(capsys: Captured) -> None:
    assert run_verify(["--help"]) == 0
    assert "Exit code 0" in capsys.readouterr().out
