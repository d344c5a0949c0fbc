"""The wheel holds all that the command needs: it works from an empty folder, with no checkout in sight."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from nas_command import CALIBRATION, CHECKOUT, SPACE, Finished, contents, copy_of, environment


@dataclass(frozen=True, kw_only=True)
class Installed:
    """The wheel, unpacked into a folder that stands first on the import path.

    Attributes:
        site: that folder.
        empty: where commands are run.
    """

    site: Path
    empty: Path

    def run(self, *command: str) -> str:
        """Standard output of a command, which must end well and say nothing on standard error."""
        done = subprocess.run(
            command,
            cwd=self.empty,
            env=environment(PYTHONPATH=str(self.site)),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def nas(self, *arguments: str) -> str:
        return self.run(str(self.site / "bin" / "nas"), *arguments)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("build", "hatchling"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install build hatchling")
    folder = tmp_path_factory.mktemp("dist")
    quietly([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)])
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    site = tmp_path_factory.mktemp("site")
    quietly([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)])
    return Installed(site=site, empty=tmp_path_factory.mktemp("empty"))


def quietly(command: Sequence[str]) -> None:
    done = subprocess.run(command, env={**os.environ, "PIP_NO_INPUT": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_brings_one_import_name_and_all_data_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"nas"}
    for folder, pattern in [("conf", "**/*.yaml"), ("search_spaces", "*.yaml"), ("latency_models", "*/device.yaml")]:
        files = sorted((CHECKOUT / folder).glob(pattern))
        assert files
        for file in files:
            assert f"nas/_resources/{file.relative_to(CHECKOUT)}" in names
    for file in (CHECKOUT / "nas").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert str(file.relative_to(CHECKOUT)) in names


def test_data_folders_are_no_import_names_and_the_package_is_the_installed_one(installed: Installed) -> None:
    code = (
        "import importlib.util, nas\n"
        "names = ['conf', 'search_spaces', 'latency_models', '_resources']\n"
        "print(nas.__file__, [name for name in names if importlib.util.find_spec(name)])\n"
    )
    # Without site-packages: an editable install of the checkout there would make its folders importable.
    assert installed.run(sys.executable, "-S", "-c", code) == f"{installed.site / 'nas' / '__init__.py'} []\n"


def test_the_installed_command_helps_and_lists_the_spaces(installed: Installed) -> None:
    assert installed.nas("--help").startswith("nas: hardware-aware neural architecture search")
    assert "strategy: cost-fronts, nsga2, " in installed.nas("search", "--help")
    spaces = [line.split()[0] for line in installed.nas("spaces").splitlines()]
    assert spaces == sorted(file.stem for file in (CHECKOUT / "search_spaces").glob("*.yaml"))
    assert list(installed.empty.iterdir()) == []


def test_the_installed_command_forecasts_a_search_from_an_empty_folder(installed: Installed) -> None:
    precision = "deploy.precisions=[float32]"
    out = installed.nas("search", "space=resnet-tiny", "data.limit=300", precision, *CALIBRATION, "--dry-run")
    assert "space    resnet-tiny" in out
    assert "measured in 0:" in out
    assert "plan     24 candidates" in out
    made = [name for name in contents(installed.empty) if "/" not in name]
    assert made == ["latency_models"]


def test_the_installed_package_writes_the_report(installed: Installed, finished: Finished, tmp_path: Path) -> None:
    run = copy_of(finished.run, tmp_path / "run")
    page = (run / "report.html").read_text()
    (run / "report.html").unlink()
    code = f"from pathlib import Path; from nas.report.write import write_report; write_report(Path({str(run)!r}))"
    installed.run(sys.executable, "-c", code)
    assert len((run / "report.html").read_text()) == pytest.approx(len(page), rel=0.01)
    assert SPACE.split()[1] in page
