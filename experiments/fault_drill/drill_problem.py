"""A space of exactly 200 architectures with known results, some of which do all that a candidate can do wrong."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.goals import objectives_from
from nas.space.space import SearchSpace
from nas.strategy.problem import Population, Screening, SearchProblem

COUNT = 200
KEY = "latency_ms.d"
FIDELITY = Fidelity(epochs=1)
_PLACES = 4 ** np.arange(4)


def problem() -> SearchProblem:
    layers = [
        {"name": f"layer{k}", "op": "conv", "channels": {"choose": [8, 16, 24, 32]}} for k in range(4)
    ]  # fmt: skip
    space = SearchSpace.from_template({"name": "drill", "network": [*layers, {"op": "classifier"}]})
    return SearchProblem(space=space, objectives=objectives_from(["accuracy", "latency"], device="d"), screen=_screen)


def _screen(population: Population) -> Screening:
    numbers = np.asarray(population, dtype=np.int64) @ _PLACES
    return Screening(
        feasible=numbers < COUNT,
        buildable=np.ones(len(population), dtype=bool),
        predicted={KEY: 0.1 + 0.01 * ((numbers * 37) % COUNT)},
        upper={},
    )


def kind_of(number: int) -> str:
    """What architecture ``number`` does."""
    return {3: "hangs once", 11: "raises", 19: "takes all memory", 27: "kills its worker"}.get(number % 40, "works")


@dataclass(frozen=True)
class Work:
    """Judges a candidate in ``seconds``; the result follows from the architecture alone.

    Attributes:
        seconds: that it takes.
        folder: for the marks of those that hang at their first attempt; None: nothing goes wrong but what is known.
    """

    seconds: float
    folder: Path | None = None

    def __call__(self, candidate: Candidate) -> Evaluation:
        number = int(np.asarray(candidate.architecture.row, dtype=np.int64) @ _PLACES)
        kind = kind_of(number)
        _compute(self.seconds)
        if kind == "hangs once" and self.folder is not None and not (self.folder / str(number)).exists():
            (self.folder / str(number)).touch()
            time.sleep(3600)
        if kind == "raises":
            raise RuntimeError("loss became NaN")
        if kind == "takes all memory":
            if self.folder is None:
                raise MemoryError
            np.ones(4 * 10**9)
        if kind == "kills its worker":
            if self.folder is None:
                raise RuntimeError("it would kill its worker")
            os._exit(9)
        accuracy = 0.5 + 0.4 * ((number * 91) % COUNT) / COUNT
        return Evaluation(candidate=candidate, status="complete", metrics={"accuracy": accuracy})


def _compute(seconds: float) -> None:
    """Passes time, with a little work in it: what only sleeps shows no sign of life."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)
        sum(range(2000))
