"""What the history says of an objective that only training can tell, and what is believed of new rows.

Responsible for the way from evaluations to beliefs: the scale on which the process works, evaluations of several
fidelities, and the chance that an evaluation fails.

A cost that cannot fall below a floor (an error below 0, so an accuracy above 1) is modelled by the logarithm of its
distance from it: networks that differ by a factor in error are as far apart at 5 % as at 50 %.

References:
    [Kennedy2000] Kennedy, O'Hagan. Predicting the output from a complex computer code when fast approximations are
        available. Biometrika 87(1), 2000. (Fidelities that differ by a shift and by a correlated part.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.problem.goals import Objective
from nas.problem.history import History
from nas.problem.metrics import Metric
from nas.strategy.surrogate.improvement import Belief, LogNormal, Normal

Floats = NDArray[np.float64]

SMALLEST_SHARE = 0.1  # of the smallest positive distance from the floor, for values that stand on it
SHIFT_COUNTS = 2.0  # evaluations by which the shift of a fidelity is drawn to 0


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The scale on which a cost is modelled.

    Attributes:
        floor: below which the cost cannot fall; None: there is none, and the cost is modelled as it is.
        least: smallest distance from the floor that is told apart.
    """

    floor: float | None
    least: float = 0.0

    @classmethod
    def of(cls, metric: Metric, costs: Floats) -> Scale:
        """The scale of a metric with finite ``costs`` (n,) seen so far."""
        floor = -1.0 if metric.maximize and metric.dimension == "share" else None if metric.maximize else 0.0
        if floor is None or (len(costs) and costs.min() < floor):
            return cls(floor=None)
        distances = costs[costs > floor] - floor
        return cls(floor=floor, least=SMALLEST_SHARE * float(distances.min(initial=1.0)))

    def forward(self, costs: Floats) -> Floats:
        """Costs to model values."""
        return costs if self.floor is None else np.log(np.maximum(costs - self.floor, self.least))

    def back(self, values: Floats) -> Floats:
        """Model values to costs: the median where the values are means."""
        return values if self.floor is None else np.exp(values) + self.floor

    def belief(self, mean: Floats, deviation: Floats) -> Belief:
        """A belief about costs from one about model values."""
        if self.floor is None:
            return Normal(mean=mean, deviation=deviation)
        return LogNormal(mean=mean, deviation=deviation, floor=self.floor)


def fidelity_costs(history: History, positions: NDArray[np.int64]) -> Floats:
    """``(t,)`` relative cost of the fidelity at which some evaluations were made."""
    return np.array([history[place].candidate.fidelity.cost for place in positions.tolist()], dtype=np.float64)


def objective_costs(history: History, objective: Objective) -> Floats:
    """``(n,)`` costs as judged, minimised; NaN where there is no finite one."""
    costs = objective.sign * history.figure(objective.key)
    return np.where(np.isfinite(costs), costs, np.nan)


def without_shift(values: Floats, fidelities: Floats, alike: Floats) -> Floats:
    """``(t,)`` model values of several fidelities, moved to the level of the highest one [Kennedy2000].

    Args:
        values: ``(t,)`` as judged.
        fidelities: ``(t,)`` relative cost of each; the largest is the one that counts.
        alike: ``(t, t)`` in [0, 1], how alike two architectures are; 1 for the same one.

    The shift of a lower fidelity is the mean difference between its evaluations and the highest fidelity's, weighted by
    how alike the architectures are, and drawn to 0 where little is alike.
    """
    top = fidelities == fidelities.max()
    moved = values.copy()
    for level in np.unique(fidelities[~top]):
        here = fidelities == level
        weights = alike[np.ix_(here, top)] ** 4
        gaps = values[top][None, :] - values[here][:, None]
        moved[here] += float((weights * gaps).sum()) / (float(weights.sum()) + SHIFT_COUNTS)
    return moved


def chance_of_result(alike: Floats, succeeded: NDArray[np.bool_]) -> Floats:
    """``(n,)`` chance that an evaluation has a result, in (0, 1).

    Args:
        alike: ``(t, n)`` in [0, 1], how alike each evaluated architecture and each new one are.
        succeeded: ``(t,)`` whether there was a result.

    A weighted share, drawn to the share over the whole history where nothing alike was tried.
    """
    overall = (succeeded.sum() + 1.0) / (len(succeeded) + 2.0)
    weights = alike**2
    return np.asarray((overall + succeeded.astype(np.float64) @ weights) / (1.0 + weights.sum(axis=0)))
