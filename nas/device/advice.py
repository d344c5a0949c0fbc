"""What more samples would buy, before anybody measures them.

Responsible for the recommendation at the end of a calibration. A bound is wide for two reasons, and both shrink with
more samples: errors of the prediction, whose course is measured on subsets of what there is (`learning_curve`), and few
errors to take a quantile of, whose price is known (`expected_factor`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import t as student

from nas.device.bound import MIN_RESIDUALS, bound_factor
from nas.device.predictor import CostPredictor, samples_of
from nas.device.selection import select

Floats = NDArray[np.float64]
Curve = Sequence[tuple[int, float]]

_SUBSETS = ((0.5, 3), (0.75, 3))  # share of the samples, and how many subsets of that size
_WORTH = 0.8  # a bound must shrink to this part at the most to be worth a recommendation
_MAX_MORE = 4  # times as many samples as there are: further is too far to extrapolate
_STEEPEST = -0.5  # exponent of a learning curve: errors that are all of estimation fall no faster


def expected_factor(deviation: float, n: int, confidence: float) -> float:
    """The bound's factor that ``n`` normal residuals with this standard deviation give on average; at least 1.

    Where the conformal quantile exists it is an order statistic, taken at its mean position; else Student's bound.
    """
    rank = math.ceil((n + 1) * confidence - 1e-9)
    if rank <= n:
        return math.exp(deviation * float(ndtri((rank - 0.375) / (n + 0.25))))
    normal = float(student.ppf(confidence, n - 1)) * math.sqrt(1 + 1 / n)
    largest = float(ndtri((n - 0.375) / (n + 0.25)))
    return math.exp(deviation * max(normal, largest))


def learning_curve(
    errors: Callable[[NDArray[np.intp]], Floats], random: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[tuple[int, float], ...]:
    """Root mean square of the logarithmic errors for half, three quarters and all of the samples: ``(n, error)``.

    Args:
        errors: rows of samples -> logarithmic errors on the random ones among them, each predicted without itself.
        random: ``(n,)``, which samples were drawn at random; subsets keep their share.
        rng: draws the subsets.
    """
    drawn, designed = np.flatnonzero(random), np.flatnonzero(~random)
    curve = []
    for share, repeats in _SUBSETS:
        sizes = max(MIN_RESIDUALS, round(share * len(drawn))), round(share * len(designed))
        squares = []
        for _ in range(repeats):
            parts = [rng.permutation(part)[:size] for part, size in zip((drawn, designed), sizes, strict=True)]
            squares.append(float(np.square(errors(np.sort(np.concatenate(parts)))).mean()))
        curve.append((sum(sizes), math.sqrt(float(np.mean(squares)))))
    everything = np.square(errors(np.arange(len(random)))).mean()
    return (*curve, (len(random), math.sqrt(float(everything))))


def recommend_for(predictor: CostPredictor, confidence: float) -> str:
    """`recommend` for a calibrated predictor, with a learning curve of its own samples: some seconds of fitting.

    Raises:
        UserError: a confidence outside [0.5, 1).
    """
    known = predictor.calibration
    samples = samples_of(predictor.costs, known.population, known.latency_ms, predictor.scope.space)

    def errors(rows: NDArray[np.intp]) -> Floats:
        return select(samples.rows(rows), known.random[rows]).log_residuals

    curve = learning_curve(errors, known.random, np.random.default_rng(0))
    return recommend(predictor.log_residuals, num_samples=len(samples), confidence=confidence, curve=curve)


def recommend(
    log_residuals: Floats,
    *,
    num_samples: int,
    confidence: float,
    curve: Curve = (),
) -> str:
    """One sentence: how many more samples would narrow the bound noticeably, and to about what.

    Args:
        log_residuals: ``(r,)``, that the bound is made of, of samples drawn at random.
        num_samples: measured so far, designed ones among them.
        confidence: of the bound.
        curve: from `learning_curve`; without it, errors are taken to stay as they are.

    Returns:
        ``16 more samples would narrow the 95 % bound from 18 % to about 9 %``, or that it would not pay. Percentages
        are above the prediction.
    """
    now = bound_factor(log_residuals, confidence)
    deviation = float(np.sqrt(np.square(log_residuals).mean()))
    share, slope = len(log_residuals) / num_samples, _slope(curve)
    name = f"the {confidence:.0%} bound".replace("%", " %")
    best = now
    for more in range(4, (_MAX_MORE - 1) * num_samples + 1, 4):
        total = num_samples + more
        shrunk = deviation * (total / num_samples) ** slope
        best = expected_factor(shrunk, max(MIN_RESIDUALS, round(share * total)), confidence)
        if best - 1 <= _WORTH * (now - 1):
            return f"{more} more samples would narrow {name} from {_percent(now)} to about {_percent(best)}"
    return f"more samples would hardly narrow {name}, {_percent(now)} above the prediction"


def _slope(curve: Curve) -> float:
    """Exponent of error against number of samples, by least squares on logarithms; between `_STEEPEST` and 0."""
    if len(curve) < 2:
        return 0.0
    sizes, errors = (np.log(np.array(values, dtype=np.float64)) for values in zip(*curve, strict=True))
    if np.ptp(sizes) == 0 or not np.isfinite(errors).all():
        return 0.0
    return float(np.clip(np.polyfit(sizes, errors, 1)[0], _STEEPEST, 0.0))


def _percent(factor: float) -> str:
    return f"{(factor - 1) * 100:.2g} %"
