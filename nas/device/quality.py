"""How good a predictor is: figures on architectures that it was not fitted on, and how sure they are.

References:
    [Bonett2000] D. G. Bonett, T. A. Wright. Sample size requirements for estimating Pearson, Kendall and Spearman
        correlations. Psychometrika 65, 2000.
    [Clopper1934] C. J. Clopper, E. S. Pearson. The use of confidence or fiducial limits illustrated in the case of the
        binomial. Biometrika 26, 1934.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, norm, spearmanr
from scipy.stats import t as student

Interval = tuple[float, float]
_LEVEL = 0.95  # of the intervals


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Predictions against measurements.

    Attributes:
        spearman: rank correlation; NaN where either is constant or there are fewer than two.
        mape: mean absolute error relative to the measurement, a share (0.04 is 4 %).
        within_10_percent: share of predictions within 10 % of the measurement.
        coverage: share of measurements at or below their upper bound.
        confidence: that the bound was made for.
        num_train: architectures that the predictor was fitted on; in cross-validation, the fewest in a fold.
        num_test: architectures that it was judged on.
        cross_validated: whether predictor and bound were fitted anew for each fold; else ``num_test`` fresh ones.
        spearman_interval, mape_interval, coverage_interval: 95 % confidence intervals of the three, for how few they
            were judged on: [Bonett2000], Student's, and the exact one [Clopper1934]. None where that is undefined.
    """

    spearman: float
    mape: float
    within_10_percent: float
    coverage: float
    confidence: float
    num_train: int
    num_test: int
    cross_validated: bool = False
    spearman_interval: Interval | None = None
    mape_interval: Interval | None = None
    coverage_interval: Interval | None = None

    def to_record(self) -> dict[str, Any]:
        """As plain JSON; an interval is a list of two."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Quality:
        """The inverse of `to_record`."""
        return cls(
            spearman=float(record["spearman"]),
            mape=float(record["mape"]),
            within_10_percent=float(record["within_10_percent"]),
            coverage=float(record["coverage"]),
            confidence=float(record["confidence"]),
            num_train=int(record["num_train"]),
            num_test=int(record["num_test"]),
            cross_validated=bool(record["cross_validated"]),
            spearman_interval=_interval_of(record.get("spearman_interval")),
            mape_interval=_interval_of(record.get("mape_interval")),
            coverage_interval=_interval_of(record.get("coverage_interval")),
        )

    def __str__(self) -> str:
        held = round(self.coverage * self.num_test)
        return (
            f"Spearman {self.spearman:.2f}, MAPE {self.mape * 100:.1f} %, {self.within_10_percent:.0%} within 10 %, "
            f"{self.confidence:.0%} bound held {held} of {self.num_test}"
        )


def judge(
    measured_ms: ArrayLike,
    predicted_ms: ArrayLike,
    upper_ms: ArrayLike,
    *,
    confidence: float,
    num_train: int,
    cross_validated: bool = False,
) -> Quality:
    """Figures for measurements, predictions and bounds ``(n,)``, all in ms and above 0, n at least 1."""
    measured, predicted, upper = (np.asarray(values, dtype=float) for values in (measured_ms, predicted_ms, upper_ms))
    assert len(measured) == len(predicted) == len(upper) > 0
    error = np.abs(predicted / measured - 1)
    constant = len(measured) < 2 or np.ptp(measured) == 0 or np.ptp(predicted) == 0
    spearman = float("nan") if constant else float(spearmanr(predicted, measured)[0])
    return Quality(
        spearman=spearman,
        mape=float(error.mean()),
        within_10_percent=float((error <= 0.1).mean()),
        coverage=float((measured <= upper).mean()),
        confidence=confidence,
        num_train=num_train,
        num_test=len(measured),
        cross_validated=cross_validated,
        spearman_interval=spearman_interval(spearman, len(measured)),
        mape_interval=mean_interval(error),
        coverage_interval=share_interval(int((measured <= upper).sum()), len(measured)),
    )


def spearman_interval(spearman: float, n: int) -> Interval | None:
    """95 % interval of a rank correlation of ``n`` pairs, on Fisher's scale [Bonett2000]; None for n < 4 or NaN."""
    if n < 4 or math.isnan(spearman):
        return None
    inside = min(max(spearman, -1 + 1e-9), 1 - 1e-9)
    half = float(norm.ppf(0.5 + _LEVEL / 2)) * math.sqrt((1 + inside**2 / 2) / (n - 3))
    return math.tanh(math.atanh(inside) - half), math.tanh(math.atanh(inside) + half)


def mean_interval(values: NDArray[np.float64]) -> Interval | None:
    """95 % interval of the mean of values ``(n,)`` that are at least 0, Student's, cut at 0; None for n < 2."""
    n = len(values)
    if n < 2:
        return None
    half = float(student.ppf(0.5 + _LEVEL / 2, n - 1)) * float(values.std(ddof=1)) / math.sqrt(n)
    return max(0.0, float(values.mean()) - half), float(values.mean()) + half


def share_interval(held: int, n: int) -> Interval:
    """95 % interval of a share of which ``held`` of ``n`` were seen, exact [Clopper1934]."""
    tail = (1 - _LEVEL) / 2
    low = 0.0 if held == 0 else float(beta.ppf(tail, held, n - held + 1))
    high = 1.0 if held == n else float(beta.ppf(1 - tail, held + 1, n - held))
    return low, high


def _interval_of(record: Any) -> Interval | None:
    return None if record is None else (float(record[0]), float(record[1]))
