"""How good a predictor is: figures on architectures that it was not fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import spearmanr


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
    """

    spearman: float
    mape: float
    within_10_percent: float
    coverage: float
    confidence: float
    num_train: int
    num_test: int
    cross_validated: bool = False

    def to_record(self) -> dict[str, float | int | bool]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, float | int | bool]) -> Quality:
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
    return Quality(
        spearman=float("nan") if constant else float(spearmanr(predicted, measured)[0]),
        mape=float(error.mean()),
        within_10_percent=float((error <= 0.1).mean()),
        coverage=float((measured <= upper).mean()),
        confidence=confidence,
        num_train=num_train,
        num_test=len(measured),
        cross_validated=cross_validated,
    )
