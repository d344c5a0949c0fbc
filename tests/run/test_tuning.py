"""Trials on a Ray that runs: who is stopped, what is left of a lost worker, and what is never unpickled."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nas.errors import UserError
from nas.run.ray_runner import RayRunner
from nas.run.runner import Workers
from nas.run.tuning import Assignment, Rung, Tuning, run_trials
from nas.run.tuning_schedulers import SchedulerName, Scheduling

EPOCHS = 9


@dataclass(frozen=True)
class Climb:
    """A trial whose score is its ``level`` from the first look on; it leaves a line for each look in a file."""

    folder: Path
    lost: int = -1  # place of a trial whose first attempt kills its worker

    def __call__(self, assignment: Assignment) -> Iterator[Rung]:
        done = self.folder / f"{assignment.place}.txt"
        for epoch in (1, 3, EPOCHS):
            with done.open("a") as file:
                file.write(f"{epoch} {assignment.token}\n")
            if assignment.place == self.lost and done.read_text().count("\n") == 1:
                os._exit(1)
            yield Rung(epoch=epoch, score=float(assignment.fields.get("level", 0)), files={"state": done})

    def epochs(self, place: int) -> list[int]:
        return [int(line.split()[0]) for line in (self.folder / f"{place}.txt").read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_ray: Workers) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def tuning(folder: Path, name: SchedulerName) -> Tuning:
    return Tuning(
        settings=[{}, {"level": 0.9}, {"level": 0.8}, {"level": 0.1}],
        space={},
        scheduling=Scheduling(name=name, epochs=EPOCHS, grace=1, eta=3, interval=3),
        seed=0,
        folder=folder / "ray",
    )


def test_the_worst_are_stopped_the_spared_is_not_and_a_lost_worker_costs_a_trial_nothing(folder: Path) -> None:
    home = {path.name for path in Path.home().iterdir()}
    work = Climb(folder=folder, lost=1)
    run_trials(work, tuning(folder, "asha"), runner=RayRunner(workers=2))
    assert work.epochs(0) == [1, 3, EPOCHS]
    assert work.epochs(1) == [1, 1, 3, EPOCHS]
    assert work.epochs(3) == [1]
    assert {path.name for path in Path.home().iterdir()} == home

    # What has ended does not begin again.
    run_trials(work, tuning(folder, "asha"), runner=RayRunner(workers=2))
    assert work.epochs(0) == [1, 3, EPOCHS]


class Trap:
    """Tells that it was unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_state_that_was_not_written_here_is_not_unpickled(folder: Path) -> None:
    sprung = folder / "sprung"
    planted = folder / "ray" / "tune" / "tuner.pkl"
    planted.parent.mkdir(parents=True)
    planted.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(UserError) as caught:
        run_trials(Climb(folder=folder), tuning(folder, "none"), runner=RayRunner(workers=2))
    assert "read by pickle" in caught.value.problem
    assert "tune.restore=false" in caught.value.advice
    assert not sprung.exists()
    assert planted.is_file()
