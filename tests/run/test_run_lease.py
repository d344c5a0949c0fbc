"""Who may write a run folder that several machines see."""

from __future__ import annotations

import errno
import fcntl
import json
import threading
import time
from pathlib import Path

import pytest

from nas.errors import UserError
from nas.run.folder import RunFolder
from nas.run.heartbeat import this_driver
from nas.run.lease import LEASE, LeaseTimes, check_holder, leased

QUICK = LeaseTimes(renew=0.1, missed=3, settle=0.05)
ELSEWHERE = {"process": 7, "host": "node9", "boot": "b", "born": "1", "token": "t", "beat": 3}


def write(folder: Path, record: dict[str, object]) -> None:
    (folder / LEASE).write_text(json.dumps(record))


def test_a_lease_names_its_holder_is_renewed_and_is_gone_afterwards(tmp_path: Path) -> None:
    with leased(tmp_path, times=QUICK):
        first = json.loads((tmp_path / LEASE).read_text())
        assert {key: first[key] for key in this_driver()} == this_driver()
        check_holder(tmp_path, this_driver())
        until = time.monotonic() + 10
        while json.loads((tmp_path / LEASE).read_text())["beat"] <= first["beat"]:
            assert time.monotonic() < until
            time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []


def test_the_lease_of_a_living_process_of_this_machine_is_respected_at_once(tmp_path: Path) -> None:
    write(tmp_path, {**this_driver(), "token": "t", "beat": 0})
    begin = time.monotonic()
    with pytest.raises(UserError, match=rf"is being written by process {this_driver()['process']} on "):
        leased(tmp_path).__enter__()
    assert time.monotonic() - begin < 1


def test_that_of_a_process_that_is_gone_is_taken_over_at_once(tmp_path: Path) -> None:
    write(tmp_path, {**this_driver(), "born": "1", "token": "t", "beat": 0})  # the number was given to another one
    begin = time.monotonic()
    with leased(tmp_path):
        assert time.monotonic() - begin < 1


def test_another_machines_lease_that_is_renewed_is_respected(tmp_path: Path) -> None:
    write(tmp_path, ELSEWHERE)
    timer = threading.Timer(0.1, write, (tmp_path, {**ELSEWHERE, "beat": 4}))
    timer.start()
    with pytest.raises(UserError, match="is being written by process 7 on node9; wait for it"):
        leased(tmp_path, times=QUICK).__enter__()
    timer.join()


def test_another_machines_lease_that_is_silent_is_taken_over_after_a_while_which_is_told(tmp_path: Path) -> None:
    write(tmp_path, ELSEWHERE)
    said: list[str] = []
    begin = time.monotonic()
    with leased(tmp_path, times=QUICK, tell=said.append):
        assert time.monotonic() - begin >= 0.3
        check_holder(tmp_path, this_driver())
    assert said == [f"{tmp_path} was being written by process 7 on node9: watching for 0.3 s whether it still is"]


def test_a_holder_that_slept_finds_its_lease_taken_and_neither_writes_nor_removes_it(tmp_path: Path) -> None:
    with leased(tmp_path, times=QUICK):
        write(tmp_path, ELSEWHERE)
        time.sleep(0.3)
        with pytest.raises(UserError, match="was taken over by process 7 on node9"):
            check_holder(tmp_path, this_driver())
    assert json.loads((tmp_path / LEASE).read_text()) == ELSEWHERE


def test_of_two_that_come_at_once_one_gets_it(tmp_path: Path) -> None:
    for _ in range(20):
        got: list[int] = []
        gate = threading.Barrier(3)

        def take(got: list[int] = got, gate: threading.Barrier = gate) -> None:
            gate.wait()
            try:
                with leased(tmp_path, times=QUICK):
                    got.append(1)
                    time.sleep(0.02)
            except UserError:
                got.append(0)

        threads = [threading.Thread(target=take) for _ in range(3)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(got) == 3
        assert got.count(1) == 1


@pytest.mark.parametrize("text", ["{", "[]", "{}", ""])
def test_garbage_is_watched_like_a_lease_and_then_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / LEASE).write_text(text)
    said: list[str] = []
    with leased(tmp_path, times=QUICK, tell=said.append):
        check_holder(tmp_path, this_driver())
    assert len(said) == 1


def test_a_lease_that_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    (tmp_path / LEASE).mkdir()
    with pytest.raises(UserError, match="cannot be written: Is a directory"):
        leased(tmp_path, times=QUICK).__enter__()


def test_a_run_folder_without_locks_is_kept_by_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder = RunFolder(path=tmp_path)
    with folder.locked(), pytest.raises(UserError, match="is being written by process"), folder.locked():
        pass
    with folder.locked():
        pass


def test_what_a_killed_driver_had_not_finished_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    left = [tmp_path / ".manifest.json.99.partial", tmp_path / "checkpoints" / "abc-1.safetensors.99.part"]
    kept = [tmp_path / "history.jsonl", tmp_path / "checkpoints" / "abc-1.safetensors"]
    for path in (*left, *kept):
        path.touch()
    with RunFolder(path=tmp_path).locked():
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in kept)
