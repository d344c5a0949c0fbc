"""A search problem with closed-form figures, for the tests of the loop and the drivers they start."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.goals import objectives_from
from nas.space.space import SearchSpace
from nas.strategy.problem import Population, Screening, SearchProblem

KEY = "latency_ms.d"
CHANNELS = [8, 16, 24, 32]


def small_space(num_choices: int = 3) -> SearchSpace:
    """``4 ** num_choices`` architectures."""
    layers = [{"name": f"layer{k}", "op": "conv", "channels": {"choose": CHANNELS}} for k in range(num_choices)]
    return SearchSpace.from_template({"name": "small", "network": [*layers, {"op": "classifier"}]})


def screen(population: Population) -> Screening:
    """Latency is a tenth of a millisecond an index; everything above 0.8 ms is infeasible."""
    predicted = 0.1 + 0.1 * population.sum(axis=1).astype(np.float64)
    feasible = predicted <= 0.8 + 1e-9
    return Screening(
        feasible=feasible,
        buildable=np.ones(len(population), dtype=bool),
        predicted={KEY: predicted},
        upper={KEY: predicted * 1.1},
    )


def small_problem(num_choices: int = 3) -> SearchProblem:
    objectives = objectives_from(["accuracy", "latency"], device="d")
    return SearchProblem(space=small_space(num_choices), objectives=objectives, screen=screen)


@dataclass(frozen=True)
class Judge:
    """Accuracy that grows with the indices and depends on the seed a little; each third row fails, if asked."""

    seconds: float = 0.0
    fails: bool = False

    def __call__(self, candidate: Candidate) -> Evaluation:
        time.sleep(self.seconds)
        total = sum(candidate.architecture.row)
        if self.fails and total % 3 == 2:
            raise RuntimeError("loss became NaN")
        accuracy = 0.5 + 0.05 * total + 1e-3 * (candidate.seed % 7)
        return Evaluation(candidate=candidate, status="complete", metrics={"accuracy": accuracy})


FIDELITY = Fidelity(epochs=1)
