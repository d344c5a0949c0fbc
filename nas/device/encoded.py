"""Latency from encodings of the choices alone: the predictor for tables, and for networks that nobody can trace.

Responsible for choosing encoding, regressor and scale by cross-validation, and for the predictor that results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.device.bound import bound_factor
from nas.device.encoders import ENCODINGS, Encoder
from nas.device.lookup import Floats, Lookup
from nas.device.predictor import CONFIDENCE, MIN_RANDOM, Calibration, Scope, checked_latency
from nas.device.quality import Quality, judge
from nas.device.regression import REGRESSORS, interleaved_folds, suits
from nas.errors import UserError
from nas.space.moves import Population

Scale = str  # "logarithm" or "ms": what the look-ups add up to
SCALES: tuple[Scale, ...] = ("logarithm", "ms")
_FEW = 200  # samples: below, the quality is cross-validated; above, one fifth is held out
_FOLDS = 5
_MAX_KEPT = 400  # residuals in a predictor: more say nothing that these do not


@dataclass(frozen=True, kw_only=True, eq=False)
class Regression:
    """A fitted regression of latency on an encoding.

    Attributes:
        method: encoding, regressor and scale, for people.
        scale: of what ``lookup`` gives.
        lookup: rows -> logarithm of ms, or ms.
        floor_ms: no prediction is below; above 0.
        log_residuals: ``(n,)``, measured over predicted, each predicted by a fit without its fold.
    """

    method: str
    scale: Scale
    lookup: Lookup
    floor_ms: float
    log_residuals: Floats

    def predict_ms(self, population: Population) -> Floats:
        """Expected latency ``(n,)`` in ms, above 0."""
        return _in_ms(self.lookup.apply(population), self.scale, self.floor_ms)


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedPredictor:
    """Latency from an encoding of the choices; satisfies `nas.device.predictor.LatencyPredictor`.

    Attributes:
        scope: what it is about.
        regression: rows -> ms; its residuals are those of samples drawn at random.
        quality: of the whole procedure, on samples that it did not see.
        calibration: what was measured; without rows where only the fit was kept.
    """

    scope: Scope
    regression: Regression
    quality: Quality
    calibration: Calibration

    def predict_ms(self, population: Population) -> Floats:
        """Expected latency ``(n,)`` in ms, finite and above 0."""
        return self.regression.predict_ms(population)

    def upper_ms(self, population: Population, confidence: float = CONFIDENCE) -> Floats:
        """What the latency stays below with probability ``confidence``: ``(n,)`` in ms.

        Raises:
            UserError: a confidence outside [0.5, 1).
        """
        return self.predict_ms(population) * self.bound_factor(confidence)

    def bound_text(self, confidence: float = CONFIDENCE) -> str:
        """The bound as a person reads it: ``8.3 % above the prediction``."""
        return f"{(self.bound_factor(confidence) - 1) * 100:.2g} % above the prediction"

    def bound_factor(self, confidence: float = CONFIDENCE) -> float:
        """``upper_ms / predict_ms``, the same for all rows; at least 1. Raises `UserError` as `upper_ms` does."""
        return bound_factor(self.regression.log_residuals, confidence)


def fit_encoded(
    population: Population,
    latency_ms: ArrayLike,
    *,
    scope: Scope,
    random: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
    calibration: Calibration | None = None,
    keep_samples: bool = True,
) -> EncodedPredictor:
    """A predictor for measured architectures. Deterministic.

    Args:
        population: ``(n, m)``, canonical rows of ``scope.space``, at least 8.
        latency_ms: ``(n,)``, finite, above 0 and not all the same.
        scope: what was measured.
        random: ``(n,)``, which rows were drawn at random; None: all. Only their errors make bound and quality.
        confidence: that the quality judges the bound at.
        calibration: protocol, host and so on; its samples are replaced by these.
        keep_samples: False leaves the samples out of the predictor; the bound needs their residuals only.

    Raises:
        UserError: latencies that are not positive and finite or all the same, or too few random rows.
    """
    measured = checked_latency(latency_ms, len(population))
    drawn = np.ones(len(measured), dtype=bool) if random is None else np.asarray(random, dtype=bool)
    if drawn.sum() < MIN_RANDOM:
        problem = f"must hold at least {MIN_RANDOM} architectures drawn at random, got {int(drawn.sum())}"
        raise UserError("calibration", problem, "measure more; 28 are usual")
    encoder = Encoder(space=scope.space)
    index, predicted, upper, quality = _validated(encoder, population, measured, drawn, confidence)
    regression = fit_regression(encoder, population, measured, random=drawn)
    kept = np.zeros(0, dtype=np.intp) if not keep_samples else np.arange(len(measured))
    all_predicted, all_upper = np.full(len(measured), np.nan), np.full(len(measured), np.nan)
    all_predicted[index], all_upper[index] = predicted, upper
    return EncodedPredictor(
        scope=scope,
        regression=regression,
        quality=quality,
        calibration=(calibration or Calibration.empty(scope.space)).with_samples(
            np.asarray(population, dtype=np.int16)[kept],
            measured[kept],
            random=drawn[kept],
            predicted_ms=all_predicted[kept],
            upper_ms=all_upper[kept],
        ),
    )


def fit_regression(
    encoder: Encoder,
    population: Population,
    latency_ms: Floats,
    *,
    random: NDArray[np.bool_] | None = None,
    scales: Sequence[Scale] = SCALES,
) -> Regression:
    """The encoding, regressor and scale with the smallest cross-validated error on random samples, fitted to all.

    The error is the mean absolute logarithm of measured over predicted, or the mean absolute error where ``scales``
    is ``("ms",)`` alone: a transfer needs what adds up, near-zero outliers or not.

    Args:
        encoder: of the space.
        population: ``(n, m)`` canonical rows.
        latency_ms: ``(n,)``, above 0.
        random: ``(n,)``, which samples errors count on; None: all.
        scales: that may be taken.
    """
    n = len(latency_ms)
    drawn = np.arange(n) if random is None else np.flatnonzero(random)
    candidates = [
        (encoding, regressor, scale)
        for encoding in encoder.encodings
        for regressor in REGRESSORS
        if suits(regressor, ENCODINGS[encoding], n)
        for scale in scales
    ]
    floor = float(latency_ms.min() / 2)
    best: tuple[float, tuple[str, str, str], Floats] | None = None
    for candidate in candidates:
        predicted = _left_out(encoder, candidate, population, latency_ms, floor_ms=floor)
        residuals = np.log(latency_ms / predicted)[drawn]
        errors = residuals if len(scales) > 1 else (latency_ms - predicted)[drawn]
        score = float(np.abs(errors).mean())
        if best is None or score < best[0]:
            best = (score, candidate, residuals)
    assert best is not None
    _, (encoding, regressor, scale), residuals = best
    fitted = REGRESSORS[regressor](encoder, ENCODINGS[encoding], population, _on_scale(latency_ms, scale))
    return Regression(
        method=f"{encoding}, {regressor}, of {'the logarithm' if scale == 'logarithm' else 'ms'}",
        scale=scale,
        lookup=fitted,
        floor_ms=floor,
        log_residuals=thinned(residuals, _MAX_KEPT),
    )


def thinned(residuals: Floats, n: int) -> Floats:
    """At most ``n`` values with the distribution of ``residuals``, sorted, where there are more; else as given."""
    if len(residuals) <= n:
        return residuals
    # Rounded up: a bound from fewer residuals must not be below that from all.
    ranks = np.ceil((np.arange(n) + 1) / (n + 1) * (len(residuals) + 1)).astype(int)
    return np.asarray(np.sort(residuals)[np.minimum(ranks, len(residuals)) - 1])


def _left_out(
    encoder: Encoder, candidate: tuple[str, str, Scale], population: Population, latency_ms: Floats, *, floor_ms: float
) -> Floats:
    """``(n,)`` ms, each predicted by a fit without its fold."""
    encoding, regressor, scale = candidate
    n = len(latency_ms)
    out = np.empty(n)
    for fold in interleaved_folds(n, _FOLDS if n <= _FEW else 3):
        kept = np.setdiff1d(np.arange(n), fold)
        target = _on_scale(latency_ms[kept], scale)
        lookup = REGRESSORS[regressor](encoder, ENCODINGS[encoding], population[kept], target)
        out[fold] = _in_ms(lookup.apply(population[fold]), scale, floor_ms)
    return out


def _validated(
    encoder: Encoder, population: Population, latency_ms: Floats, drawn: NDArray[np.bool_], confidence: float
) -> tuple[NDArray[np.intp], Floats, Floats, Quality]:
    """Indices that were held out, their predictions and bounds by the whole procedure without them, and figures."""
    random = np.flatnonzero(drawn)
    few = len(latency_ms) <= _FEW
    folds = [random[fold] for fold in interleaved_folds(len(random), _FOLDS)]
    parts = []
    for fold in folds if few else folds[:1]:
        kept = np.setdiff1d(np.arange(len(latency_ms)), fold)
        fitted = fit_regression(encoder, population[kept], latency_ms[kept], random=drawn[kept])
        predicted = fitted.predict_ms(population[fold])
        parts.append((fold, predicted, predicted * bound_factor(fitted.log_residuals, confidence), len(kept)))
    index = np.concatenate([part[0] for part in parts])
    predicted = np.concatenate([part[1] for part in parts])
    upper = np.concatenate([part[2] for part in parts])
    figures = partial(judge, confidence=confidence, num_train=min(part[3] for part in parts), cross_validated=few)
    return index, predicted, upper, figures(latency_ms[index], predicted, upper)


def _on_scale(latency_ms: Floats, scale: Scale) -> Floats:
    return np.log(latency_ms) if scale == "logarithm" else latency_ms


def _in_ms(values: Floats, scale: Scale, floor_ms: float) -> Floats:
    # A logarithm that is far off must not overflow: nothing takes e^60 ms.
    ms = np.exp(np.minimum(values, 60.0)) if scale == "logarithm" else values
    return np.asarray(np.maximum(ms, floor_ms))
