"""Formulas for latency, and the ways to fit one to a few measurements.

Responsible for the numerics of fitting; which way is taken is decided in `nas.device.selection`, by cross-validation.

A latency is close to a sum over kernels, so every formula is linear in features that are such sums, with the latency a
call, a multiply-accumulate or a byte as weights. It may be multiplied by a factor for each option chosen, for what the
features do not know. All fits minimise *relative* errors, since latencies of a space span a factor of ten and more.
Fewer measurements than weights are the rule: weights are kept non-negative, or close to *pooled* ones, which are the
same for all kinds of kernels and need three or four numbers only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Measured architectures, as a fit sees them.

    Attributes:
        features: ``(n, F)``, at least 0.
        one_hot: ``(n, d)``, options chosen.
        latency_ms: ``(n,)``, above 0.
        figures: ``(F,)``, which figure (calls, multiply-accumulates, bytes...) a feature is, as a number from 0.
    """

    features: Floats
    one_hot: Floats
    latency_ms: Floats
    figures: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.latency_ms)

    def rows(self, index: NDArray[np.intp]) -> Samples:
        """The samples at ``index``."""
        return replace(
            self, features=self.features[index], one_hot=self.one_hot[index], latency_ms=self.latency_ms[index]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Formula:
    """``max(floor_ms, features @ weights) * exp(log_offset + one_hot @ log_factors)``, in ms.

    Attributes:
        weights: ``(F,)`` ms a unit of each feature.
        log_factors: ``(d,)`` of each option; zeros where the formula is linear.
        log_offset: added to their sum.
        floor_ms: above 0; keeps a prediction positive far from all measurements.
    """

    weights: Floats
    log_factors: Floats
    log_offset: float
    floor_ms: float

    def apply(self, features: Floats, one_hot: Floats) -> Floats:
        """Latencies ``(n,)`` in ms."""
        return self.join(features @ self.weights, one_hot @ self.log_factors)

    def join(self, sums: Floats, effects: Floats | float) -> Floats:
        """Latencies ``(n,)`` from ``features @ weights`` and ``one_hot @ log_factors``; NaN where a sum is NaN."""
        return np.asarray(np.maximum(sums, self.floor_ms) * np.exp(effects + self.log_offset))


Fit = Callable[[Samples], Formula]


def _linear(*, penalty: float, pooled: bool, non_negative: bool) -> Fit:
    """Least squares on relative errors, weights drawn to zero or to the pooled ones.

    Args:
        penalty: on the squared distance, with weights in units of the mean latency that they contribute.
        pooled: draw to the pooled weights.
        non_negative: no weight below 0.
    """

    def fit(samples: Samples) -> Formula:
        matrix, scale = _relative(samples.features, samples.latency_ms)
        aim = _pooled_weights(samples) / scale if pooled else np.zeros(len(scale))
        if non_negative:
            root = np.sqrt(penalty)
            weights, _ = nnls(
                np.vstack([matrix, root * np.eye(len(scale))]), np.concatenate([np.ones(len(samples)), root * aim])
            )
        else:
            gram = matrix @ matrix.T + penalty * np.eye(len(samples))
            weights = aim + matrix.T @ np.linalg.solve(gram, 1 - matrix @ aim)
        return _formula(samples, weights * scale)

    return fit


def _with_factors(linear: Fit, *, penalty: float) -> Fit:
    """``linear``, then a ridge regression of its logarithmic residuals on the options chosen."""

    def fit(samples: Samples) -> Formula:
        formula = linear(samples)
        log_residuals = np.log(samples.latency_ms / formula.apply(samples.features, samples.one_hot))
        mean = samples.one_hot.mean(axis=0)
        centred = samples.one_hot - mean
        gram = centred @ centred.T + penalty * np.eye(len(samples))
        factors = centred.T @ np.linalg.solve(gram, log_residuals - log_residuals.mean())
        return replace(formula, log_factors=factors, log_offset=float(log_residuals.mean() - mean @ factors))

    return fit


def _relative(features: Floats, latency_ms: Floats) -> tuple[Floats, Floats]:
    """Each feature's share of each latency, ``(n, F)``, and the scale ``(F,)`` that gives ms a unit back.

    A feature that no sample has gets a scale of 1: nothing is learned about it.
    """
    mean = features.mean(axis=0)
    scale = latency_ms.mean() / np.where(mean > 0, mean, latency_ms.mean())
    return features * scale / latency_ms[:, None], scale


def _pooled_weights(samples: Samples) -> Floats:
    """Non-negative weights ``(F,)`` that are equal for all features of the same figure."""
    pools = np.eye(int(samples.figures.max()) + 1)[samples.figures]
    matrix, scale = _relative(samples.features @ pools, samples.latency_ms)
    weights, _ = nnls(matrix, np.ones(len(samples)))
    return np.asarray((weights * scale)[samples.figures])


def _formula(samples: Samples, weights: Floats) -> Formula:
    return Formula(
        weights=weights,
        log_factors=np.zeros(samples.one_hot.shape[1]),
        log_offset=0.0,
        floor_ms=float(samples.latency_ms.min() / 2),
    )


FITS: dict[str, Fit] = {
    "non-negative": _linear(penalty=0.0, pooled=False, non_negative=True),
    "non-negative, shrunk": _linear(penalty=0.3, pooled=False, non_negative=True),
    "non-negative, near pooled": _linear(penalty=0.1, pooled=True, non_negative=True),
    "non-negative, close to pooled": _linear(penalty=1.0, pooled=True, non_negative=True),
    "ridge": _linear(penalty=0.3, pooled=False, non_negative=False),
    "ridge, near pooled": _linear(penalty=1.0, pooled=True, non_negative=False),
    "ridge, close to pooled": _linear(penalty=3.0, pooled=True, non_negative=False),
    "near pooled, factors of options": _with_factors(_linear(penalty=0.1, pooled=True, non_negative=True), penalty=3.0),
    "close to pooled, factors of options": _with_factors(
        _linear(penalty=1.0, pooled=True, non_negative=True), penalty=3.0
    ),
}
