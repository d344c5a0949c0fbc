"""Latency on a new device from some twenty measurements there and predictors of other devices.

Responsible for what a transfer knows (predictions of other devices, operator counts, options chosen), for choosing what
to measure, and for the predictor that results. The numerics are `nas.device.mixture`'s.

All of it adds up over options and pairs of them, so a fitted transfer is one sum of look-ups however many devices it
drew on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.device.bound import MIN_RESIDUALS, bound_margin
from nas.device.encoded import fit_regression
from nas.device.encoders import Encoder
from nas.device.lookup import Floats, Lookup
from nas.device.mixture import Mixture, fit_mixture
from nas.device.predictor import CONFIDENCE, Calibration, Scope, checked_latency
from nas.device.quality import Quality, judge
from nas.device.samples import Plan, augmented_design
from nas.errors import UserError
from nas.space.moves import Population
from nas.units import format_quantity

MIN_TRANSFER_SAMPLES = 10
RANDOM_SHARE = 0.25
_REFERENCE = 500  # rows over which the expected deviation is averaged
# How often a member of the mixture has: each single source, all sources, operator counts, options.
_OFTEN = (0.2, 0.9, 0.9, 0.1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """Other devices' latencies over a space, and how to write an architecture in terms of them.

    Attributes:
        encoder: of the space.
        names: of the devices.
        lookups: rows -> ms on each device, from `fit_sources`.
        reference: ``(r, m)``, rows drawn at random, which features are scaled over.
    """

    encoder: Encoder
    names: tuple[str, ...]
    lookups: tuple[Lookup, ...]
    reference: Population

    def blocks(self, population: Population) -> list[Floats]:
        """Features ``(n, d)`` as they are: a block for each device, all devices, operator counts, options."""
        predicted = np.stack([lookup.apply(population) for lookup in self.lookups], axis=1)
        counts, options = (self.encoder.encode(part, population) for part in ("counts", "one-hot"))
        return [*(predicted[:, [k]] for k in range(len(self.names))), predicted, counts, options]


@dataclass(frozen=True, kw_only=True, eq=False)
class TransferPredictor:
    """Latency on a new device; satisfies `nas.device.predictor.LatencyPredictor`.

    Attributes:
        scope: what it is about.
        sources: devices that it drew on.
        lookup: rows -> ms.
        floor_ms: no prediction is below; above 0.
        residuals: ``(r,)``, errors of samples drawn at random, predicted without their label, in units of their
            expected deviation.
        deviation_ms: expected deviation of a fresh architecture that takes ``typical_ms``, on average over the space.
        typical_ms: median prediction of the samples. Deviations are taken to grow with the square root of latency.
        quality: on the samples drawn at random, each predicted without its label.
        calibration: what was measured.
    """

    scope: Scope
    sources: tuple[str, ...]
    lookup: Lookup
    floor_ms: float
    residuals: Floats
    deviation_ms: float
    typical_ms: float
    quality: Quality
    calibration: Calibration

    def predict_ms(self, population: Population) -> Floats:
        """Expected latency ``(n,)`` in ms, finite and above 0."""
        return np.asarray(np.maximum(self.lookup.apply(population), self.floor_ms))

    def upper_ms(self, population: Population, confidence: float = CONFIDENCE) -> Floats:
        """What the latency stays below with probability ``confidence``: ``(n,)`` in ms.

        Raises:
            UserError: a confidence outside [0.5, 1).
        """
        predicted = self.predict_ms(population)
        return np.asarray(predicted + self.margin_ms(confidence) * np.sqrt(predicted / self.typical_ms))

    def bound_text(self, confidence: float = CONFIDENCE) -> str:
        """The bound as a person reads it: ``8.3 % above a prediction of 12.4 ms``."""
        above = self.margin_ms(confidence) / self.typical_ms
        return f"{above * 100:.2g} % above a prediction of {format_quantity(self.typical_ms, 'time')}"

    def margin_ms(self, confidence: float = CONFIDENCE) -> float:
        """``upper_ms - predict_ms`` of a row that takes ``typical_ms``; at least 0. Raises as `upper_ms` does."""
        return bound_margin(self.residuals, confidence) * self.deviation_ms


def fit_sources(
    encoder: Encoder, measured: Mapping[str, tuple[Population, Floats]], *, reference: Population
) -> Sources:
    """Regressions of other devices' latencies, each chosen by cross-validation.

    Args:
        encoder: of the space.
        measured: device -> its rows ``(n, m)`` and latencies ``(n,)`` in ms, above 0.
        reference: ``(r, m)``, rows drawn at random from what the transfer will be used on.

    Raises:
        UserError: no device, or latencies that are not positive and finite or all the same.
    """
    if not measured:
        raise UserError("sources", "must have at least one device, got none")
    lookups = []
    for rows, latency_ms in measured.values():
        checked = checked_latency(latency_ms, len(rows))
        lookups.append(fit_regression(encoder, rows, checked, scales=("ms",)).lookup)
    return Sources(encoder=encoder, names=tuple(measured), lookups=tuple(lookups), reference=reference)


def choose_transfer_samples(sources: Sources, pool: Population, n: int, *, random_share: float = RANDOM_SHARE) -> Plan:
    """What to measure on a new device: random rows for the bound, and D-optimal ones given these for the fit.

    Args:
        sources: that the transfer draws on.
        pool: ``(p, m)`` distinct rows in random order, p at least n; the first ones are the random ones.
        n: how many, at least `MIN_TRANSFER_SAMPLES`.
        random_share: share of random ones, in [0, 1].

    Raises:
        UserError: ``n`` too small, or a pool that is smaller than that.
    """
    if n < MIN_TRANSFER_SAMPLES:
        raise UserError("samples", f"must be at least {MIN_TRANSFER_SAMPLES} for a transfer, got {n}", "20 are usual")
    if len(pool) < n:
        raise UserError("samples", f"must be at most the {len(pool)} architectures that there are, got {n}")
    num_random = min(n, max(round(n * random_share), MIN_RESIDUALS))
    standard = _Scaling.over(sources.blocks(sources.reference)).standardised(sources.blocks(pool))
    # Devices and operator counts, column by column; single devices are among the former.
    features = np.concatenate([np.ones((len(pool), 1)), *standard[-3:-1]], axis=1)
    chosen = augmented_design(features, num_random, n - num_random)
    return Plan(population=pool[chosen], random=np.arange(n) < num_random)


def fit_transfer(
    sources: Sources,
    population: Population,
    latency_ms: ArrayLike,
    *,
    scope: Scope,
    random: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
    calibration: Calibration | None = None,
) -> TransferPredictor:
    """A predictor of a new device. Deterministic.

    Args:
        sources: other devices.
        population: ``(n, m)``, canonical rows that were measured on the new device, at least `MIN_TRANSFER_SAMPLES`.
        latency_ms: ``(n,)``, finite, above 0 and not all the same.
        scope: what was measured.
        random: ``(n,)``, which rows were drawn at random; None: all.
        confidence: that the quality judges the bound at.
        calibration: protocol, host and so on; its samples are replaced by these.

    Raises:
        UserError: too few samples, fewer than 4 at random, or latencies that are no such.
    """
    measured = checked_latency(latency_ms, len(population))
    drawn = np.ones(len(measured), dtype=bool) if random is None else np.asarray(random, dtype=bool)
    if len(measured) < MIN_TRANSFER_SAMPLES or drawn.sum() < MIN_RESIDUALS:
        problem = f"must hold at least {MIN_TRANSFER_SAMPLES} architectures, {MIN_RESIDUALS} of them drawn at random"
        raise UserError("calibration", f"{problem}, got {len(measured)} and {int(drawn.sum())}", "20 are usual")
    reference = sources.blocks(sources.reference)
    scaling = _Scaling.over(reference)
    mixture = fit_mixture(
        scaling.apply(sources.blocks(population)),
        measured,
        often=[*[_OFTEN[0]] * len(sources.names), *_OFTEN[1:]],
    )
    # One of the samples may be a network that folds to nothing, which is no floor for all others.
    floor = max(float(measured.min()) / 2, float(np.median(measured)) / 20)
    left_out = np.maximum(mixture.left_out, floor)
    typical = float(np.median(left_out))
    growth = np.sqrt(left_out / typical)
    residuals = ((measured - left_out) / mixture.left_out_deviation / growth)[drawn]
    deviation = float(mixture.deviation(scaling.apply([block[:_REFERENCE] for block in reference])).mean())
    upper = left_out[drawn] + deviation * growth[drawn] * _left_out_margins(residuals, confidence)
    figures = judge(
        measured[drawn],
        left_out[drawn],
        upper,
        confidence=confidence,
        num_train=len(measured) - 1,
        cross_validated=True,
    )
    return TransferPredictor(
        scope=scope,
        sources=sources.names,
        lookup=_folded(sources, scaling, mixture),
        floor_ms=floor,
        residuals=residuals,
        deviation_ms=deviation,
        typical_ms=typical,
        quality=figures,
        calibration=(calibration or Calibration.empty(scope.space)).with_samples(
            np.asarray(population, dtype=np.int16),
            measured,
            random=drawn,
            predicted_ms=_where(drawn, left_out[drawn]),
            upper_ms=_where(drawn, upper),
        ),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scaling:
    """Means and scales of blocks: a column has standard deviation 1, then a block's squared length is 1 on average."""

    means: tuple[Floats, ...]
    columns: tuple[Floats, ...]
    lengths: tuple[float, ...]

    @classmethod
    def over(cls, blocks: list[Floats]) -> _Scaling:
        means, columns, lengths = [], [], []
        for place, block in enumerate(blocks):
            mean, deviation = block.mean(axis=0), block.std(axis=0)
            # Options are left as they are: rare ones would else weigh as much as common ones.
            own = np.ones(len(deviation)) if place == len(blocks) - 1 else deviation
            scale = np.where(deviation > 1e-9, 1 / np.maximum(own, 1e-9), 0.0)
            length = float(np.square((block - mean) * scale).sum(axis=1).mean()) if block.shape[1] else 0.0
            means.append(mean)
            columns.append(scale)
            lengths.append(1 / np.sqrt(length) if length > 0 else 0.0)
        return cls(means=tuple(means), columns=tuple(columns), lengths=tuple(lengths))

    def standardised(self, blocks: list[Floats]) -> list[Floats]:
        """Each column with mean 0 and deviation 1; constant ones are 0."""
        return [(b - m) * c for b, m, c in zip(blocks, self.means, self.columns, strict=True)]

    def apply(self, blocks: list[Floats]) -> list[Floats]:
        """Blocks of squared length 1 on average."""
        return [b * length for b, length in zip(self.standardised(blocks), self.lengths, strict=True)]


def _folded(sources: Sources, scaling: _Scaling, mixture: Mixture) -> Lookup:
    """The mixture's mean prediction as one sum of look-ups."""
    encoder = sources.encoder
    raw = [
        weights * columns * length
        for weights, columns, length in zip(mixture.weights, scaling.columns, scaling.lengths, strict=True)
    ]
    offset = mixture.offset - sum(float(w @ m) for w, m in zip(raw, scaling.means, strict=True))
    num = len(sources.names)
    shares = np.concatenate(raw[:num]) + raw[num]
    terms = [*encoder.terms("counts", raw[num + 1]), *encoder.terms("one-hot", raw[num + 2])]
    for share, lookup in zip(shares, sources.lookups, strict=True):
        offset += float(share) * lookup.offset
        terms += lookup.scaled(float(share))
    return Lookup.of(encoder.space, offset, terms)


def _left_out_margins(residuals: Floats, confidence: float) -> Floats:
    """``(r,)``: the margin for each random sample, from the errors of the others; of all where there are too few."""
    if len(residuals) <= MIN_RESIDUALS:
        return np.full(len(residuals), bound_margin(residuals, confidence))
    return np.array([bound_margin(np.delete(residuals, place), confidence) for place in range(len(residuals))])


def _where(drawn: NDArray[np.bool_], values: Floats) -> Floats:
    """``values`` where samples were drawn at random, NaN elsewhere."""
    out = np.full(len(drawn), np.nan)
    out[drawn] = values
    return out
