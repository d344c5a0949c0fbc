"""A run folder at an address: what is there at each moment, and what a search elsewhere makes of it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest
from run_problem import FIDELITY, Judge, small_problem

from nas.errors import UserError
from nas.problem.history import History, read_history
from nas.run import mirror as mirror_module
from nas.run.folder import RunFolder
from nas.run.guarded_file import GuardedFile
from nas.run.heartbeat import this_driver
from nas.run.loop import LoopOptions, search_loop
from nas.run.mirror import Mirror, mirrored, restore, working_copy
from nas.run.progress import Progress
from nas.run.serial import SerialSession
from nas.strategy.random_search import RandomSearch
from nas.train.storage import place

MANIFEST = {"seed": 1, "space": {"digest": "s"}, "data": {"digest": "d"}}


@pytest.fixture(params=["memory", "file"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a run that does not exist yet, on a store of objects and on a folder."""
    return f"memory://{uuid4().hex}/run" if request.param == "memory" else f"file://{tmp_path}/shared/run"


def search(folder: Path, total: int, *, seed: int = 3, tell: object = lambda _: None) -> None:
    path = folder / "history.jsonl"
    history, _ = read_history(path)
    options = LoopOptions(num_candidates=total, fidelity=FIDELITY, seed=seed, progress=tell)  # type: ignore[arg-type]
    with SerialSession(Judge()) as session:
        search_loop(small_problem(), RandomSearch(), session, history, GuardedFile(path), options=options)


def names(address: str) -> set[str]:
    return {file.path for file in place(address, where="t").listing()}


def test_a_run_goes_on_from_its_address_alone_with_the_history_of_one_run(address: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    RunFolder.create(here, MANIFEST)
    with mirrored(here, address, every=0.05):
        search(here, 5)
        (here / "models" / "abc").mkdir(parents=True)
        (here / "models" / "abc" / "model.onnx").write_bytes(b"\0\1")
    assert restore(address, there)
    assert (there / "history.jsonl").read_bytes() == (here / "history.jsonl").read_bytes()
    assert (there / "models" / "abc" / "model.onnx").read_bytes() == b"\0\1"
    assert RunFolder(path=there).manifest()["seed"] == 1
    with mirrored(there, address, every=0.05):
        search(there, 9)
    search(here, 9)  # the same seed, without a mirror
    rows = [[e.candidate.architecture.row for e in read_history(path / "history.jsonl")[0]] for path in (here, there)]
    assert rows[0] == rows[1]
    assert not {name for name in names(address) if name.startswith(("lease", ".", "logs", "checkpoints"))}


def test_at_every_moment_the_address_holds_a_beginning_of_the_history(address: str, tmp_path: Path) -> None:
    here = tmp_path / "here"
    RunFolder.create(here, MANIFEST)
    seen: list[int] = []

    def look(progress: Progress) -> None:
        time.sleep(0.01)
        copy = tmp_path / f"copy{len(seen)}"
        restore(address, copy)
        there = read_history(copy / "history.jsonl")[0]
        mine = read_history(here / "history.jsonl")[0]
        assert list(there) == list(mine)[: len(there)]
        seen.append(len(there))

    with mirrored(here, address, every=0.02):
        search(here, 12, tell=look)
    assert seen == sorted(seen)
    assert seen[-1] > 0


def test_two_searches_at_one_address_are_told_apart(address: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    RunFolder.create(one, MANIFEST)
    RunFolder.create(two, MANIFEST)
    with mirrored(one, address, every=0.1), pytest.raises(UserError, match="is being written by process"):
        mirrored(two, address, every=0.1).__enter__()
    search(one, 2)
    search(two, 2, seed=9)
    with mirrored(one, address, every=0.1):
        pass
    with pytest.raises(UserError, match=r"holds another history\.jsonl"):
        mirrored(two, address, every=0.1).__enter__()
    with pytest.raises(UserError, match="have gone on apart"):
        restore(address, two)


def test_the_lease_of_a_process_of_this_machine_that_is_gone_is_not_waited_for(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    RunFolder.create(here, MANIFEST)
    driver = this_driver()
    with monkeypatch.context() as patch:
        patch.setattr(mirror_module, "this_driver", lambda: {**driver, "born": "1"})  # its number was given again
        Mirror(here, place(address, where="t")).start(silence=0.1)
    began = time.monotonic()
    next_one = Mirror(here, place(address, where="t"))
    next_one.start(silence=60)
    assert time.monotonic() - began < 30
    next_one.close()


def test_a_search_that_was_taken_over_stops_writing_there(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    RunFolder.create(here, MANIFEST)
    mirror = Mirror(here, place(address, where="t"))
    with monkeypatch.context() as patch:
        patch.setattr(mirror_module, "this_driver", lambda: {"process": 7, "host": "another"})
        mirror.start(silence=0.1)
    other = Mirror(here, place(address, where="t"))
    other.start(silence=0.1, tell=lambda _: None)
    with pytest.raises(UserError, match="was taken over by process"):
        mirror.sync()
    other.close()


def test_a_copy_here_that_is_further_stays(address: str, tmp_path: Path) -> None:
    here = tmp_path / "here"
    RunFolder.create(here, MANIFEST)
    with mirrored(here, address, every=9):
        search(here, 2)
    search(here, 4)
    assert not restore(address, here)
    assert len(read_history(here / "history.jsonl")[0]) == 4


def test_a_place_that_fails_for_a_while_is_told_twice_and_holds_all_in_the_end(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    RunFolder.create(here, MANIFEST)
    said: list[str] = []
    fails = threading.Event()
    sync = Mirror.sync

    def failing(self: Mirror) -> None:
        if fails.is_set():
            raise OSError("the server is away")
        sync(self)

    monkeypatch.setattr(Mirror, "sync", failing)
    with mirrored(here, address, every=0.02, tell=said.append):
        fails.set()
        search(here, 3)
        time.sleep(0.2)
        fails.clear()
        time.sleep(0.2)
    assert len(said) == 2
    assert "cannot be written (the server is away): the run goes on in" in said[0]
    assert "holds all there is" in said[1]
    assert restore(address, tmp_path / "there")
    assert len(read_history(tmp_path / "there" / "history.jsonl")[0]) == 3


def test_a_last_copy_that_fails_is_an_error_that_says_where_the_run_is(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    RunFolder.create(here, MANIFEST)

    def refuse(self: Mirror) -> None:
        raise OSError("no such bucket")

    with (
        pytest.raises(UserError, match=rf"the run is complete in {here}; go on with run.resume={here}"),
        mirrored(here, address, every=9),
    ):
        monkeypatch.setattr(Mirror, "close", refuse)


def test_a_missing_or_damaged_piece_is_told(address: str, tmp_path: Path) -> None:
    here, source = tmp_path / "here", place(address, where="t")
    RunFolder.create(here, MANIFEST)
    mirror = Mirror(here, source)
    mirror.start(silence=0.1)
    for total in (1, 2, 3):
        search(here, total)
        mirror.sync()
    mirror.close()
    pieces = sorted(name for name in names(address) if name.startswith("history.jsonl.d/"))
    assert len(pieces) == 3
    content = source.read(pieces[1])
    source.write(pieces[1], content[:-3])
    with pytest.raises(UserError, match="is damaged"):
        restore(address, tmp_path / "there")
    source.remove(pieces[1])
    with pytest.raises(UserError, match="a piece is missing"):
        restore(address, tmp_path / "there")
    assert not (tmp_path / "there" / "history.jsonl").exists()


def test_an_address_without_a_run_is_told(address: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run\.resume: must be a run folder"):
        restore(address, tmp_path / "there")


def test_a_line_that_is_being_written_comes_with_the_next_piece(address: str, tmp_path: Path) -> None:
    here = tmp_path / "here"
    RunFolder.create(here, MANIFEST)
    mirror = Mirror(here, place(address, where="t"))
    mirror.start(silence=0.1)
    (here / "history.jsonl").write_bytes(b'{"a": 1}\n{"b"')
    mirror.sync()
    assert restore(address, tmp_path / "there")
    assert (tmp_path / "there" / "history.jsonl").read_bytes() == b'{"a": 1}\n'
    (here / "history.jsonl").write_bytes(b'{"a": 1}\n{"b": 2}\n')
    mirror.close()
    assert restore(address, tmp_path / "there")
    assert (tmp_path / "there" / "history.jsonl").read_bytes() == b'{"a": 1}\n{"b": 2}\n'


def test_the_working_copy_of_an_address_is_the_same_folder_each_time(tmp_path: Path) -> None:
    first = working_copy("s3://bucket/runs/a", cache=tmp_path)
    assert first == working_copy("s3://bucket/runs/a/", cache=tmp_path)
    assert first.name == "a"
    assert first != working_copy("s3://bucket/runs2/a", cache=tmp_path)


def test_the_growing_files_are_those_of_the_run_folder() -> None:
    folder = RunFolder(path=Path("x"))
    assert {folder.history_file.name, folder.baseline_file.name} == set(mirror_module.GROWING)
    assert len(History()) == 0
