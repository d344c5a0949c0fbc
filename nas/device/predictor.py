"""Latency of whole populations, and a bound on it, without measuring.

Responsible for the predictor that a search asks: fitted once to a few measurements, then some arithmetic a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.device.bound import MIN_RESIDUALS, bound_factor
from nas.device.card import Device, Precision
from nas.device.formula import Floats, Formula, Samples
from nas.device.quality import Quality
from nas.device.selection import select, validate
from nas.errors import UserError
from nas.model.population_costs import PopulationCosts
from nas.space.encodings import one_hot
from nas.space.moves import Population
from nas.space.space import SearchSpace

_CHUNK = 65_536
CONFIDENCE = 0.95
MIN_RANDOM = 2 * MIN_RESIDUALS
"""Samples drawn at random that a fit needs: each fold of them must leave enough residuals for a bound."""


class LatencyPredictor(Protocol):
    """Rows of a population -> latency in ms."""

    def predict_ms(self, population: Population) -> Floats:
        """Expected latency ``(n,)``; NaN where a network cannot be built."""
        ...

    def upper_ms(self, population: Population, confidence: float) -> Floats:
        """What the latency stays below with probability ``confidence``: ``(n,)``, at least what is expected."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Scope:
    """What latencies a predictor is about.

    Attributes:
        space: that rows belong to.
        input_shape: channels, height, width of the data.
        num_classes: of the classifier.
        device: that was measured on.
        precision: of the files that were measured.
    """

    space: SearchSpace
    input_shape: tuple[int, int, int]
    num_classes: int
    device: Device
    precision: Precision

    @property
    def file_name(self) -> str:
        """Of the predictor's file in the device's folder: ``mobilenet-tiny-1x8x8-10-float32.npz``."""
        shape = "x".join(str(size) for size in self.input_shape)
        return f"{self.space.name}-{shape}-{self.num_classes}-{self.precision}.npz"


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """The measurements that a predictor was fitted to, and what they say about it.

    Attributes:
        population: ``(n, m)``, what was measured.
        latency_ms: ``(n,)``, measured.
        random: ``(n,)``, which were drawn at random; the others were designed.
        predicted_ms, upper_ms: ``(n,)``, cross-validated; NaN where not random.
        protocol: how it was measured, in words.
        anchor_ms: the anchor's undisturbed latency then; NaN if not known. Give it to `measure` as ``reference_ms``.
        host: facts of the machine, as plain JSON.
        fingerprint: those that must be the same wherever the predictor is used.
        time: when, as ISO 8601 in UTC.
        num_unsettled: measurements that could not be trusted.
    """

    population: Population
    latency_ms: Floats
    random: NDArray[np.bool_]
    predicted_ms: Floats
    upper_ms: Floats
    protocol: str = ""
    anchor_ms: float = float("nan")
    host: Mapping[str, object] = field(default_factory=dict)
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    time: str = ""
    num_unsettled: int = 0

    @classmethod
    def empty(cls, space: SearchSpace) -> Calibration:
        """One without samples, of rows of ``space``."""
        none = np.zeros(0)
        rows = np.zeros((0, space.num_choices), dtype=np.int16)
        return cls(population=rows, latency_ms=none, random=none.astype(bool), predicted_ms=none, upper_ms=none)

    def described(self, *, protocol: str, host: Mapping[str, object], time: str = "") -> Calibration:
        """The same samples with other circumstances, as in the attributes."""
        return replace(self, protocol=protocol, host=dict(host), time=time)

    def with_samples(
        self,
        population: Population,
        latency_ms: Floats,
        *,
        random: NDArray[np.bool_],
        predicted_ms: Floats,
        upper_ms: Floats,
    ) -> Calibration:
        """The same circumstances with other samples: arrays as in the attributes."""
        return replace(
            self,
            population=population,
            latency_ms=latency_ms,
            random=random,
            predicted_ms=predicted_ms,
            upper_ms=upper_ms,
        )

    def points(self) -> list[dict[str, float | bool]]:
        """One record an architecture that was drawn at random, predicted without it, for reports."""
        return [
            {
                "measured_ms": float(self.latency_ms[index]),
                "predicted_ms": float(self.predicted_ms[index]),
                "upper_ms": float(self.upper_ms[index]),
                "held_out": True,
            }
            for index in np.flatnonzero(self.random & np.isfinite(self.predicted_ms))
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class CostPredictor:
    """Latency from exact features of the architectures; satisfies `LatencyPredictor`.

    Attributes:
        scope: what it is about.
        costs: features of rows.
        fit: how the formula was fitted, a name in `nas.device.formula.FITS`.
        formula: features -> ms.
        log_residuals: ``(r,)``, errors on architectures drawn at random, each predicted without itself.
        quality: of the whole procedure, cross-validated on those.
        calibration: what was measured.
    """

    scope: Scope
    costs: PopulationCosts
    fit: str
    formula: Formula
    log_residuals: Floats
    quality: Quality
    calibration: Calibration

    def predict_ms(self, population: Population) -> Floats:
        """Expected latency ``(n,)`` in ms, above 0; NaN where a network cannot be built."""
        sums = self.costs.weighted(population, self.formula.weights)
        return self.formula.join(sums, self._effects(population))

    def upper_ms(self, population: Population, confidence: float = CONFIDENCE) -> Floats:
        """What the latency stays below with probability ``confidence``: ``(n,)`` in ms.

        The probability is over architectures drawn at random and over calibrations. NaN as in `predict_ms`.

        Raises:
            UserError: a confidence outside [0.5, 1).
        """
        return self.predict_ms(population) * self.bound_factor(confidence)

    def bound_text(self, confidence: float = CONFIDENCE) -> str:
        """The bound as a person reads it: ``8.3 % above the prediction``."""
        return f"{(self.bound_factor(confidence) - 1) * 100:.2g} % above the prediction"

    def bound_factor(self, confidence: float = CONFIDENCE) -> float:
        """``upper_ms / predict_ms``, the same for all rows; at least 1. Raises `UserError` as `upper_ms` does."""
        return bound_factor(self.log_residuals, confidence)

    def _effects(self, population: Population) -> Floats | float:
        """``one_hot @ log_factors`` ``(n,)``, by looking each choice up in its part of the factors."""
        if not self.formula.log_factors.any():
            return 0.0
        effects = np.zeros(len(population))
        tables, start = [], 0
        for choice in self.scope.space.choices:
            # The 0 at the end is what -1, an inactive choice, picks.
            tables.append(np.append(self.formula.log_factors[start : start + choice.num_options], 0.0))
            start += choice.num_options
        for begin in range(0, len(population), _CHUNK):
            part = slice(begin, begin + _CHUNK)
            for column, table in enumerate(tables):
                effects[part] += table.take(population[part, column], mode="wrap")
        return effects


def fit_predictor(
    costs: PopulationCosts,
    population: Population,
    latency_ms: ArrayLike,
    *,
    scope: Scope,
    random: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
    protocol: str = "",
    anchor_ms: float = float("nan"),
    host: Mapping[str, object] | None = None,
    fingerprint: Mapping[str, str] | None = None,
    time: str = "",
    num_unsettled: int = 0,
) -> CostPredictor:
    """A predictor for measured architectures. Deterministic; the order of the rows matters only to the folds.

    Args:
        costs: features of rows of ``scope.space``.
        population: ``(n, m)``, canonical rows that were measured.
        latency_ms: ``(n,)``, finite and above 0.
        scope: what was measured.
        random: ``(n,)``, which rows were drawn at random (`nas.device.samples.Plan.random`); None: all.
        confidence: that the quality judges the bound at.
        protocol, anchor_ms, host, fingerprint, time, num_unsettled: kept in the `Calibration`.

    Raises:
        UserError: latencies that are not positive and finite, rows that cannot be built, or too few random rows.
    """
    measured = checked_latency(latency_ms, len(population))
    drawn = np.ones(len(measured), dtype=bool) if random is None else np.asarray(random, dtype=bool)
    samples = samples_of(costs, population, measured, scope.space)
    if drawn.sum() < MIN_RANDOM:
        problem = f"must hold at least {MIN_RANDOM} architectures drawn at random, got {int(drawn.sum())}"
        raise UserError("calibration", problem, "measure more; 28 are usual")
    selected = select(samples, drawn)
    validated = validate(samples, drawn, confidence=confidence)
    predicted, upper = np.full(len(measured), np.nan), np.full(len(measured), np.nan)
    predicted[drawn], upper[drawn] = validated.predicted_ms, validated.upper_ms
    calibration = Calibration(
        population=np.asarray(population, dtype=np.int16),
        latency_ms=measured,
        random=drawn,
        predicted_ms=predicted,
        upper_ms=upper,
        protocol=protocol,
        anchor_ms=anchor_ms,
        host=dict(host or {}),
        fingerprint=dict(fingerprint or {}),
        time=time,
        num_unsettled=num_unsettled,
    )
    return CostPredictor(
        scope=scope,
        costs=costs,
        fit=selected.fit,
        formula=selected.formula,
        log_residuals=selected.log_residuals,
        quality=validated.quality,
        calibration=calibration,
    )


def figures_of(feature_names: tuple[str, ...]) -> NDArray[np.intp]:
    """``(F,)``: which figure a feature is, numbered: what is behind the dot in ``conv.kernels``."""
    names = [name.rpartition(".")[2] for name in feature_names]
    return np.unique(names, return_inverse=True)[1].astype(np.intp)


def checked_latency(latency_ms: ArrayLike, num_rows: int) -> Floats:
    """Measured latencies ``(n,)`` as float64.

    Raises:
        UserError: not one a row, one that is not finite and above 0 (with its row), or all the same, which nothing
            can be learned from.
    """
    measured = np.asarray(latency_ms, dtype=np.float64)
    if measured.shape != (num_rows,):
        raise UserError("calibration", f"must have a latency a row, got {measured.shape} for {num_rows} rows")
    for index in np.flatnonzero(~np.isfinite(measured) | (measured <= 0)):
        raise UserError(f"calibration, row {index}", f"must have a latency above 0, got {measured[index]} ms")
    if len(measured) > 1 and np.ptp(measured) == 0:
        raise UserError("calibration", f"must have latencies that differ, got {measured[0]} ms in every row")
    return measured


def samples_of(costs: PopulationCosts, population: Population, latency_ms: Floats, space: SearchSpace) -> Samples:
    """Measured rows as a fit sees them. Raises `UserError` for a row that cannot be built."""
    features = costs.features(population)
    for index, row in enumerate(features):
        if not np.isfinite(row).all():
            raise UserError(f"calibration, row {index}", "must be an architecture that can be built for the data")
    return Samples(
        features=features,
        one_hot=one_hot(space, population).astype(np.float64),
        latency_ms=latency_ms,
        figures=figures_of(costs.feature_names),
    )
