"""Pareto local search: one step away from what is on the front.

References:
    [Paquete2004] Paquete, Chiarandini, Stützle. Pareto local optimum sets in the biobjective traveling salesman
        problem: an experimental study. Metaheuristics for Multiobjective Optimisation, Springer 2004.
    [White2021] White, Nolen, Savani. Exploring the loss landscape in neural architecture search. UAI 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from nas.problem.front import cost_matrix, crowding, elite, non_dominated
from nas.problem.history import History
from nas.strategy.checks import require_at_least
from nas.strategy.initial import initial_design
from nas.strategy.novelty import NEIGHBOURHOODS, anywhere, around, select_new
from nas.strategy.problem import Population, SearchProblem


@dataclass(frozen=True, kw_only=True)
class ParetoLocalSearch:
    """Proposes a new neighbour of a member of the front, while a member has any; then of the next best.

    The member is the one with the largest crowding distance out of a few random ones, so that gaps and ends of the
    front come first. One whose neighbourhood is exhausted costs nothing but the look at it: the search goes on at the
    others. Only when nothing near the best is new does it draw from the whole space.

    Attributes:
        num_initial: evaluations of the initial design (`nas.strategy.initial`).
        tournament_size: how many members are compared to find the one to step from; 1: any.
    """

    num_initial: int = 10
    tournament_size: int = 4

    def __post_init__(self) -> None:
        require_at_least("num_initial", self.num_initial, 1)
        require_at_least("tournament_size", self.tournament_size, 1)

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        """See `nas.strategy.problem.SearchStrategy`."""
        costs = cost_matrix(history, problem.objectives)
        fallback = anywhere(problem, history, n, rng)
        if len(history) + len(pending) < self.num_initial or np.isnan(costs).all():
            return select_new(problem, history, pending, n, initial_design(problem, history, pending, n, rng))
        near = self._steps(problem, history.rows, costs, n, rng)
        return select_new(problem, history, pending, n, chain(near, fallback))

    def _steps(
        self, problem: SearchProblem, rows: Population, costs: NDArray[np.float64], n: int, rng: np.random.Generator
    ) -> Iterator[Population]:
        """Neighbours of the winners on the front, of the rest of the front, and of the best behind it."""
        front = np.flatnonzero(non_dominated(costs))
        num_steps = max(2, n)
        entrants = rng.permuted(np.tile(np.arange(len(front)), (num_steps, 1)), axis=1)[:, : self.tournament_size]
        winners = entrants[np.arange(num_steps), crowding(costs[front])[entrants].argmax(axis=1)]
        first = front[list(dict.fromkeys(winners.tolist()))]
        yield around(problem, rows[first], rng)
        others = rng.permutation(np.setdiff1d(front, first))
        yield around(problem, rows[others[:NEIGHBOURHOODS]], rng)
        behind = elite(costs, len(front) + NEIGHBOURHOODS)[len(front) :]
        yield around(problem, rows[behind], rng)
