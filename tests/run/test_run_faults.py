"""Each evaluation is recorded once and only once, whatever the session, the disk and the driver do."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_problem import FIDELITY, Judge, small_problem

from nas.errors import UserError
from nas.problem.evaluation import Candidate, Evaluation
from nas.problem.history import History, HistoryFile, read_history
from nas.run.guarded_file import GuardedFile
from nas.run.loop import LoopOptions, LoopResult, Stopped, search_loop
from nas.run.patience import Patience
from nas.run.progress import Progress
from nas.run.serial import SerialSession
from nas.strategy.random_search import RandomSearch


class Killed(BaseException):
    """The driver is no more: nothing that comes after it runs."""


@dataclass
class Clock:
    """Time that passes only where somebody sleeps."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


class Faulty(SerialSession):
    """Three slots; gives evaluations late, in another order, twice, or comes back with nothing."""

    def __init__(self, faults: deque[str]) -> None:
        super().__init__(Judge())
        self._faults = faults
        self._again: list[Evaluation] = []
        self._slots = 3

    @property
    def num_slots(self) -> int:  # type: ignore[override]
        return self._slots

    def wait(self, timeout: float | None = None) -> list[Evaluation]:
        fault = self._faults.popleft() if self._faults else ""
        if fault == "nothing":
            return []
        if fault == "fewer slots":
            self._slots = 1
        if fault == "more slots":
            self._slots = 5
        if fault == "another order":
            self._queue.rotate(1)
        found = super().wait(timeout)
        if fault == "twice":
            self._again += found
            return [*found, *found]
        if fault == "late again":
            return [*self._again, *found]
        return found


class Disk:
    """A store that fails as a disk does: before, in the middle, and after the line was written."""

    def __init__(self, path: Path, faults: deque[str]) -> None:
        self._path = path
        self._file = GuardedFile(path)
        self._faults = faults
        self.acknowledged: list[int] = []

    def append(self, evaluation: Evaluation) -> None:
        fault = self._faults.popleft() if self._faults else ""
        if fault in ("full", "torn", "unsure"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "ftruncate", _refuse)
                if fault == "full":
                    patch.setattr(os, "write", _refuse)
                if fault == "torn":
                    write = os.write
                    patch.setattr(os, "write", lambda file, line: write(file, line[: len(line) // 2]))
                if fault == "unsure":
                    patch.setattr(os, "fsync", _refuse)
                self._file.append(evaluation)
            raise AssertionError("a fault must be told")
        self._file.append(evaluation)
        if fault == "killed":
            raise Killed
        self.acknowledged.append(evaluation.candidate.index)


def _refuse(*_: object) -> int:
    raise OSError(28, "No space left on device")


def run(path: Path, total: int, *, session: SerialSession, store: Disk, clock: Clock) -> LoopResult:
    options = LoopOptions(
        num_candidates=total, fidelity=FIDELITY, seed=3,
        patience=Patience(seconds=600, tell=lambda _: None, sleep=clock.sleep, clock=clock),
    )  # fmt: skip
    return search_loop(small_problem(), RandomSearch(), session, read_history(path)[0], store, options=options)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    waits=st.lists(
        st.sampled_from(["", "nothing", "twice", "late again", "another order", "fewer slots", "more slots"])
    ),
    disks=st.lists(st.sampled_from(["", "", "full", "torn", "unsure", "killed"]), max_size=25),
)
def test_whatever_fails_each_acknowledged_evaluation_is_recorded_once(
    tmp_path_factory: pytest.TempPathFactory, waits: list[str], disks: list[str]
) -> None:
    path = tmp_path_factory.mktemp("run") / "history.jsonl"
    faults, acknowledged, clock = deque(disks), [], Clock()
    for _ in range(len(disks) + 1):  # each kill is followed by a resume
        session, store = Faulty(deque(waits)), Disk(path, faults)
        try:
            result = run(path, 12, session=session, store=store, clock=clock)
        except Killed:
            continue
        finally:
            acknowledged += store.acknowledged
        break
    history, note = read_history(path)
    indices = [evaluation.candidate.index for evaluation in history]
    assert note == ""
    assert (result.reason, len(indices), len(set(indices))) == ("complete", 12, 12)
    assert set(acknowledged) <= set(indices)
    assert len(set(acknowledged)) == len(acknowledged)
    assert len({evaluation.candidate.architecture.row for evaluation in history}) == 12


def test_a_full_disk_is_waited_for_and_told_once(tmp_path: Path) -> None:
    clock, said = Clock(), []
    store = Disk(tmp_path / "h", deque(["", "full", "full", "full", "full"]))
    options = LoopOptions(
        num_candidates=3, fidelity=FIDELITY, seed=3,
        patience=Patience(seconds=600, tell=said.append, sleep=clock.sleep, clock=clock),
    )  # fmt: skip
    history = History()
    with SerialSession(Judge()) as session:
        search_loop(small_problem(), RandomSearch(), session, history, store, options=options)
    assert clock.slept == [1, 2, 4, 8]
    assert [evaluation.candidate.index for evaluation in history] == [0, 1, 2]
    assert list(read_history(tmp_path / "h")[0]) == list(history)
    assert len(said) == 2
    assert "No space left on device; the search waits for it" in said[0]
    assert said[1] == "it can be written again after 0:15; the search goes on, nothing is lost"


def test_a_disk_that_stays_full_ends_the_search_with_one_line(tmp_path: Path) -> None:
    clock = Clock()
    store = Disk(tmp_path / "h", deque(["", *["full"] * 1000]))
    with pytest.raises(UserError, match="No space left on device; all earlier results are kept"):
        run(tmp_path / "h", 3, session=SerialSession(Judge()), store=store, clock=clock)
    assert 600 <= clock.now <= 660
    assert len(read_history(tmp_path / "h")[0]) == 1


def test_an_interrupt_while_the_disk_is_full_ends_at_once(tmp_path: Path) -> None:
    clock = Clock()

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    store = Disk(tmp_path / "h", deque(["", "full"]))
    options = LoopOptions(
        num_candidates=5, fidelity=FIDELITY, seed=3,
        patience=Patience(seconds=600, tell=lambda _: None, sleep=interrupt, clock=clock),
    )  # fmt: skip
    with pytest.raises(Stopped, match="2 of 5"):  # the one that waited is recorded now that there is room
        search_loop(
            small_problem(), RandomSearch(), SerialSession(Judge()), History(), store, options=options
        )  # fmt: skip
    assert len(read_history(tmp_path / "h")[0]) == 2


def test_storage_that_is_away_is_not_begun_anew(tmp_path: Path) -> None:
    clock, away = Clock(), tmp_path / "away"
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "h"
    moments = iter(range(100))

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if next(moments) == 2:
            (tmp_path / "run").rmdir()  # what is mounted there meanwhile is empty
            away.rename(tmp_path / "run")

    def tell(progress: Progress) -> None:
        if progress.done == 2:
            (tmp_path / "run").rename(away)
            (tmp_path / "run").mkdir()

    options = LoopOptions(
        num_candidates=5, fidelity=FIDELITY, seed=3, progress=tell,
        patience=Patience(seconds=600, tell=lambda _: None, sleep=sleep, clock=clock),
    )  # fmt: skip
    with SerialSession(Judge()) as session:
        search_loop(small_problem(), RandomSearch(), session, History(), GuardedFile(path), options=options)
    assert [evaluation.candidate.index for evaluation in read_history(path)[0]] == list(range(5))


def test_what_another_process_writes_into_the_history_ends_the_search(tmp_path: Path) -> None:
    path, other = tmp_path / "h", []

    class Meddled(Judge):
        def __call__(self, candidate: Candidate) -> Evaluation:
            found = super().__call__(candidate)
            if candidate.index == 2:
                HistoryFile(path).append(other[0])
            else:
                other.append(found)
            return found

    options = LoopOptions(num_candidates=9, fidelity=FIDELITY, seed=3)
    with SerialSession(Meddled()) as session, pytest.raises(UserError, match="another process changed it"):
        search_loop(small_problem(), RandomSearch(), session, History(), GuardedFile(path), options=options)


def test_a_clock_that_is_set_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = iter([1e9, -1e9] * 10_000)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    moments: list[Progress] = []
    options = LoopOptions(num_candidates=9, fidelity=FIDELITY, seed=3, progress=moments.append)
    with SerialSession(Judge()) as session:
        search_loop(
            small_problem(), RandomSearch(), session, History(), GuardedFile(tmp_path / "h"), options=options
        )  # fmt: skip
    assert all(0 <= moment.seconds < 60 for moment in moments)
    assert all(0 <= evaluation.seconds < 60 for evaluation in read_history(tmp_path / "h")[0])
