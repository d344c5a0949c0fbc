"""A Gaussian process over groups of features, small and fast.

Responsible for the numbers of the model: its prior, the fit of its few settings and its posterior. It knows nothing of
architectures. With a dozen parameters and hundreds of points, dense algebra on one core is a matter of milliseconds
(`docs/decisions/0003-surrogate-gp.md`).

References:
    [Rasmussen2006] Rasmussen, Williams. Gaussian processes for machine learning. MIT Press 2006. (Equations 2.23 to
        2.26, 5.8 and 5.9.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Floats = NDArray[np.float64]

SQRT5 = np.sqrt(5.0)
JITTER = 1e-6
WEIGHT_PRIOR = (np.log(0.5), 1.5)  # mean and deviation of the logarithm of a group's weight
NOISE_PRIOR = (np.log(0.02), 1.5)  # of the share of noise in the variance
WEIGHT_BOUNDS = (-7.0, 4.0)
NOISE_BOUNDS = (-9.0, 1.0)
STEPS = 25
FIT_AT_MOST = 160  # points that the settings are fitted to; the posterior takes all
SCALE_COUNTS = 2.0  # prior weight, in points, of a variance like that of the data


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Gaussian beliefs about the noise-free values of ``n`` points.

    Attributes:
        mean: ``(n,)``.
        deviation: ``(n,)`` above 0.
        solved: ``(t, n)`` the half of the covariance that the data explain: see `GaussianProcess.covariance`.
    """

    mean: Floats
    deviation: Floats
    solved: Floats


@dataclass(frozen=True, kw_only=True)
class GaussianProcess:
    """A fitted process: Matérn 5/2 on a weighted sum of squared distances, one weight a group, and equal noise.

    Attributes:
        groups: the training points, a matrix ``(t, d)`` for each group.
        weights: ``(g,)`` inverse squared length scale of each group.
        variance: of the process.
        noise: variance of an observation around the process.
        offset: mean of the process.
        factor: lower Cholesky factor ``(t, t)`` of kernel plus noise, in units of ``variance``.
        scores: ``(t,)`` kernel plus noise, inverted, times the observations, in the same units.
    """

    groups: tuple[Floats, ...]
    weights: Floats
    variance: float
    noise: float
    offset: float
    factor: Floats
    scores: Floats

    def posterior(self, groups: Sequence[Floats]) -> Posterior:
        """Beliefs about the points ``groups``, a matrix ``(n, d)`` each [Rasmussen2006, eq. 2.25, 2.26]."""
        kernel = matern(self._distances(self.groups, groups))
        solved = solve_triangular(self.factor, kernel, lower=True, check_finite=False)
        variance = np.maximum(1.0 - np.einsum("tn,tn->n", solved, solved), 1e-9)
        return Posterior(
            mean=self.offset + self.scores @ kernel,
            deviation=np.sqrt(self.variance * variance),
            solved=solved,
        )

    def covariance(self, one: Sequence[Floats], solved_one: Floats, other: Sequence[Floats], solved: Floats) -> Floats:
        """``(a, b)`` posterior covariance of two sets of points, with their ``solved`` of `posterior`."""
        kernel = matern(self._distances(one, other))
        return np.asarray(self.variance * (kernel - solved_one.T @ solved), dtype=np.float64)

    def similarity(self, groups: Sequence[Floats]) -> Floats:
        """``(t, n)`` prior correlation of the training points with others, in [0, 1]."""
        return matern(self._distances(self.groups, groups))

    def _distances(self, one: Sequence[Floats], other: Sequence[Floats]) -> Floats:
        roots = np.sqrt(self.weights)
        left = np.concatenate([root * values for root, values in zip(roots, one, strict=True)], axis=1)
        right = np.concatenate([root * values for root, values in zip(roots, other, strict=True)], axis=1)
        return squared_distances(left, right)


def fit_process(groups: Sequence[Floats], values: Floats, *, rows: NDArray[np.int64] | None = None) -> GaussianProcess:
    """The process whose settings explain the values best, with weak priors on them (maximum a posteriori).

    Args:
        groups: matrices ``(t, d)``, at least one; scaled so that two points have a squared distance of about 1.
        values: ``(t,)`` finite observations, at least one. Equal ones give a process that expects them everywhere.
        rows: positions of the points that the settings are fitted to; None: all. At most 160 should be given: the time
            of a fit grows with their cube.
    """
    offset = float(values.mean())
    spread = float(values.std())
    scale = spread if spread > 1e-12 * max(1.0, abs(offset)) else 1.0
    standard = (values - offset) / scale
    picked = np.arange(len(values)) if rows is None else rows
    settings = _fit([group[picked] for group in groups], standard[picked])
    weights, noise = np.exp(settings[:-1]), float(np.exp(settings[-1]))
    roots = np.sqrt(weights)
    joined = np.concatenate([root * group for root, group in zip(roots, groups, strict=True)], axis=1)
    kernel = matern(squared_distances(joined, joined))
    kernel[np.diag_indices(len(kernel))] += noise + JITTER
    factor = cholesky(kernel, lower=True, overwrite_a=True, check_finite=False)
    scores = cho_solve((factor, True), standard, check_finite=False)
    variance = (float(standard @ scores) + SCALE_COUNTS) / (len(values) + SCALE_COUNTS) * scale**2
    return GaussianProcess(
        groups=tuple(groups),
        weights=weights,
        variance=variance,
        noise=noise * variance,
        offset=offset,
        factor=factor,
        scores=scores * scale,
    )


def matern(squared: Floats) -> Floats:
    """Matérn 5/2 correlation of squared distances [Rasmussen2006, eq. 4.17]; 1 at 0."""
    root = np.sqrt(5.0 * squared)
    return np.asarray((1.0 + root + root * root / 3.0) * np.exp(-root), dtype=np.float64)


def squared_distances(one: Floats, other: Floats) -> Floats:
    """``(a, b)`` squared Euclidean distances, at least 0."""
    products = one @ other.T
    products *= -2.0
    products += np.einsum("ad,ad->a", one, one)[:, None]
    products += np.einsum("bd,bd->b", other, other)[None, :]
    return np.maximum(products, 0.0, out=products)


def _fit(groups: Sequence[Floats], standard: Floats) -> Floats:
    """``(g + 1,)`` logarithms of the weights and of the noise."""
    distances = [squared_distances(group, group) for group in groups]
    means = np.array([WEIGHT_PRIOR[0]] * len(groups) + [NOISE_PRIOR[0]])
    deviations = np.array([WEIGHT_PRIOR[1]] * len(groups) + [NOISE_PRIOR[1]])

    def loss(settings: Floats) -> tuple[float, Floats]:
        value, slope = _misfit(settings, distances, standard)
        away = (settings - means) / deviations
        return value + 0.5 * float(away @ away), slope + away / deviations

    found = minimize(
        loss,
        means,
        jac=True,
        method="L-BFGS-B",
        bounds=[WEIGHT_BOUNDS] * len(groups) + [NOISE_BOUNDS],
        options={"maxiter": STEPS},
    )
    return np.asarray(found.x, dtype=np.float64)


def _misfit(settings: Floats, distances: Sequence[Floats], standard: Floats) -> tuple[float, Floats]:
    """Negative log marginal likelihood and its gradient [Rasmussen2006, eq. 5.8, 5.9], with the best variance."""
    n = len(standard)
    weights = np.exp(settings)
    squared = sum(weight * part for weight, part in zip(weights, distances, strict=False))
    root = np.sqrt(5.0 * squared)
    decay = np.exp(-root)
    kernel = (1.0 + root + root * root / 3.0) * decay
    kernel[np.diag_indices(n)] += weights[-1] + JITTER
    factor = cholesky(kernel, lower=True, overwrite_a=True, check_finite=False)
    inverse = cho_solve((factor, True), np.eye(n), overwrite_b=True, check_finite=False)
    scores = inverse @ standard
    variance = (float(standard @ scores) + SCALE_COUNTS) / (n + SCALE_COUNTS)
    value = 0.5 * (n + SCALE_COUNTS) * np.log(variance) + float(np.log(np.diag(factor)).sum())
    sensitivity = inverse - np.outer(scores, scores) / variance
    slope = np.empty(len(settings))
    slope[-1] = 0.5 * np.trace(sensitivity) * weights[-1]
    sensitivity *= -(5.0 / 6.0) * (1.0 + root) * decay
    for k, part in enumerate(distances):
        slope[k] = 0.5 * float(np.vdot(sensitivity, part)) * weights[k]
    return value, slope
