"""Expected hypervolume improvement, exact, where some objectives are known and others are believed.

Responsible for the acquisition: how much volume a point is expected to add to what a front dominates. The region that
the front leaves is cut into boxes; as beliefs about objectives are independent, the expectation over a box is a product
over objectives. A known objective is a belief without spread.

References:
    [Emmerich2006] Emmerich, Giannakoglou, Naujoks. Single- and multiobjective evolutionary optimization assisted by
        Gaussian random field metamodels. IEEE Transactions on Evolutionary Computation 10(4), 2006.
    [Yang2019] Yang, Emmerich, Deutz, Bäck. Multi-objective Bayesian global optimization using expected hypervolume
        improvement gradient. Swarm and Evolutionary Computation 44, 2019. (Boxes.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nas.problem.front import elite, non_dominated

Floats = NDArray[np.float64]

BOXES_AT_MOST = 1500  # a front that leaves more is thinned
CELLS_AT_ONCE = 4_000_000  # points times boxes that are held in memory


class Belief(Protocol):
    """What is believed of one objective at ``n`` points, as a cost."""

    def shortfall(self, levels: Floats) -> Floats:
        """``(n, e)`` expected ``max(0, level - cost)`` of each point for each of the ``levels`` (e,), all finite."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """Costs ``(n,)`` that are known."""

    values: Floats

    def shortfall(self, levels: Floats) -> Floats:
        """See `Belief`."""
        return np.maximum(levels[None, :] - self.values[:, None], 0.0)


@dataclass(frozen=True, kw_only=True)
class Normal:
    """Costs that are normal with ``mean`` and ``deviation``, both ``(n,)``."""

    mean: Floats
    deviation: Floats

    def shortfall(self, levels: Floats) -> Floats:
        """See `Belief`."""
        gap = levels[None, :] - self.mean[:, None]
        spread = self.deviation[:, None]
        steps = gap / spread
        density = np.exp(-0.5 * steps * steps) / np.sqrt(2 * np.pi)
        return np.asarray(np.maximum(gap * ndtr(steps) + spread * density, 0.0), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class LogNormal:
    """Costs whose distance from ``floor`` has a normal logarithm with ``mean`` and ``deviation``, both ``(n,)``."""

    mean: Floats
    deviation: Floats
    floor: float

    def shortfall(self, levels: Floats) -> Floats:
        """See `Belief`. The price of a European put option, without interest."""
        above = np.maximum(levels - self.floor, 0.0)[None, :]
        spread = self.deviation[:, None]
        with np.errstate(divide="ignore"):
            steps = (np.log(above) - self.mean[:, None]) / spread
        expected = np.exp(self.mean + 0.5 * self.deviation**2)[:, None]
        price = above * ndtr(steps) - expected * ndtr(steps - spread)
        return np.asarray(np.maximum(price, 0.0), dtype=np.float64)


def expected_improvement(beliefs: Sequence[Belief], front: Floats, reference: Floats) -> Floats:
    """``(n,)`` expected hypervolume that each point adds, at least 0.

    Args:
        beliefs: about the objectives, as costs, independent of one another.
        front: ``(f, k)`` finite costs, dominated ones allowed; may be empty. Where it leaves more than 1,500 boxes
            (three objectives or more) it is thinned to its least crowded members.
        reference: ``(k,)`` the corner up to which volume counts.
    """
    lower, upper = boxes_below(front, reference)
    pieces = []
    for k, belief in enumerate(beliefs):
        levels, places = np.unique(np.concatenate([upper[:, k], lower[:, k]]), return_inverse=True)
        finite = np.isfinite(levels)
        table = np.zeros((len(belief.shortfall(levels[:0])), len(levels)))
        table[:, finite] = belief.shortfall(levels[finite])
        pieces.append((table, places[: len(upper)], places[len(upper) :]))
    total = np.zeros(len(pieces[0][0]))
    step = max(1, CELLS_AT_ONCE // max(1, len(total)))
    for start in range(0, len(upper), step):
        part = slice(start, start + step)
        volume = np.ones((len(total), len(upper[part])))
        for table, high, low in pieces:
            volume *= table[:, high[part]] - table[:, low[part]]
        total += volume.sum(axis=1)
    return total


def boxes_below(front: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """Lower (minus infinity allowed) and upper corners ``(b, k)`` of disjoint boxes.

    Together they hold exactly the points below ``reference`` that no member of the front dominates, but for a front
    that is thinned (see `expected_improvement`).
    """
    inside = front[(front < reference).all(axis=1)]
    members = np.unique(inside[non_dominated(inside)], axis=0) if len(inside) else inside
    while True:
        boxes = _boxes(members, reference)
        if len(boxes) <= BOXES_AT_MOST or len(members) < 2:
            lower, upper = zip(*boxes, strict=True)
            return np.array(lower), np.array(upper)
        members = members[np.sort(elite(members, len(members) * 2 // 3))]


Box = tuple[tuple[float, ...], tuple[float, ...]]


def _boxes(front: Floats, reference: Floats) -> list[Box]:
    """Slabs along the last objective, each cut by the members that stand below it, one objective less."""
    if len(reference) == 1:
        return [((-np.inf,), (float(front.min(initial=reference[0])),))]
    order = np.argsort(front[:, -1], kind="stable")
    front = front[order]
    edges = [-np.inf, *front[:, -1].tolist(), float(reference[-1])]
    found: list[Box] = []
    for count, (low, high) in enumerate(pairwise(edges)):
        if high > low:
            flat = front[:count, :-1]
            kept = flat[non_dominated(flat)] if count else flat
            found.extend(((*a, low), (*b, high)) for a, b in _boxes(kept, reference[:-1]))
    return found
