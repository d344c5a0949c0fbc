"""The surrogate's beliefs: one process for each metric that only training can tell.

Responsible for what the history teaches about the rows of a pool, and for keeping that up to date while a batch is put
together: a row that is chosen, or being evaluated, is taken to come out as expected [Ginsbourger2010].

References:
    [Ginsbourger2010] Ginsbourger, Le Riche, Carraro. Kriging is well-suited to parallelize optimization. Computational
        Intelligence in Expensive Optimization Problems, Springer 2010. (Kriging believer.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.problem.goals import Objective
from nas.problem.history import History
from nas.strategy.surrogate.features import Features, Scaling
from nas.strategy.surrogate.improvement import Belief
from nas.strategy.surrogate.outcomes import Scale, chance_of_result, objective_costs, without_shift
from nas.strategy.surrogate.process import FIT_AT_MOST, GaussianProcess, Posterior, fit_process, squared_distances

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The part of the history that the surrogate learns from.

    Attributes:
        positions: ``(t,)`` in the history, rising.
        features: of these rows.
        fidelities: ``(t,)`` relative cost of the judgement.
        complete: ``(t,)`` whether all objectives came out.
    """

    positions: NDArray[np.int64]
    features: Features
    fidelities: Floats
    complete: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Learned:
    """One metric, learned.

    Attributes:
        process: over model values.
        scale: from model values to costs and back.
        scaling: of features.
        used: ``(t,)`` which of the evidence it was fitted to.
        expected: ``(t',)`` noise-free costs of the evidence used, at the highest fidelity.
    """

    process: GaussianProcess
    scale: Scale
    scaling: Scaling
    used: NDArray[np.bool_]
    expected: Floats

    def groups(self, features: Features) -> list[Floats]:
        """Features as the process takes them: a row is asked about at the highest fidelity."""
        groups = self.scaling(features)
        if len(self.process.groups) > len(groups):
            groups.append(np.zeros((len(groups[0]), 1)))
        return groups

    def posterior(self, features: Features) -> Posterior:
        """Beliefs about model values."""
        return self.process.posterior(self.groups(features))


def learn(
    history: History, objective: Objective, evidence: Evidence, scaling: Scaling, rng: np.random.Generator
) -> Learned | None:
    """What the evidence teaches of one metric; None where there are fewer than two results."""
    costs = objective_costs(history, objective)[evidence.positions]
    used = ~np.isnan(costs)
    if np.count_nonzero(used) < 2:
        return None
    scale = Scale.of(objective.metric, costs[used])
    values = scale.forward(costs[used])
    groups = scaling(evidence.features.take(np.flatnonzero(used)))
    fidelities = evidence.fidelities[used]
    top = float(fidelities.max())
    if (fidelities < top).any():
        alike = np.exp(-sum(_distances(group) for group in groups) / len(groups))
        values = without_shift(values, fidelities, alike)
        steps = np.log(top / fidelities)
        groups.append((steps / steps.max())[:, None])
    rows = np.sort(rng.permutation(len(values))[:FIT_AT_MOST])
    process = fit_process(groups, values, rows=rows)
    if (fidelities < top).any():
        groups[-1] = np.zeros_like(groups[-1])
    expected = scale.back(process.posterior(groups).mean)
    return Learned(process=process, scale=scale, scaling=scaling, used=used, expected=expected)


class Beliefs:
    """Beliefs about the rows of a pool, which change as rows are taken to be evaluated.

    Args:
        learned: the metrics.
        features: of the pool.
    """

    def __init__(self, learned: Sequence[Learned], features: Features) -> None:
        self._learned = learned
        self._groups = [item.groups(features) for item in learned]
        self._posteriors = [item.process.posterior(groups) for item, groups in zip(learned, self._groups, strict=True)]
        self._explained: list[list[Floats]] = [[] for _ in learned]
        self._variances = [posterior.deviation**2 for posterior in self._posteriors]

    def __len__(self) -> int:
        return len(self._learned)

    def costs(self, k: int) -> Floats:
        """``(n,)`` median cost of metric ``k``."""
        return self._learned[k].scale.back(self._posteriors[k].mean)

    def deviations(self, k: int) -> Floats:
        """``(n,)`` of the model values of metric ``k``."""
        return np.sqrt(self._variances[k])

    def belief(self, k: int) -> Belief:
        """What is believed of the cost of metric ``k``."""
        return self._learned[k].scale.belief(self._posteriors[k].mean, self.deviations(k))

    def take(self, place: int) -> None:
        """Takes one row to be evaluated, with the outcome that is expected of it: the rest becomes surer."""
        one = np.array([place])
        for k, item in enumerate(self._learned):
            groups, solved = self._groups[k], self._posteriors[k].solved
            shared = item.process.covariance(groups, solved, [group[one] for group in groups], solved[:, one])[:, 0]
            for explained in self._explained[k]:
                shared = shared - explained * explained[place]
            spread = np.sqrt(max(float(shared[place]), 0.0) + item.process.noise + 1e-300)
            self._explained[k].append(shared / spread)
            floor = 1e-12 * item.process.variance + 1e-300
            self._variances[k] = np.maximum(self._variances[k] - (shared / spread) ** 2, floor)

    def chance(self, evidence: Evidence) -> Floats:
        """``(n,)`` chance that a row's evaluation has a result; 1 where nothing failed so far."""
        if evidence.complete.all() or not self._learned:
            return np.ones(len(self._groups[0][0]) if self._groups else 0)
        item = self._learned[0]
        groups = item.groups(evidence.features)
        roots = np.sqrt(item.process.weights)
        process_like = [root * group for root, group in zip(roots, groups, strict=True)]
        pool_like = [root * group for root, group in zip(roots, self._groups[0], strict=True)]
        squared = sum(_distances(a, b) for a, b in zip(process_like, pool_like, strict=True))
        return chance_of_result(np.exp(-np.asarray(squared)), evidence.complete)


def _distances(one: Floats, other: Floats | None = None) -> Floats:
    return squared_distances(one, one if other is None else other)
