"""NSGA-III: generations bred from the best, spread over reference directions instead of by crowding.

References:
    [Deb2014] Deb, Jain. An evolutionary many-objective optimization algorithm using reference-point-based nondominated
        sorting approach, part I. IEEE Transactions on Evolutionary Computation 18(4), 2014.
    [Das1998] Das, Dennis. Normal-boundary intersection. SIAM Journal on Optimization 8(3), 1998.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from nas.problem.front import cost_matrix, pareto_rank
from nas.problem.history import History
from nas.space.moves import crossover, mutate
from nas.strategy.checks import require_at_least, require_share
from nas.strategy.initial import initial_design
from nas.strategy.novelty import ROUNDS, anywhere, mutants, select_new
from nas.strategy.problem import Population, SearchProblem

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NSGA3:
    """[Deb2014] on the generations of the history, as `nas.strategy.nsga2` counts them; for three and more objectives.

    Attributes:
        population_size: evaluations a generation, and parents.
        crossover_share: probability that a child has two parents; each child is mutated, too.
    """

    population_size: int = 12
    crossover_share: float = 0.9

    def __post_init__(self) -> None:
        require_at_least("population_size", self.population_size, 2)
        require_share("crossover_share", self.crossover_share)

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        """See `nas.strategy.problem.SearchStrategy`."""
        costs = cost_matrix(history, problem.objectives)
        judged = np.flatnonzero(~np.isnan(costs[:, 0]))
        earlier = judged[: len(judged) // self.population_size * self.population_size]
        fallback = anywhere(problem, history, n, rng)
        if len(earlier) == 0:
            return select_new(problem, history, pending, n, initial_design(problem, history, pending, n, rng))
        parents = history.rows[earlier[survivors(costs[earlier], self.population_size)]]
        children = self._children(problem, parents, n, rng)
        return select_new(problem, history, pending, n, chain(children, mutants(problem, parents, n, rng), fallback))

    def _children(
        self, problem: SearchProblem, parents: Population, n: int, rng: np.random.Generator
    ) -> Iterator[Population]:
        """Batches of mutants of parents and of their crossovers."""
        for _ in range(ROUNDS):
            size = max(16, 4 * n)
            first, second = parents[rng.integers(len(parents), size=(2, size))]
            mixed = crossover(problem.space, first, second, rng)
            both = rng.random((size, 1)) < self.crossover_share
            yield mutate(problem.space, np.where(both, mixed, first), rng)


def survivors(costs: Floats, size: int) -> NDArray[np.int64]:
    """Positions of ``size`` rows of finite ``costs`` (n, k), by rank, then one by one from the emptiest niche.

    [Deb2014] Alg. 1 to 4, with costs scaled from ideal to nadir of the first front instead of by intercepts. Of equal
    niches the first direction counts, of equal rows the first, so that the answer follows from the costs alone.
    """
    ranks = pareto_rank(costs)
    order = np.argsort(ranks, kind="stable")
    if len(order) <= size:
        return order
    last = ranks[order[size - 1]]
    chosen = np.flatnonzero(ranks < last).tolist()
    open_rows = np.flatnonzero(ranks == last).tolist()
    niches, distances = _niches(costs, ranks, size)
    filled = np.bincount(niches[chosen], minlength=int(niches.max()) + 1)
    while len(chosen) < size:
        best = min(open_rows, key=lambda row: (filled[niches[row]], niches[row], distances[row]))
        chosen.append(best)
        open_rows.remove(best)
        filled[niches[best]] += 1
    return np.array(chosen, dtype=np.int64)


def _niches(costs: Floats, ranks: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], Floats]:
    """``(n,)`` nearest reference direction of each row, and the distance to it, in scaled costs."""
    front = costs[ranks == 0]
    width = np.ptp(front, axis=0)
    scaled = (costs - front.min(axis=0)) / np.where(width > 0, width, 1.0)
    directions = reference_directions(costs.shape[1], size)
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    along = scaled @ directions.T
    away = np.sqrt(np.maximum(np.square(scaled).sum(axis=1)[:, None] - along**2, 0.0))
    nearest = away.argmin(axis=1)
    return nearest, away[np.arange(len(costs)), nearest]


def reference_directions(num_objectives: int, size: int) -> Floats:
    """``(d, k)`` points evenly spread over the unit simplex [Das1998]: the most with ``d <= size``, at least k."""
    parts = 1
    while num_objectives > 1 and comb(parts + num_objectives, num_objectives - 1) <= size:
        parts += 1
    bars = combinations(range(parts + num_objectives - 1), num_objectives - 1)
    edges = [(-1, *bar, parts + num_objectives - 1) for bar in bars]
    return (np.diff(np.array(edges), axis=1) - 1) / parts
