"""Regularised evolution: tournaments among the youngest, so that only what is found again and again lives on.

References:
    [Real2019] Real, Aggarwal, Huang, Le. Regularized evolution for image classifier architecture search. AAAI 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from nas.errors import UserError
from nas.problem.front import cost_matrix, crowding, pareto_rank
from nas.problem.history import History
from nas.space.moves import mutate
from nas.strategy.checks import require_at_least
from nas.strategy.initial import initial_design
from nas.strategy.novelty import ROUNDS, anywhere, select_new
from nas.strategy.problem import Population, SearchProblem


@dataclass(frozen=True, kw_only=True)
class RegularisedEvolution:
    """[Real2019] Alg. 1, for several objectives: a tournament is won by rank, then by crowding distance.

    The population is the latest ``population_size`` evaluations that have a result: age counts, not merit.

    Attributes:
        population_size: how many live; as many make the initial design (`nas.strategy.initial`).
        tournament_size: how many are compared to find the parent of one child.
    """

    population_size: int = 20
    tournament_size: int = 5

    def __post_init__(self) -> None:
        require_at_least("population_size", self.population_size, 2)
        require_at_least("tournament_size", self.tournament_size, 1)
        if self.tournament_size > self.population_size:
            raise UserError(
                "strategy.tournament_size",
                f"must be at most population_size ({self.population_size}), got {self.tournament_size}",
            )

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        """See `nas.strategy.problem.SearchStrategy`."""
        costs = cost_matrix(history, problem.objectives)
        alive = np.flatnonzero(~np.isnan(costs[:, 0]))[-self.population_size :]
        fallback = anywhere(problem, history, n, rng)
        num_started = len(history) + len(pending)
        if num_started < self.population_size or len(alive) == 0:
            return select_new(problem, history, pending, n, initial_design(problem, history, pending, n, rng))
        children = self._children(problem, history.rows[alive], _order(costs[alive]), n, rng)
        return select_new(problem, history, pending, n, chain(children, fallback))

    def _children(
        self,
        problem: SearchProblem,
        rows: Population,
        order: NDArray[np.int64],
        n: int,
        rng: np.random.Generator,
    ) -> Iterator[Population]:
        """Batches of mutants of the winners of tournaments among ``rows``, of which the lowest ``order`` wins."""
        size = min(self.tournament_size, len(rows))
        for _ in range(ROUNDS):
            num_children = max(16, 4 * n)
            entrants = rng.permuted(np.tile(np.arange(len(rows)), (num_children, 1)), axis=1)[:, :size]
            winners = entrants[np.arange(num_children), order[entrants].argmin(axis=1)]
            yield mutate(problem.space, rows[winners], rng)


def _order(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) place of each row when sorted by rank, then by crowding distance within its rank; 0 is the best."""
    ranks = pareto_rank(costs)
    distance = np.zeros(len(costs))
    for rank in range(int(ranks.max()) + 1):
        members = ranks == rank
        distance[members] = crowding(costs[members])
    place = np.empty(len(costs), dtype=np.int64)
    place[np.lexsort((-distance, ranks))] = np.arange(len(costs))
    return place
