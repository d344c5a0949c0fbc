"""Capacity against cost: what is known of architectures before training says who is worth a training.

Responsible for one figure of how much a network can hold, and for the fronts of it against the costs that a search
wants low. Among architectures of one latency the larger one is most often the better one, so these fronts find much of
the true front without a single result (`experiments/tabular_search`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.problem.front import elite, non_dominated, pareto_rank
from nas.problem.goals import Objective
from nas.problem.history import History
from nas.problem.metrics import METRICS
from nas.space.moves import mutate
from nas.strategy.novelty import draw
from nas.strategy.problem import Population, Screening, SearchProblem
from nas.strategy.surrogate.features import everyone, figures_of_built, is_small, logarithms, views_of
from nas.strategy.surrogate.live_graph import live_size

Floats = NDArray[np.float64]

OF_DEVICE = {metric.name for metric in METRICS.values() if metric.of_device}  # slow does not mean large
DRAWS = (1024, 8192, 32_768)  # rows drawn in a larger one, more while too few are feasible
ENOUGH = 128  # feasible rows
ROUNDS = 4  # of mutants of the front, in a larger space
MUTANTS = 512  # a round


@dataclass(frozen=True, kw_only=True)
class KnownPool:
    """Feasible rows with what is known of them.

    Attributes:
        rows: ``(n, m)``.
        costs: ``(n, k)`` the objectives that are known, as costs; ``k`` may be 0.
        capacity: ``(n,)`` without unit, standardised over the rows; None where nothing tells.
    """

    rows: Population
    costs: Floats
    capacity: Floats | None

    def points(self) -> Floats:
        """``(n, k + 1)`` costs, and capacity as one."""
        return np.column_stack([self.costs, np.zeros(len(self.rows)) if self.capacity is None else -self.capacity])


def known_pool(problem: SearchProblem, history: History, rng: np.random.Generator) -> KnownPool:
    """All feasible rows of a small space; in a larger one the history, draws, and mutants of their front."""
    if is_small(problem):
        rows, _, _ = everyone(problem)
        return pool_of(problem, rows)
    pool = pool_of(problem, history.rows.reshape(len(history), problem.space.num_choices))
    for size in DRAWS:
        pool = pool_of(problem, np.concatenate([pool.rows, draw(problem, size, rng)]))
        if len(pool.rows) >= ENOUGH:
            break
    for _ in range(ROUNDS if len(pool.rows) else 0):
        parents = pool.rows[elite(pool.points(), MUTANTS // 8)]
        children = mutate(problem.space, parents[rng.integers(len(parents), size=MUTANTS)], rng)
        pool = pool_of(problem, np.concatenate([pool.rows, children]))
    return pool


def pool_of(problem: SearchProblem, rows: Population) -> KnownPool:
    """The feasible ones of some rows, each once."""
    rows = np.unique(rows, axis=0) if not is_small(problem) else rows
    screening = problem.screen(rows)
    feasible = np.flatnonzero(screening.feasible)
    kept = np.ascontiguousarray(rows[feasible])
    return KnownPool(
        rows=kept,
        costs=known_costs(problem, screening)[feasible],
        capacity=capacity_of(problem, kept, figures_of(screening, feasible)),
    )


def known_costs(problem: SearchProblem, screening: Screening) -> Floats:
    """``(n, k)`` the objectives that the screen tells, as costs; NaN becomes the worst of its column."""
    columns = []
    for objective in known_objectives(problem, screening):
        values = objective.sign * screening.predicted[objective.key]
        worst = values[np.isfinite(values)].max(initial=0.0)
        columns.append(np.where(np.isfinite(values), values, worst))
    return np.column_stack(columns) if columns else np.zeros((len(screening.feasible), 0))


def known_objectives(problem: SearchProblem, screening: Screening) -> list[Objective]:
    """The objectives that the screen tells, in the problem's order."""
    return [
        objective
        for objective in problem.objectives
        if objective.metric.known_before_training and objective.key in screening.predicted
    ]


def figures_of(screening: Screening, positions: NDArray[np.int64] | slice) -> dict[str, Floats]:
    """All figures that the screen tells of some of the rows, by metric key."""
    return {key: np.asarray(values, dtype=np.float64)[positions] for key, values in screening.predicted.items()}


def capacity_of(problem: SearchProblem, rows: Population, figures: dict[str, Floats]) -> Floats | None:
    """``(n,)`` the mean of the standardised logarithms of what tells the size of a network.

    These are the weights in the live part of cells; in a space without cells all known figures of the network itself
    that are not objectives (MACs, parameters, …). None where there are none, or none that differ.
    """
    views = views_of(problem.described)
    pushed = {objective.key for objective in problem.objectives}
    figures = figures_of_built(problem.described, figures)
    told = {key: values for key, values in figures.items() if key not in pushed and key.split(".")[0] not in OF_DEVICE}
    signals = [np.log1p(live_size(view, rows)) for view in views] or [logarithms(values) for values in told.values()]
    varied = [(signal - signal.mean()) / signal.std() for signal in signals if len(signal) and signal.std() > 1e-9]
    return np.mean(varied, axis=0) if varied else None


def on_front(points: Floats) -> NDArray[np.int64]:
    """Positions of the non-dominated points, by the first coordinate."""
    front = np.flatnonzero(non_dominated(points))
    return front[np.argsort(points[front, 0], kind="stable")]


def ranks_of(points: Floats) -> NDArray[np.int64]:
    """``(n,)`` number of fronts before each point's own."""
    return pareto_rank(points) if len(points) else np.zeros(0, dtype=np.int64)
