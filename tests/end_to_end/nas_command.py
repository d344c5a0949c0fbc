"""The `nas` command as a user runs it: in a process of its own, or here where that saves the imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

import nas
from nas.cli.main import main

CHECKOUT = Path(nas.__file__).resolve().parent.parent

SPACE = """\
name: small
network:
  - {op: conv, channels: {choose: [4, 8, 12], name: width}, stride: 2}
  - repeat:
      name: body
      times: {choose: [1, 2, 3], name: depth}
      block: {op: inverted_residual, kernel: {choose: [3, 5]}, expansion: {choose: [2, 3]}}
  - {op: classifier}
"""
# A search that takes seconds. Numbers of candidates and names of folders are left to the tests.
CALIBRATION = ("calibration.samples=12", "calibration.blocks=3")
TINY = ("space=small.yaml", "data.limit=300", "run.epochs=1", "run.final_epochs=2", "run.front=2", *CALIBRATION)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a command."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished search that no test may change.

    Attributes:
        workplace: the folder that it was started in.
        outcome: what it printed.
    """

    workplace: Path
    outcome: Outcome

    @property
    def run(self) -> Path:
        return self.workplace / "runs" / "tiny"


def environment(**changed: str) -> dict[str, str]:
    quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **quiet, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(CHECKOUT), **changed}


def run_nas(*arguments: str, folder: Path) -> Outcome:
    """Runs it in a process of its own."""
    process = start_nas(*arguments, folder=folder)
    out, err = process.communicate(timeout=200)
    return Outcome(code=process.returncode, out=out, err=err)


def start_nas(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    """Starts it in a process group of its own, as a terminal does."""
    return subprocess.Popen(
        [sys.executable, "-m", "nas.cli.main", *arguments],
        cwd=folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@dataclass(frozen=True, kw_only=True)
class Here:
    """A folder to be in, and the command run in this process."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def nas(self, *arguments: str) -> Outcome:
        self.capture.readouterr()
        code = main(arguments)
        captured = self.capture.readouterr()
        return Outcome(code=code, out=captured.out, err=captured.err)


def contents(folder: Path) -> Mapping[str, str]:
    """Relative path of each file and folder -> digest of what it holds; a lock means nothing once it is released."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


def copy_of(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to, dirs_exist_ok=True))


def assert_one_clear_line(outcome: Outcome, *expected: str) -> None:
    """Exit code 2, and one line on standard error that names the field and what is asked for."""
    assert outcome.err.startswith("error: ")
    assert outcome.err.endswith("\n")
    assert outcome.err.count("\n") == 1
    for text in expected:
        assert text in outcome.err
    assert outcome.code == 2
