from __future__ import annotations

import sys
from pathlib import Path

import pytest
from nas_command import SPACE, TINY, Finished, Here, copy_of, run_nas


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One small real search from an empty folder with a space file; shared, because it takes a while."""
    workplace = tmp_path_factory.mktemp("workplace")
    (workplace / "small.yaml").write_text(SPACE)
    outcome = run_nas("search", *TINY, "runner=serial", "run.candidates=4", "run.name=tiny", folder=workplace)
    assert (outcome.code, outcome.err) == (0, "")
    return Finished(workplace=workplace, outcome=outcome)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # `allow` adds the folder to it
    return Here(folder=tmp_path, capture=capsys)


@pytest.fixture
def again(finished: Finished, here: Here) -> Here:
    """A copy of the folder with the finished search, which is the current one."""
    copy_of(finished.workplace, here.folder)
    return here
