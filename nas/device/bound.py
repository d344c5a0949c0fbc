"""Upper bounds on a latency that hold with a given probability.

Responsible for turning residuals of architectures that were drawn at random, each predicted without itself, into the
factor between a prediction and its bound [Barber2021], [Lei2018].

The bound is one-sided conformal, on logarithmic residuals: with n of them, the k-th smallest, k = ceil((n + 1) c),
is not exceeded by a further architecture with probability c at least, whatever the distribution. For k > n there is
no such residual. Then the bound is the larger of the largest residual and Student's prediction bound for normal
residuals, mean + t(c, n - 1) s sqrt(1 + 1/n): wider than any that was seen, but no longer free of assumptions.

References:
    [Barber2021] R. F. Barber, E. J. Candès, A. Ramdas, R. J. Tibshirani. Predictive inference with the jackknife+.
        Annals of Statistics 49(1), 2021. Here: the jackknife, one fitted model and leave-one-out residuals.
    [Lei2018] J. Lei et al. Distribution-free predictive inference for regression. JASA 113(523), 2018.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from nas.errors import UserError

MIN_RESIDUALS = 4
CONFORMAL = 39
"""Residuals from which a 95 % quantile is not the largest one."""


def bound_factor(log_residuals: NDArray[np.float64], confidence: float) -> float:
    """What to multiply a prediction with so that the latency is below it with probability ``confidence``.

    Args:
        log_residuals: ``(n,)``, logarithm of measured over predicted, at least `MIN_RESIDUALS`.
        confidence: at least 0.5 and below 1.

    Returns:
        At least 1, and never smaller for a larger confidence.

    Raises:
        UserError: a confidence out of range.
    """
    _check(confidence)
    assert len(log_residuals) >= MIN_RESIDUALS
    return math.exp(max(0.0, _conformal(log_residuals, confidence)))


def bound_margin(residuals: NDArray[np.float64], confidence: float) -> float:
    """What to add to a prediction, in units of its expected deviation, so that a label is below it with ``confidence``.

    Args:
        residuals: ``(n,)``, measured minus predicted without that label, over the deviation that was expected of it;
            at least `MIN_RESIDUALS`.
        confidence: at least 0.5 and below 1.

    Returns:
        Student's prediction bound for a further residual: the largest of a handful is no quantile. From `CONFORMAL`
        residuals on, the conformal bound of `bound_factor`. At least 0, and never smaller for a larger confidence.

    Raises:
        UserError: a confidence out of range.
    """
    _check(confidence)
    assert len(residuals) >= MIN_RESIDUALS
    bound = _conformal if len(residuals) >= CONFORMAL else _students
    return max(0.0, bound(residuals, confidence))


def _check(confidence: float) -> None:
    if not 0.5 <= confidence < 1:
        raise UserError("confidence", f"must be at least 0.5 and below 1, got {confidence}", "0.95 is usual")


def _conformal(residuals: NDArray[np.float64], confidence: float) -> float:
    """The k-th smallest residual; beyond the largest, that or Student's bound, whichever is larger."""
    n = len(residuals)
    # The tolerance keeps 0.95 * 20 from being a little more than 19.
    rank = math.ceil((n + 1) * confidence - 1e-9)
    if rank <= n:
        return float(np.sort(residuals)[rank - 1])
    return max(float(residuals.max()), _students(residuals, confidence))


def _students(residuals: NDArray[np.float64], confidence: float) -> float:
    """Student's prediction bound for a further one of ``n`` normal residuals."""
    n = len(residuals)
    spread = float(residuals.std(ddof=1)) * math.sqrt(1 + 1 / n)
    return float(residuals.mean()) + float(student.ppf(confidence, n - 1)) * spread
