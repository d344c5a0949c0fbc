"""Makes the invented run folder importable beside the tests, and writes one for those that only read it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from devices_example import write_devices_folder
from run_folder_example import write_run_folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of invented data with its report; not to be changed."""
    from nas.report.write import write_report

    folder = write_run_folder(tmp_path_factory.mktemp("runs") / "invented & <run>")
    write_report(folder)
    return folder


@pytest.fixture(scope="session")
def devices_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of invented data for three devices with its report; not to be changed."""
    from nas.report.write import write_report

    folder = write_devices_folder(tmp_path_factory.mktemp("runs") / "devices")
    write_report(folder)
    return folder
