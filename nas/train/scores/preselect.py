"""Scores in place of labels, while there are few: a strategy's proposals are judged before they are trained.

Responsible for which proposals are passed over. Scores grow with the size of a network, and so does its latency; a row
is therefore held against networks of about the same cost, or a search would be left with the dear ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas.errors import UserError
from nas.problem.history import History
from nas.strategy.capacity import known_costs
from nas.strategy.novelty import draw
from nas.strategy.problem import Population, SearchProblem, SearchStrategy
from nas.strategy.surrogate.features import logarithms
from nas.train.checks import check_number
from nas.train.scores.aggregate import aggregate

Floats = NDArray[np.float64]

REFERENCE_SEED = 0  # the reference must be the same for all proposals of a search
DRAWS = 16  # draws for one feasible reference network, at most


class Scores(Protocol):
    """Rows ``(n, m)`` -> name -> ``(n,)``, larger is better, NaN where there is none.

    `nas.train.scores.population.PopulationScores` is one.
    """

    def __call__(self, population: Population) -> Mapping[str, Floats]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Preselect:
    """A strategy that asks another one for more than is wanted, and passes over what scores worst for its cost.

    Attributes:
        strategy: proposes.
        scores: judges; those that it gives are aggregated by rank (`nas.train.scores.aggregate`).
        until: evaluations, from which on the strategy is left alone: labels are then worth more.
        share: of the proposals that is kept, in (0, 1).
        reference: networks drawn from the space that a row is compared with, scored once.
        neighbours: of these, that are nearest in the first known cost.
    """

    strategy: SearchStrategy
    scores: Scores
    until: int = 30
    share: float = 0.5
    reference: int = 64
    neighbours: int = 15

    def __post_init__(self) -> None:
        check_number("scores.until", self.until, low=0, integer=True)
        check_number("scores.share", self.share, low=0, high=1, above_low=True, below_high=True)
        check_number("scores.reference", self.reference, low=2, integer=True)
        check_number("scores.neighbours", self.neighbours, low=2, integer=True)
        if self.neighbours > self.reference:
            rule = f"must be at most scores.reference ({self.reference}), got {self.neighbours}"
            raise UserError("scores.neighbours", rule)

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        """See `nas.strategy.problem.SearchStrategy`: the strategy's order, but what is passed over comes last."""
        if len(history) + len(pending) >= self.until or n < 1:
            return self.strategy.propose(problem, history, pending, n, rng)
        rows = self.strategy.propose(problem, history, pending, int(np.ceil(n / self.share)), rng)
        if len(rows) <= n:
            return rows
        return rows[np.argsort(~self._good(problem, rows), kind="stable")[:n]]

    def _good(self, problem: SearchProblem, rows: Population) -> NDArray[np.bool_]:
        """``(n,)`` whether a row scores as well as the best share of the reference networks nearest to it in cost."""
        reference = self._reference(problem)
        if len(reference) < self.neighbours:
            return np.ones(len(rows), dtype=np.bool_)
        together = np.concatenate([reference, rows])
        scores = self.scores(together)
        values = aggregate(scores, tuple(scores))
        costs = known_costs(problem, problem.screen(together))
        levels = logarithms(costs[:, 0]) if costs.shape[1] else np.zeros(len(together))
        split = len(reference)
        good = np.zeros(len(rows), dtype=np.bool_)
        for k in range(len(rows)):
            steps = levels[:split] - levels[split + k]
            near = np.argsort(np.abs(steps), kind="stable")[: self.neighbours]
            # Without the slope the cheapest rows would be held against dearer ones only, which score higher.
            trend = _slope(steps[near], values[near]) * steps[near]
            good[k] = values[split + k] >= np.quantile(values[near] - trend, 1 - self.share)
        return good

    def _reference(self, problem: SearchProblem) -> Population:
        """Feasible rows drawn from the space, the same ones each time."""
        rows = draw(problem, DRAWS * self.reference, np.random.default_rng(REFERENCE_SEED))
        return np.ascontiguousarray(rows[problem.screen(rows).feasible][: self.reference])


def _slope(steps: Floats, values: Floats) -> float:
    """Of the line of least squares, with a free intercept; 0 where all steps are equal."""
    centred = steps - steps.mean()
    squares = float(centred @ centred)
    return float(centred @ values) / squares if squares > 1e-12 else 0.0
