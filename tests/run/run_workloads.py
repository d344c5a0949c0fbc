"""Work for the tests of runners: what a candidate does follows from its fidelity's epochs, read as a code."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.space.architecture import Architecture


def candidate_of(index: int) -> Candidate:
    architecture = Architecture(row=(index % 4,), choices={"a": str(index % 4)}, digest=f"{index:016x}")
    return Candidate(index=index, architecture=architecture, fidelity=Fidelity(epochs=1), seed=index)


def complete(candidate: Candidate, **metrics: float) -> Evaluation:
    return Evaluation(candidate=candidate, status="complete", metrics=metrics)


def succeed(candidate: Candidate) -> Evaluation:
    return complete(candidate, accuracy=0.5)


def tell_process(candidate: Candidate) -> Evaluation:
    time.sleep(0.05)
    return complete(candidate, process=os.getpid(), threads=float(os.environ["OMP_NUM_THREADS"]))


def raise_error(candidate: Candidate) -> Evaluation:
    raise ValueError("kernel 5 does not fit\nand a second line")


def raise_memory_error(candidate: Candidate) -> Evaluation:
    raise MemoryError


def exit_python(candidate: Candidate) -> Evaluation:
    sys.exit(3)


def exit_process(candidate: Candidate) -> Evaluation:
    os._exit(4)


def take_memory(candidate: Candidate) -> Evaluation:
    return complete(candidate, total=float(np.ones(10**9 if candidate.index == 0 else 10**6).sum()))


def sleep_long(candidate: Candidate) -> Evaluation:
    if candidate.index == 0:
        time.sleep(60)
    return succeed(candidate)


def give_nonsense(candidate: Candidate) -> object:
    return "0.97"


class Holder:
    """Holds an array, as the work of a training holds the data set."""

    def __init__(self, size: int) -> None:
        self.array = np.arange(size, dtype=np.int64)

    def __call__(self, candidate: Candidate) -> Evaluation:
        return complete(candidate, last=float(self.array[-1]), owned=float(self.array.flags.owndata))


class DiesOnce:
    """Kills its worker at the first attempt at each candidate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, candidate: Candidate) -> Evaluation:
        marker = self.folder / str(candidate.index)
        if not marker.exists():
            marker.touch()
            os._exit(1)
        return succeed(candidate)
