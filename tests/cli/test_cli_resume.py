"""A resumed run is told what it was told before, unless it is told otherwise now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.cli.search import with_resumed_arguments
from nas.errors import UserError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    overrides = [
        "space=resnet-tiny",
        "strategy=tpe",
        "strategy.warm_up=3",
        "run.candidates=9",
        "run.name=run",
        "seed=4",
    ]
    (folder / "manifest.json").write_text(json.dumps({"overrides": overrides}))
    return folder


def test_earlier_overrides_come_first_and_the_name_of_the_run_is_not_given_again(run: Path) -> None:
    assert with_resumed_arguments([f"run.resume={run}"]) == [
        "space=resnet-tiny", "strategy=tpe", "strategy.warm_up=3", "run.candidates=9", "seed=4", f"run.resume={run}",
    ]  # fmt: skip


def test_what_is_given_now_wins(run: Path) -> None:
    overrides = with_resumed_arguments([f"run.resume={run}", "run.candidates=60", "+seed=5"])
    assert "run.candidates=9" not in overrides
    assert "seed=4" not in overrides
    assert overrides[-2:] == ["run.candidates=60", "+seed=5"]


def test_a_new_group_takes_the_fields_of_the_old_one_with_it(run: Path) -> None:
    overrides = with_resumed_arguments([f"run.resume={run}", "strategy=random"])
    assert "strategy.warm_up=3" not in overrides


def test_without_a_resume_nothing_is_added() -> None:
    assert with_resumed_arguments(["seed=1", "run.resume=null"]) == ["seed=1", "run.resume=null"]


@pytest.mark.parametrize("text", [None, "{", "[]", '{"overrides": 3}'])
def test_a_folder_without_a_readable_manifest_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.resume: "):
        with_resumed_arguments([f"run.resume={tmp_path}"])


def test_the_users_own_groups_come_along_unless_others_are_given(run: Path) -> None:
    record = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**record, "config_dir": "/mine"}))
    assert with_resumed_arguments([f"run.resume={run}"])[:2] == ["--config-dir", "/mine"]
    given = ["--config-dir=/other", f"run.resume={run}"]
    assert "/mine" not in with_resumed_arguments(given)
