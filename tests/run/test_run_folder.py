from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from run_problem import small_space

from nas.errors import UserError
from nas.run.atomic import write_atomically
from nas.run.environment import commit, environment
from nas.run.folder import RunFolder, check_free_space
from nas.run.identity import differences, space_record
from nas.space.space import SearchSpace

SPACE = space_record(small_space(2))
DATA = {"name": "digits", "digest": "d0", "num_train": 1437, "num_test": 180, "classes": ["0", "1"], "note": ""}


def create(path: Path) -> RunFolder:
    return RunFolder.create(path, {"seed": 1, "space": SPACE, "data": DATA})


def resume(path: Path, **changed: object) -> RunFolder:
    return RunFolder.resume(path, **{"space": SPACE, "data": DATA, **changed})  # type: ignore[arg-type]


def test_a_new_run_folder_holds_its_manifest(tmp_path: Path) -> None:
    folder = create(tmp_path / "runs" / "a")
    manifest = json.loads((tmp_path / "runs/a/manifest.json").read_text())
    assert manifest == folder.manifest()
    assert {key: manifest[key] for key in ("format", "name", "seed", "space", "data")} == {
        "format": 1, "name": "a", "seed": 1, "space": SPACE, "data": DATA,
    }  # fmt: skip
    assert manifest["created"].endswith("+00:00")


def test_an_existing_run_is_not_overwritten_and_its_resume_line_is_told(tmp_path: Path) -> None:
    create(tmp_path / "a")
    before = (tmp_path / "a/manifest.json").read_bytes()
    with pytest.raises(
        UserError, match=rf"run\.name: the run folder {tmp_path}/a exists; go on with it by run\.resume="
    ):
        create(tmp_path / "a")
    assert (tmp_path / "a/manifest.json").read_bytes() == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.png").touch()
    with pytest.raises(UserError, match="is not empty"):
        create(tmp_path)
    with pytest.raises(UserError, match="must be a folder"):
        create(tmp_path / "photo.png")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    assert create(tmp_path).manifest()["seed"] == 1


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        create(tmp_path / "file" / "a")


def test_an_update_replaces_its_sections_and_leaves_the_others(tmp_path: Path) -> None:
    folder = create(tmp_path / "a")
    folder.update({"seed": 2, "forecast": {"share": 0.31}})
    manifest = folder.manifest()
    assert (manifest["seed"], manifest["forecast"], manifest["space"]) == (2, {"share": 0.31}, SPACE)
    assert [path.name for path in folder.path.iterdir()] == ["manifest.json"]


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "manifest.json"
    write_atomically(file, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        write_atomically(file, "new")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_run_with_the_same_space_and_data_is_resumed(tmp_path: Path) -> None:
    create(tmp_path / "a")
    renamed = {**DATA, "name": "my digits"}
    assert resume(tmp_path / "a", data=renamed).manifest()["seed"] == 1


def test_a_resume_with_another_space_is_refused_and_shows_what_differs(tmp_path: Path) -> None:
    create(tmp_path / "a")
    other = SearchSpace.from_template({
        "name": "small",
        "network": [
            {"name": "layer0", "op": "conv", "channels": {"choose": [8, 16]}},
            {"name": "last", "op": "conv", "channels": {"choose": [8, 16]}},
            {"op": "classifier"},
        ],
    })  # fmt: skip
    with pytest.raises(UserError) as caught:
        resume(tmp_path / "a", space=space_record(other))
    text = str(caught.value)
    assert text.startswith(f"run.resume: the space of {tmp_path}/a has changed: size: 16 became 4; ")
    assert "choice layer0.channels: [8, 16, 24, 32] became [8, 16]" in text
    assert "choice layer1.channels is gone" in text
    assert "choice last.channels is new: [8, 16]" in text


def test_a_resume_with_other_data_is_refused_and_shows_what_differs(tmp_path: Path) -> None:
    create(tmp_path / "a")
    with pytest.raises(
        UserError, match=r"the data of .* has changed: num_train: 1437 became 1400; classes: \[0, 1\] bec"
    ):
        resume(tmp_path / "a", data={**DATA, "digest": "d1", "num_train": 1400, "classes": ["0", "1", "2"]})
    with pytest.raises(UserError, match=r"same size, other contents \(digest d0 became d2\)"):
        resume(tmp_path / "a", data={**DATA, "digest": "d2"})


def test_only_the_digest_decides_whether_records_differ() -> None:
    assert differences({"digest": "1", "name": "a"}, {"digest": "1", "name": "b"}) == []
    many = {"digest": "2", **{f"k{i}": i for i in range(20)}}
    assert len(differences({"digest": "1"}, many)) == 6
    assert differences({"digest": "1"}, many)[-1] == "and 15 more"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no"), ("{torn", "cannot be read"), ("[]", "format 1, got None"), ('{"format": 9}', "got 9")],
)
def test_a_folder_that_holds_no_readable_run_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=message):
        resume(tmp_path)


def _hold(path: Path, held: object, release: object) -> None:
    with RunFolder(path=path).locked():
        held.set()  # type: ignore[attr-defined]
        release.wait(30)  # type: ignore[attr-defined]


def test_a_second_search_is_kept_out_until_the_first_is_gone_even_if_killed(tmp_path: Path) -> None:
    folder = create(tmp_path / "a")
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(folder.path, held, release))
    process.start()
    assert held.wait(30)
    with pytest.raises(UserError, match=rf"is being written by process {process.pid} on "), folder.locked():
        pass
    process.kill()
    process.join()
    with folder.locked():
        pass
    with folder.locked():  # released by leaving, too
        pass


def test_a_disk_that_is_nearly_full_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    check_free_space(tmp_path, needed=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 12_000_000))
    with pytest.raises(UserError, match="at least 200 MB free, has 12 MB; make room, or name another disk"):
        create(tmp_path / "a")


def test_the_environment_is_plain_and_names_versions_and_machine() -> None:
    facts = json.loads(json.dumps(environment()))
    assert facts["versions"]["numpy"].count(".") >= 1
    assert facts["host"]["cores"] >= 1
    assert facts["host"]["memory_bytes"] > 1e8
    assert facts["commit"] == commit()
