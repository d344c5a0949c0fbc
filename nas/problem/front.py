"""Pareto dominance over matrices of costs: fronts, ranks, crowding, hypervolume.

Responsible for comparing evaluations. A cost is minimised: objectives that are maximised come in negated
(`cost_matrix`). A row with NaN stands for an evaluation that has no result: everything dominates it, and it dominates
nothing, another such row included.

References:
    [Deb2002] Deb, Pratap, Agarwal, Meyarivan. A fast and elitist multiobjective genetic algorithm: NSGA-II. IEEE
        Transactions on Evolutionary Computation 6(2), 2002.
"""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.problem.goals import Objective
from nas.problem.history import History


def cost_matrix(history: History, objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """(n, k) costs, minimised: a metric that is maximised comes with its sign turned.

    A metric that an evaluation lacks is taken from what was predicted for its candidate. A row is all NaN where the
    evaluation is not complete, or any of its figures is missing, NaN or infinite.
    """
    costs = np.column_stack([objective.sign * history.figure(objective.key) for objective in objectives])
    costs[~np.isfinite(costs).all(axis=1)] = np.nan
    return costs


def non_dominated(costs: ArrayLike) -> NDArray[np.bool_]:
    """(n,) True where no other row is at least as good everywhere and better somewhere.

    Copies of a non-dominated row are all non-dominated; rows with NaN never are.
    """
    matrix, valid = _matrix(costs)
    result = np.zeros(len(matrix), dtype=bool)
    if valid.any():
        result[valid] = moocore.is_nondominated(matrix[valid], keep_weakly=True)
    return result


def pareto_rank(costs: ArrayLike) -> NDArray[np.int64]:
    """(n,) number of fronts that must be taken off before a row is non-dominated [Deb2002, III.A]; from 0.

    Equal rows share their rank. Rows with NaN share the rank behind the last front.
    """
    matrix, valid = _matrix(costs)
    ranks = np.zeros(len(matrix), dtype=np.int64)
    if valid.any():
        ranks[valid] = moocore.pareto_rank(matrix[valid])
        ranks[~valid] = ranks[valid].max() + 1
    return ranks


def hypervolume(costs: ArrayLike, reference: ArrayLike) -> float:
    """Volume that the rows dominate inside the box below ``reference`` (k,); a row outside of it adds nothing."""
    matrix, valid = _matrix(costs)
    corner = np.asarray(reference, dtype=np.float64)
    assert corner.shape == (matrix.shape[1],), f"one reference value an objective, got {corner.shape}"
    return float(moocore.hypervolume(matrix[valid], ref=corner)) if valid.any() else 0.0


def crowding(costs: ArrayLike) -> NDArray[np.float64]:
    """(n,) crowding distance within one front [Deb2002, III.B]: large where neighbours are far away.

    Each objective is scaled to its range over the front. The ends of an objective, and a row that is alone, have
    infinite distance; later copies of a row, and rows with NaN, have 0. Costs are finite or NaN.
    """
    matrix, valid = _matrix(costs)
    distance = np.zeros(len(matrix))
    if not valid.any():
        return distance
    points, first = np.unique(matrix[valid], axis=0, return_index=True)
    inner = np.full(len(points), np.inf if len(points) == 1 else 0.0)
    for column in points.T:
        order = np.argsort(column, kind="stable")
        values = column[order]
        width = values[-1] - values[0]
        if width > 0:
            inner[order[[0, -1]]] = np.inf
            inner[order[1:-1]] += (values[2:] - values[:-2]) / width
    distance[np.flatnonzero(valid)[first]] = inner
    return distance


def elite(costs: ArrayLike, size: int) -> NDArray[np.int64]:
    """(at most ``size``,) positions of the best rows, best first.

    They are ordered by rank, then by crowding [Deb2002, III.C], then by position. Rows with NaN are left out. Only as
    many fronts are taken off as are needed.
    """
    matrix, valid = _matrix(costs)
    rest = np.flatnonzero(valid)
    if matrix.shape[1] == 1:
        return rest[np.argsort(matrix[rest, 0], kind="stable")][:size]
    chosen: list[NDArray[np.int64]] = []
    missing = size
    while missing > 0 and rest.size:
        on_front = non_dominated(matrix[rest])
        front = rest[on_front]
        best_first = front[np.argsort(-crowding(matrix[front]), kind="stable")]
        chosen.append(best_first[:missing])
        missing -= len(chosen[-1])
        rest = rest[~on_front]
    return np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)


def _matrix(costs: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The costs as (n, k) float64, and which rows hold no NaN."""
    matrix = np.asarray(costs, dtype=np.float64)
    assert matrix.ndim == 2, f"costs must be (n, k), got {matrix.shape}"
    return matrix, np.asarray(~np.isnan(matrix).any(axis=1), dtype=np.bool_)
