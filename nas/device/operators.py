"""One model of a device that serves every search space: the time of its kernels.

Responsible for fitting rates to the measured times of probes (`nas.model.probes`), and for what they predict. The time
of a network is a sum over the kernels that are left after the runtime's fusion, and the time of a kernel is linear in
its figures (`nas.model.features`), with a rate for each figure of each kind. Rates are non-negative, so each reads as
the time of a call, of a step of an inner loop or of a byte; kinds that probes say little about are drawn to the rates
of all kinds together. The fit minimises logarithmic errors, since times span three orders of magnitude, and large ones
count less than by their square [Huber1964]: some kernels are slower by factors for reasons that no figure knows.

A model is of one precision and one batch. Other precisions run other kernels, and a larger batch moves what a layer
works on out of a cache: both change rates, and measuring again is cheap.

References:
    [Huber1964] P. J. Huber. Robust Estimation of a Location Parameter. Annals of Mathematical Statistics 35(1), 1964.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from nas.device.bound import bound_factor
from nas.device.card import Precision
from nas.device.operators_predictor import OperatorsPredictor, network_errors
from nas.device.predictor import CONFIDENCE, Calibration, Scope, figures_of
from nas.device.quality import Quality, judge
from nas.errors import UserError
from nas.model.features import FEATURE_NAMES
from nas.model.population_costs import PopulationCosts

Floats = NDArray[np.float64]

MIN_PROBES = 40
_FOLDS = 5
_ITERATIONS = 8
_PENALTY = 0.1
_HUBER = 1.5
"""Robust standard deviations beyond which an error counts by its size, not by its square."""

_FIGURES = figures_of(FEATURE_NAMES)


@dataclass(frozen=True, kw_only=True, eq=False)
class Probed:
    """Measured probes.

    Attributes:
        features: ``(n, F)``, at least 0, in the order of `FEATURE_NAMES`.
        latency_ms: ``(n,)``, above 0.
        random: ``(n,)``, which were drawn at random; the others were chosen because they tell more.
    """

    features: Floats
    latency_ms: Floats
    random: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.features.shape != (len(self.latency_ms), len(FEATURE_NAMES)) or self.random.shape != (len(self),):
            problem = f"must be rows of {len(FEATURE_NAMES)} features with a latency each, got {self.features.shape}"
            raise UserError("probes", f"{problem} for {len(self)} latencies", "measure them again")
        wrong = np.flatnonzero(~(np.isfinite(self.latency_ms) & (self.latency_ms > 0)))
        if wrong.size:
            value = self.latency_ms[wrong[0]]
            raise UserError(f"probes, row {wrong[0]}", f"must have a latency above 0, got {value} ms", "leave it out")

    def __len__(self) -> int:
        return len(self.latency_ms)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where measurements are from; kept for cards and for the check that they apply here.

    Attributes:
        device: name of the card.
        precision: of the files.
        threads, batch: of the device.
        protocol: how it was measured, in words.
        anchor_ms: the anchor's undisturbed latency then; NaN if not known.
        host: facts of the machine, as plain JSON.
        fingerprint: those that must be the same wherever the model is used.
        time: when, as ISO 8601 in UTC.
        num_unsettled: measurements that did not settle and were left out.
    """

    device: str
    precision: Precision
    threads: int
    batch: int
    protocol: str = ""
    anchor_ms: float = float("nan")
    host: Mapping[str, object] = field(default_factory=dict)
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    time: str = ""
    num_unsettled: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class OperatorsModel:
    """Rates of a device, for networks of any space.

    Attributes:
        rates: ``(F,)`` ms a unit of each feature, at least 0.
        floor_ms: above 0, half of the shortest time seen; keeps a prediction positive.
        log_residuals: ``(r,)``, logarithm of measured over predicted of the probes drawn at random, cross-validated.
        checks: space -> the same of networks of it, which the fit knew nothing of.
        quality: on the probes drawn at random, cross-validated.
        probed: what was measured.
        provenance: where.
    """

    rates: Floats
    floor_ms: float
    log_residuals: Floats
    checks: Mapping[str, Floats]
    quality: Quality
    probed: Probed
    provenance: Provenance

    def predictor(
        self,
        scope: Scope,
        costs: PopulationCosts,
        *,
        population: ArrayLike | None = None,
        latency_ms: ArrayLike | None = None,
    ) -> OperatorsPredictor:
        """What it says about a space.

        Args:
            scope: the space, on the device, threads, batch and precision that were measured.
            costs: features of the space's rows.
            population: ``(k, m)``, rows drawn at random that were measured on the device, if there are some; they
                correct the prediction by one factor, and make the bound much narrower.
            latency_ms: ``(k,)``, theirs.

        Raises:
            UserError: another device, precision, threads or batch than was measured.
        """
        self._check(scope)
        sums = None if population is None else costs.weighted(population, self.rates)
        measured = None if latency_ms is None else np.asarray(latency_ms, dtype=np.float64)
        errors = network_errors(sums, measured, self.checks, self.log_residuals)
        calibration = self._calibration(scope)
        if population is not None and measured is not None:
            calibration = calibration.with_samples(
                np.asarray(population, dtype=np.int16),
                measured,
                random=np.ones(len(measured), dtype=bool),
                predicted_ms=errors.predicted_ms,
                upper_ms=errors.upper_ms,
            )
        return OperatorsPredictor(
            scope=scope,
            costs=costs,
            rates=self.rates,
            floor_ms=self.floor_ms,
            errors=errors,
            calibration=calibration,
        )

    def _calibration(self, scope: Scope) -> Calibration:
        """Where the rates were measured."""
        known = self.provenance
        return replace(
            Calibration.empty(scope.space),
            protocol=known.protocol,
            anchor_ms=known.anchor_ms,
            host=known.host,
            fingerprint=known.fingerprint,
            time=known.time,
            num_unsettled=known.num_unsettled,
        )

    def _check(self, scope: Scope) -> None:
        device, measured = scope.device, self.provenance
        for name, wanted, known in (
            ("device", device.name, measured.device),
            ("precision", scope.precision, measured.precision),
            ("threads", device.threads, measured.threads),
            ("batch", device.batch, measured.batch),
        ):
            if wanted != known:
                problem = f"{name} must be {wanted}, it was measured for {known}"
                raise UserError("operators model", problem, "calibrate the device for it with operators=true")


def fit_operators(
    probed: Probed, provenance: Provenance, *, checks: Mapping[str, ArrayLike] | None = None
) -> OperatorsModel:
    """The model of measured probes. Deterministic; the order of probes matters only to the folds.

    Args:
        probed: at least `MIN_PROBES`, a quarter of them drawn at random at the least.
        provenance: where they were measured.
        checks: space -> ``(k, F + 1)``, features of networks of that space with their measured ms behind; they say
            how far the model is off on networks, and take no part in the fit.

    Raises:
        UserError: too few probes.
    """
    drawn = np.flatnonzero(probed.random)
    if len(probed) < MIN_PROBES or 4 * len(drawn) < MIN_PROBES:
        problem = f"must be at least {MIN_PROBES}, a quarter of them random, got {len(probed)} and {len(drawn)}"
        raise UserError("probes", problem, "measure more; 160 are usual")
    rates = fit_rates(probed.features, probed.latency_ms)
    predicted = cross_validated_ms(probed)
    residuals = np.log(probed.latency_ms[drawn] / predicted)
    found = {}
    for name, table in (checks or {}).items():
        known = np.asarray(table, dtype=np.float64)
        found[name] = np.log(known[:, -1] / np.maximum(known[:, :-1] @ rates, 1e-12))
    quality = judge(
        probed.latency_ms[drawn],
        predicted,
        predicted * bound_factor(residuals, CONFIDENCE),
        confidence=CONFIDENCE,
        num_train=len(probed) - -(-len(drawn) // _FOLDS),
        cross_validated=True,
    )
    return OperatorsModel(
        rates=rates,
        floor_ms=float(probed.latency_ms.min() / 2),
        log_residuals=residuals,
        checks=found,
        quality=quality,
        probed=probed,
        provenance=provenance,
    )


def cross_validated_ms(probed: Probed) -> Floats:
    """``(r,)``: each probe drawn at random, predicted by rates that were fitted without its fold."""
    drawn = np.flatnonzero(probed.random)
    predicted = np.zeros(len(drawn))
    for fold in range(_FOLDS):
        held_out = np.arange(fold, len(drawn), _FOLDS)
        kept = np.setdiff1d(np.arange(len(probed)), drawn[held_out])
        rates = fit_rates(probed.features[kept], probed.latency_ms[kept])
        predicted[held_out] = probed.features[drawn[held_out]] @ rates
    return np.asarray(np.maximum(predicted, probed.latency_ms.min() / 2))


def fit_rates(features: Floats, latency_ms: Floats) -> Floats:
    """Non-negative rates ``(F,)`` that minimise robust logarithmic errors, by reweighted linear fits.

    Around the present prediction p, log(y / x'w) is close to 1 + log(y / p) - x'w / p, so each step is a non-negative
    least squares problem.

    Args:
        features: ``(n, F)``, at least 0.
        latency_ms: ``(n,)``, above 0.
    """
    mean = features.mean(axis=0)
    scale = latency_ms.mean() / np.where(mean > 0, mean, latency_ms.mean())
    pools = np.eye(int(_FIGURES.max()) + 1)[_FIGURES]
    shared = _relative_rates(features @ pools, latency_ms)
    aim = shared[_FIGURES] / scale
    root = np.sqrt(_PENALTY)
    rates = shared[_FIGURES]
    for _ in range(_ITERATIONS):
        predicted = np.maximum(features @ rates, latency_ms.min() / 10)
        errors = np.log(latency_ms / predicted)
        weights = _robust_weights(errors)
        matrix = features * (scale * (weights / predicted)[:, None])
        target = (1 + errors) * weights
        solved, _ = nnls(
            np.vstack([matrix, root * np.eye(len(scale))]),
            np.concatenate([target, root * aim]),
            maxiter=50 * len(scale),
        )
        rates = solved * scale
    return np.asarray(rates)


def _relative_rates(features: Floats, latency_ms: Floats) -> Floats:
    """Non-negative rates of few features, by relative least squares."""
    mean = features.mean(axis=0)
    scale = latency_ms.mean() / np.where(mean > 0, mean, latency_ms.mean())
    solved, _ = nnls(features * scale / latency_ms[:, None], np.ones(len(latency_ms)))
    return np.asarray(solved * scale)


def _robust_weights(errors: Floats) -> Floats:
    """Square roots of Huber's weights, from the median absolute deviation."""
    spread = 1.4826 * float(np.median(np.abs(errors - np.median(errors))))
    if spread == 0:
        return np.ones(len(errors))
    return np.asarray(np.sqrt(np.minimum(1.0, _HUBER * spread / np.maximum(np.abs(errors), 1e-12))))
