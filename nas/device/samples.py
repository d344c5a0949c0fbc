"""Which architectures to measure for a latency model.

Responsible for the mix of random and designed ones. Random ones are what the bound and the quality come from: only
they are exchangeable with what is met later. Designed ones make the fit well determined where random ones are alike:
they are chosen greedily so that the determinant of the fit's information matrix grows most (D-optimal design
[Fedorov1972]), from a pool of random ones and given those that are measured anyway.

References:
    [Fedorov1972] V. V. Fedorov. Theory of Optimal Experiments. Academic Press, 1972.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.errors import UserError
from nas.model.population_costs import PopulationCosts
from nas.space.moves import Population, sample
from nas.space.space import SearchSpace

MIN_SAMPLES = 12
DESIGNED_SHARE = 0.25
_POOL = 200
_ROUNDS = 20
_REGULARISATION = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Architectures to measure.

    Attributes:
        population: ``(n, m)`` canonical rows that can be built; the random ones first. Distinct, unless the space has
            too few: then each comes several times.
        random: ``(n,)``, which were drawn at random.
    """

    population: Population
    random: NDArray[np.bool_]


def choose_samples(
    space: SearchSpace,
    costs: PopulationCosts,
    n: int,
    rng: np.random.Generator,
    *,
    designed_share: float = DESIGNED_SHARE,
) -> Plan:
    """``n`` architectures to measure; fewer where the space does not have as many that can be built.

    All of a space with fewer than `MIN_SAMPLES` are measured in turns until there are as many measurements: how they
    scatter is what is left to know there.

    Args:
        space: to choose from.
        costs: features of its architectures.
        n: how many, at least `MIN_SAMPLES`.
        rng: source of randomness; equal generators give equal plans.
        designed_share: share of designed ones, in [0, 0.5].

    Raises:
        UserError: ``n`` too small, or a space in which nothing can be built.
    """
    if n < MIN_SAMPLES:
        raise UserError("samples", f"must be at least {MIN_SAMPLES}, got {n}", "28 is usual")
    assert 0 <= designed_share <= 0.5
    pool = _distinct_buildable(space, costs, max(_POOL, 4 * n), rng)
    if not len(pool):
        problem = "must have an architecture that can be built for the data, none was found"
        raise UserError(f"space {space.name}", problem, "allow larger resolutions, or smaller strides")
    if len(pool) < MIN_SAMPLES:
        turns = np.arange(MIN_SAMPLES) % len(pool)
        return Plan(population=pool[turns], random=np.ones(MIN_SAMPLES, dtype=np.bool_))
    num_designed = min(int(n * designed_share), len(pool) - MIN_SAMPLES)
    num_random = min(n - num_designed, len(pool) - num_designed)
    features = costs.features(pool)
    designed = designed_rows(features, num_random, num_designed)
    chosen = np.concatenate([np.arange(num_random), designed]).astype(np.intp)
    return Plan(population=pool[chosen], random=np.arange(len(chosen)) < num_random)


def _distinct_buildable(space: SearchSpace, costs: PopulationCosts, n: int, rng: np.random.Generator) -> Population:
    """Up to ``n`` distinct rows in the order of drawing; fewer when `_ROUNDS` draws of ``n`` give no more."""
    found: Population = np.zeros((0, len(space.choices)), dtype=np.int16)
    for _ in range(_ROUNDS):
        rows = sample(space, n, rng)
        found = np.concatenate([found, rows[costs.buildable(rows)]])
        _, first = np.unique(found, axis=0, return_index=True)
        found = found[np.sort(first)][:n]
        if len(found) >= min(n, space.size):
            break
    return found


def designed_rows(features: NDArray[np.float64], num_given: int, num_designed: int) -> NDArray[np.intp]:
    """Indices of ``num_designed`` rows beyond the first ``num_given`` that add most to the determinant.

    Args:
        features: ``(n, F)``, at least 0.
        num_given: the first rows, which are measured anyway.
        num_designed: how many to add, at most ``n - num_given``.

    Rows are scaled to shares, as a fit of relative errors sees them.
    """
    scaled = features[:, features.any(axis=0)]
    scaled = scaled / scaled.mean(axis=0)
    scaled /= np.maximum(scaled.sum(axis=1, keepdims=True), 1e-12)
    return augmented_design(scaled, num_given, num_designed, regularisation=_REGULARISATION)[num_given:]


def augmented_design(
    features: NDArray[np.float64], num_given: int, num_designed: int, *, regularisation: float = 1e-2
) -> NDArray[np.intp]:
    """The first ``num_given`` rows, and the ``num_designed`` others that add most to the determinant, one by one.

    Args:
        features: ``(n, F)``, as the fit sees them.
        num_given: the first rows, which are measured anyway.
        num_designed: how many to add, at most ``n - num_given``.
        regularisation: of the information matrix before any row is in it.

    Adding a row x multiplies the determinant of the information matrix M by 1 + x' M^-1 x.
    """
    inverse = np.eye(features.shape[1]) / regularisation
    # The gains x' M^-1 x are updated, not computed anew: a pool may have thousands of rows.
    gains = np.square(features).sum(axis=1) / regularisation
    open_rows = np.ones(len(features), dtype=bool)
    chosen = list(range(num_given))
    for place in range(num_given + num_designed):
        best = chosen[place] if place < num_given else int(np.where(open_rows, gains, -np.inf).argmax())
        if place >= num_given:
            chosen.append(best)
        open_rows[best] = False
        step = inverse @ features[best]
        scale = 1 + float(features[best] @ step)
        gains -= np.square(features @ step) / scale
        inverse -= np.outer(step, step) / scale
    return np.array(chosen, dtype=np.intp)
