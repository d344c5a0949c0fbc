"""Cost fronts: the control. It learns nothing, and evaluates in the order of what is known before training.

Responsible for showing what a search gets from known costs alone: a strategy that learns has to beat it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nas.problem.history import History
from nas.strategy.capacity import known_pool, ranks_of
from nas.strategy.initial import initial_design
from nas.strategy.novelty import anywhere, select_new
from nas.strategy.problem import Population, SearchProblem

TIES = 1e-9  # of a standard deviation: of networks of equal size, the dearer ones are let in by chance


@dataclass(frozen=True, kw_only=True)
class CostFronts:
    """Peels Pareto fronts of high capacity against low known cost, and evaluates one after the other in random order.

    Capacity is the size of the live network as far as it is known (`nas.strategy.capacity`). Results are not looked at.
    In a space that is too large to enumerate, fronts are those of draws and of mutants of the best draws. Where nothing
    tells capacity, it spreads evaluations over the known cost (`nas.strategy.initial`).
    """

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        """See `nas.strategy.problem.SearchStrategy`."""
        return select_new(problem, history, pending, n, self._peeled(problem, history, pending, n, rng))

    def _peeled(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Iterator[Population]:
        pool = known_pool(problem, history, rng)
        if pool.capacity is None:
            yield from initial_design(problem, history, pending, n, rng)
            return
        points = pool.points()
        points[:, -1] += TIES * rng.random(len(points))
        order = np.lexsort((rng.random(len(points)), ranks_of(points)))
        # In slices, as each proposal needs the first rows only, and all are looked at again by the screen.
        for start in range(0, len(order), 1024):
            yield pool.rows[order[start : start + 1024]]
        yield from anywhere(problem, history, n, rng)
