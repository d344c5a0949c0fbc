"""How good a search was: hypervolume by evaluation, and how many evaluations a level takes.

References:
    [Kaplan1958] Kaplan, Meier. Nonparametric estimation from incomplete observations. Journal of the American
        Statistical Association 53, 1958.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.problem.front import hypervolume, non_dominated

Floats = NDArray[np.float64]

REFERENCE = np.array([1.1, 1.1])


class Scorer:
    """Normalised hypervolume: objectives scaled by ideal and nadir of the true front, reference (1.1, 1.1).

    Args:
        points: ``(n, 2)`` all architectures of the table, finite.

    What is worse than the reference is clipped to it, so that it adds nothing. An objective in which the whole front is
    equal counts as reached.
    """

    def __init__(self, points: Floats) -> None:
        front = points[non_dominated(points)]
        self._ideal = front.min(axis=0)
        width = front.max(axis=0) - self._ideal
        self._width = np.where(width > 0, width, 1.0)
        self.front_size = len(np.unique(front, axis=0))
        self._full = hypervolume(self._scaled(front), REFERENCE)

    def _scaled(self, points: Floats) -> Floats:
        return np.clip((points - self._ideal) / self._width, 0.0, REFERENCE)

    def curve(self, points: Floats) -> Floats:
        """``(t,)`` share of the true front's hypervolume after each of the evaluations ``(t, 2)``, in order."""
        scaled = self._scaled(points)
        front = np.zeros((0, 2))
        values, value = np.zeros(len(points)), 0.0
        for t, point in enumerate(scaled):
            if not (front <= point).all(axis=1).any():
                front = np.vstack([front[~(point <= front).all(axis=1)], point])
                value = hypervolume(front, REFERENCE) / self._full
            values[t] = value
        return values


def median_evaluations(curves: Sequence[Floats], level: float) -> float:
    """Kaplan-Meier median of the evaluations until a curve reaches ``level`` [Kaplan1958]; infinite if not reached.

    A search that ends before is censored there.
    """
    reached = [np.flatnonzero(curve >= level) for curve in curves]
    times = np.array([hit[0] + 1 if len(hit) else len(curve) for hit, curve in zip(reached, curves, strict=True)])
    events = np.array([len(hit) > 0 for hit in reached])
    surviving = 1.0
    for time in np.unique(times[events]):
        at_risk = np.count_nonzero(times >= time)
        surviving *= 1.0 - np.count_nonzero(events & (times == time)) / at_risk
        if surviving <= 0.5:
            return float(time)
    return float("inf")
