"""Latency of a space's architectures from the rates of a device's kernels.

Responsible for the bound. How far rates are off differs from space to space more than within one, so errors have two
parts. With measured networks of the space itself the first is corrected, and the bound is conformal on the errors that
are left, each judged without itself. Without any, the bound holds for a further space: Student's prediction bound over
the spaces that were checked, for as many spaces as there were, plus the spread within them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from nas.device.bound import MIN_RESIDUALS, bound_factor
from nas.device.predictor import CONFIDENCE, Calibration, Scope
from nas.device.quality import Quality, judge
from nas.errors import UserError
from nas.model.features import FEATURE_NAMES
from nas.model.population_costs import PopulationCosts
from nas.space.moves import Population

Floats = NDArray[np.float64]

_MIN_SPACES = 2
MIN_NETWORKS = MIN_RESIDUALS + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkErrors:
    """How far the sums of kernels are off for networks of a space.

    Attributes:
        log_offset: added to the logarithm of each prediction.
        log_residuals: ``(r,)``, of random networks of the space, each without itself; empty where none was measured.
        centre, spread: of the logarithmic error of a network of a further space; used where there are no residuals.
        num_spaces: that these come from; 0: from single probes.
        quality: on the measured networks, each predicted without itself; where none was measured, on those of other
            spaces, each space with a bound from the others (its rank correlation is not known then).
        predicted_ms, upper_ms: ``(k,)``, of the measured networks, each without itself.
    """

    log_offset: float
    log_residuals: Floats
    centre: float
    spread: float
    num_spaces: int
    quality: Quality
    predicted_ms: Floats = field(default_factory=lambda: np.zeros(0))
    upper_ms: Floats = field(default_factory=lambda: np.zeros(0))

    def factor(self, confidence: float) -> float:
        """What to multiply a prediction with so that a latency stays below it with ``confidence``; at least 1."""
        if len(self.log_residuals):
            return bound_factor(self.log_residuals, confidence)
        if not 0.5 <= confidence < 1:
            raise UserError("confidence", f"must be at least 0.5 and below 1, got {confidence}", "0.95 is usual")
        return _student_factor(self.centre, self.spread, self.num_spaces, confidence)


@dataclass(frozen=True, kw_only=True, eq=False)
class OperatorsPredictor:
    """Latency from the rates of a device's kernels; satisfies `nas.device.predictor.LatencyPredictor`.

    Attributes:
        scope: what it is about.
        costs: features of rows.
        rates: ``(F,)`` ms a unit of each feature.
        floor_ms: above 0, the least that is predicted before the correction.
        errors: correction and bound.
        calibration: where the rates were measured, and the measured networks of the space, if there are some.
    """

    scope: Scope
    costs: PopulationCosts
    rates: Floats
    floor_ms: float
    errors: NetworkErrors
    calibration: Calibration

    @property
    def quality(self) -> Quality:
        """See `NetworkErrors`."""
        return self.errors.quality

    def predict_ms(self, population: Population) -> Floats:
        """Expected latency ``(n,)`` in ms, above 0; NaN where a network cannot be built."""
        sums = self.costs.weighted(population, self.rates)
        return np.asarray(np.maximum(sums, self.floor_ms) * math.exp(self.errors.log_offset))

    def upper_ms(self, population: Population, confidence: float = CONFIDENCE) -> Floats:
        """What the latency stays below with probability ``confidence``: ``(n,)`` in ms; NaN as in `predict_ms`.

        Raises:
            UserError: a confidence outside [0.5, 1).
        """
        return self.predict_ms(population) * self.bound_factor(confidence)

    def bound_factor(self, confidence: float = CONFIDENCE) -> float:
        """``upper_ms / predict_ms``, the same for all rows; at least 1. Raises `UserError` as `upper_ms` does."""
        return self.errors.factor(confidence)

    def bound_text(self, confidence: float = CONFIDENCE) -> str:
        """The bound as a person reads it: ``8.3 % above the prediction``."""
        return f"{(self.bound_factor(confidence) - 1) * 100:.2g} % above the prediction"


def network_errors(
    sums: Floats | None, latency_ms: Floats | None, checks: Mapping[str, Floats], probe_residuals: Floats
) -> NetworkErrors:
    """What is known of the errors on a space.

    Args:
        sums: ``(k,)``, predictions in ms of networks of the space that were drawn at random and measured, or None.
        latency_ms: ``(k,)``, their measured latencies, or None.
        checks: other space -> logarithms of measured over predicted of networks of it.
        probe_residuals: the same of single probes; they are more diverse than the networks of a space, and stand in
            where fewer than two spaces were checked.

    Raises:
        UserError: measured networks that are too few, cannot be built or have no latency above 0.
    """
    centre, spread, num_spaces = _further_space(checks, probe_residuals)
    if sums is None or latency_ms is None:
        return NetworkErrors(
            log_offset=0.0,
            log_residuals=np.zeros(0),
            centre=centre,
            spread=spread,
            num_spaces=num_spaces,
            quality=_quality_elsewhere(checks, probe_residuals),
        )
    if len(sums) < MIN_NETWORKS or len(sums) != len(latency_ms):
        problem = f"must be at least {MIN_NETWORKS} networks with a latency each, got {len(sums)}"
        raise UserError("measured networks", problem, "measure more, or give none")
    if not (np.isfinite(sums) & np.isfinite(latency_ms) & (latency_ms > 0)).all():
        raise UserError("measured networks", "must be buildable and have latencies above 0", "leave the others out")
    logs = np.log(latency_ms / sums)
    residuals = _left_out(logs)
    predicted = latency_ms * np.exp(-residuals)
    bounds = [bound_factor(_left_out(np.delete(logs, place)), CONFIDENCE) for place in range(len(logs))]
    upper = predicted * np.array(bounds)
    return NetworkErrors(
        log_offset=float(logs.mean()),
        log_residuals=residuals,
        centre=centre,
        spread=spread,
        num_spaces=num_spaces,
        quality=judge(
            latency_ms, predicted, upper, confidence=CONFIDENCE, num_train=len(logs) - 1, cross_validated=True
        ),
        predicted_ms=predicted,
        upper_ms=np.asarray(upper),
    )


def encode_operators(predictor: OperatorsPredictor) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What a file about a predictor holds besides its scope, quality and calibration: plain JSON, and arrays."""
    errors = predictor.errors
    record = {
        "method": f"operators, {len(errors.log_residuals)} networks of the space",
        "features": features_digest(),
        "floor_ms": predictor.floor_ms,
        "log_offset": errors.log_offset,
        "centre": errors.centre,
        "spread": errors.spread,
        "num_spaces": errors.num_spaces,
    }
    return record, {"rates": predictor.rates, "log_residuals": errors.log_residuals}


def decode_operators(
    record: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    scope: Scope,
    costs: PopulationCosts,
    quality: Quality,
    calibration: Calibration,
) -> OperatorsPredictor:
    """The inverse of `encode_operators`."""
    errors = NetworkErrors(
        log_offset=float(record["log_offset"]),
        log_residuals=arrays["log_residuals"],
        centre=float(record["centre"]),
        spread=float(record["spread"]),
        num_spaces=int(record["num_spaces"]),
        quality=quality,
        predicted_ms=calibration.predicted_ms,
        upper_ms=calibration.upper_ms,
    )
    return OperatorsPredictor(
        scope=scope,
        costs=costs,
        rates=arrays["rates"],
        floor_ms=float(record["floor_ms"]),
        errors=errors,
        calibration=calibration,
    )


def features_digest() -> str:
    """Of the names of the features: rates mean nothing for others."""
    return hashlib.sha256("\n".join(FEATURE_NAMES).encode()).hexdigest()[:16]


def _left_out(logs: Floats) -> Floats:
    """Each logarithmic error less the mean of the others."""
    return np.asarray(logs - (logs.sum() - logs) / (len(logs) - 1))


def _student_factor(centre: float, spread: float, num_spaces: int, confidence: float) -> float:
    freedom = num_spaces - 1 if num_spaces else math.inf
    return math.exp(max(0.0, centre + float(student.ppf(confidence, freedom)) * spread))


def _further_space(checks: Mapping[str, Floats], probe_residuals: Floats) -> tuple[float, float, int]:
    """Centre and spread of the logarithmic error on a network of a space that was not checked; spaces they are from."""
    known = [errors for errors in checks.values() if len(errors) > 1]
    if len(known) < _MIN_SPACES:
        return float(probe_residuals.mean()), float(probe_residuals.std(ddof=1)), 0
    means = np.array([errors.mean() for errors in known])
    within = float(np.mean([errors.var(ddof=1) for errors in known]))
    between = float(means.var(ddof=1)) * (1 + 1 / len(known))
    return float(means.mean()), math.sqrt(between + within), len(known)


def _quality_elsewhere(checks: Mapping[str, Floats], probe_residuals: Floats) -> Quality:
    """On networks of the spaces that were checked, or on probes where too few were."""
    groups = {name: errors for name, errors in checks.items() if len(errors) > 1}
    if len(groups) < _MIN_SPACES:
        groups = {"probes": probe_residuals}
    measured, upper = [], []
    for name, errors in groups.items():
        others = {other: values for other, values in groups.items() if other != name}
        factor = _student_factor(*_further_space(others, probe_residuals), CONFIDENCE)
        measured.append(np.exp(errors))
        upper.append(np.full(len(errors), factor))
    logs = np.concatenate(measured)
    return judge(logs, np.ones(len(logs)), np.concatenate(upper), confidence=CONFIDENCE, num_train=0)
