"""Makes the invented run folder importable beside the tests, and writes one for those that only read it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from run_folder_example import write_run_folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of invented data with its report; not to be changed."""
    from nas.report.write import write_report

    folder = write_run_folder(tmp_path_factory.mktemp("runs") / "invented & <run>")
    write_report(folder)
    return folder
