"""Where the surrogate begins: large networks of every cost.

Responsible for the first few proposals, made before there is anything to learn from.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nas.problem.history import History
from nas.strategy.capacity import known_pool, on_front
from nas.strategy.initial import initial_design, target
from nas.strategy.problem import Population, SearchProblem

UNSURE = 0.1  # standard deviations of capacity by which each search sees it differently
WANDER = 0.5  # share of the gap to the next target by which a target may be missed


def first_rows(
    problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
) -> Iterator[Population]:
    """Batches of rows, the first ``n`` of them spread over the front of capacity against the first known cost.

    Evaluation ``k`` of a search, counted over history and pending, is the member of that front nearest to target ``k``
    on a logarithmic scale of cost (`nas.strategy.initial.target`, the ends first). Where cost or capacity is not known,
    and behind the front, rows come from `nas.strategy.initial`.
    """
    pool = known_pool(problem, history, rng)
    if len(pool.rows) and pool.capacity is not None and pool.costs.shape[1]:
        points = pool.points()
        points[:, -1] += UNSURE * rng.standard_normal(len(points))
        front = on_front(points)
        costs = pool.costs[front, 0]
        levels = np.log(np.maximum(costs, costs[costs > 0].min(initial=1.0))) if (costs > 0).any() else costs
        levels = (levels - levels.min()) / (np.ptp(levels) or 1.0)
        seen = history.row_keys | {row.tobytes() for row in np.asarray(pending, dtype=np.int16)}
        left = [place for place, row in enumerate(pool.rows[front]) if row.tobytes() not in seen]
        started = len(history) + len(pending)
        nearest: list[int] = []
        for k in range(started, started + n):
            wanted = target(k) + (rng.uniform(-WANDER, WANDER) / k if k >= 2 else 0.0)
            left.sort(key=lambda place: abs(levels[place] - wanted))
            nearest.extend(left[:1])
            left = left[1:]
        yield pool.rows[front[nearest + left]]
    yield from initial_design(problem, history, pending, n, rng)
