"""Descent over neighbours: what a space can reach in a figure that is known before training.

Responsible for looking beyond a sample where the sample holds nothing that will do. A bounded search, not a proof.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.problem.goals import Budget
from nas.space.moves import neighbours
from nas.space.space import SearchSpace
from nas.strategy.problem import Population, Screening
from nas.strategy.screening import Screen

STARTS = 4  # rows that a descent starts from
MAX_STEPS = 200  # steps from each

Cost = Callable[[Screening], NDArray[np.float64]]


def descend(
    screen: Screen, space: SearchSpace, population: Population, screening: Screening, cost: Cost
) -> tuple[Population, Screening]:
    """The row (1, m) of lowest cost that is found from the best rows of ``population``, with its screening.

    Args:
        screen: judges rows.
        space: of the population.
        population: (n, m) rows to start from, at least one.
        screening: of the population.
        cost: screening -> (n,) what to make small; infinite for rows that must not be taken.
    """
    values = cost(screening)
    starts = np.argsort(values, kind="stable")[:STARTS]
    best, lowest = population[starts[:1]], values[starts[0]]
    for start in starts:
        row, value = population[start], values[start]
        for _ in range(MAX_STEPS):
            near = neighbours(space, row)
            if len(near) == 0:
                break
            near_values = cost(screen(near))
            step = int(near_values.argmin())
            if not near_values[step] < value:
                break
            row, value = near[step], near_values[step]
        if value < lowest:
            best, lowest = row[np.newaxis], value
    return best, screen(best)


def cost_of(key: str, *, maximize: bool) -> Cost:
    """What a budget on a metric is held against, as a cost; infinite where it is NaN or the row cannot be built."""

    def cost(screening: Screening) -> NDArray[np.float64]:
        values = screening.deciding(key)
        return np.where(screening.buildable & ~np.isnan(values), -values if maximize else values, np.inf)

    return cost


def violation_of(budgets: Sequence[Budget]) -> Cost:
    """How far budgets are missed together: the sum of what each lacks, relative to its limit. 0 where all are kept."""

    def cost(screening: Screening) -> NDArray[np.float64]:
        total = np.where(screening.buildable, 0.0, np.inf)
        for budget in budgets:
            values = screening.deciding(budget.key)
            excess = (budget.limit - values if budget.metric.maximize else values - budget.limit) / budget.limit
            total += np.where(np.isnan(excess), np.inf, np.maximum(excess, 0.0))
        return total

    return cost
