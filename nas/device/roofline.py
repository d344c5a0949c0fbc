"""Latency estimated from a device card alone, for devices that nobody here has measured.

Responsible for the roofline [Williams2009] of a kernel as a sum: a cost a call, multiply-accumulates at a share of the
card's peak rate, bytes at a share of its bandwidth. They are added, not overlapped: on published latencies that ranks
no worse than their maximum, and it needs sums over kernels only, so that populations stay fast.

What the shares are, and how far estimates are off, was found on devices with published latencies, each judged by rates
that were fitted without it (`experiments/roofline_bound`). Devices of one kind differ by factors, so the bound is wide,
and it is the reason why a device should be measured.

References:
    [Williams2009] S. Williams, A. Waterman, D. Patterson. Roofline: an insightful visual performance model for
        multicore architectures. Communications of the ACM 52(4), 2009.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from nas.device.card import ARITHMETIC, BYTES_PER_VALUE, UNFUSED, WIDTHS, Arithmetic, Device, Kind, Precision
from nas.device.predictor import CONFIDENCE, Scope
from nas.errors import UserError
from nas.model.population_costs import PopulationCosts
from nas.space.moves import Population

Floats = NDArray[np.float64]
_FLOAT_BYTES = BYTES_PER_VALUE["float32"]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How devices of a kind compare with their card.

    Attributes:
        call_us: of a kernel, whatever it computes.
        compute: time of a multiply-accumulate, relative to that at the peak rate.
        depthwise: the same for depthwise convolutions, which keep few units busy.
        traffic: time of a byte, relative to that at the peak bandwidth.
        spread: root mean square of the logarithm of measured over estimated, on devices left out of the fit.
        num_devices: that it was found on.
        measured: precisions that these ran in.
        basis: what they were, in words.
        reference: peak float32 operations a second of what ``call_us`` was found on, where it should grow on slower
            devices: by the square root of the ratio, between what their clocks and what their peaks say. None: it is
            the same everywhere.
        full_credit: peak operations a second beyond which only the square root of a further ratio counts, where wider
            arithmetic was seen to be badly used. None: all of it counts.
    """

    call_us: float
    compute: float
    depthwise: float
    traffic: float
    spread: float
    num_devices: int
    measured: tuple[Arithmetic, ...]
    basis: str
    reference: float | None = None
    full_credit: float | None = None

    def credited(self, operations: float) -> float:
        """Peak operations a second that an estimate counts on."""
        if self.full_credit is None or operations <= self.full_credit:
            return operations
        return math.sqrt(operations * self.full_credit)

    def factors(self, device: Device) -> Floats:
        """``(4,)``: of the columns of `terms`, for a device."""
        call_us = self.call_us
        if self.reference is not None and "float32" in device.peaks:
            call_us *= math.sqrt(self.reference / device.peaks["float32"].per_second)
        return np.array([call_us, self.compute, self.depthwise, self.traffic])

    def bound_factor(self, confidence: float) -> float:
        """What to multiply an estimate with, so that a further device of the kind stays below with ``confidence``.

        Student's, as the spread is itself known from few devices; at least 1.

        Raises:
            UserError: a confidence outside [0.5, 1).
        """
        if not 0.5 <= confidence < 1:
            raise UserError("confidence", f"must be at least 0.5 and below 1, got {confidence}", "0.95 is usual")
        return math.exp(float(student.ppf(confidence, max(1, self.num_devices - 1))) * self.spread)


RATES: dict[tuple[Kind, str], Rates] = {
    ("cpu", "onnxruntime"): Rates(
        call_us=1.37,
        compute=1.25,
        depthwise=3.34,
        traffic=1.80,
        spread=0.51,
        num_devices=6,
        measured=("float32", "int8"),
        basis="one x86 core under onnxruntime, spread between devices of six processors under PyTorch",
        reference=112e9,
    ),
    ("cpu", "pytorch"): Rates(
        call_us=71.7,
        compute=2.03,
        depthwise=5.99,
        traffic=0.80,
        spread=0.45,
        num_devices=6,
        measured=("float32",),
        basis="six processors under PyTorch",
    ),
    ("gpu", "pytorch"): Rates(
        call_us=52.1,
        compute=2.82,
        depthwise=6.00,
        traffic=1.28,
        spread=0.26,
        num_devices=5,
        measured=("float32",),
        basis="five GPUs under PyTorch, kernel by kernel",
    ),
    ("microcontroller", "litert"): Rates(
        call_us=10.7,
        compute=3.85,
        depthwise=42.0,
        traffic=2.00,
        spread=0.51,
        num_devices=10,
        measured=("int8",),
        basis="ten microcontrollers",
        full_credit=1.2e9,
    ),
    ("npu", "litert"): Rates(
        call_us=32.5,
        compute=2.97,
        depthwise=8.78,
        traffic=2.01,
        spread=0.54,
        num_devices=10,
        measured=("int8",),
        basis="the Edge TPU, spread between devices of ten microcontrollers",
    ),
}
"""Kind and runtime -> rates, from `experiments/roofline_bound`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RooflinePredictor:
    """Latency estimated from a device card; satisfies `nas.device.predictor.LatencyPredictor`.

    Attributes:
        scope: what it is about.
        costs: features of rows.
        rates: of the device's kind.
        weights: ``(F,)``, ms a unit of each feature.
    """

    scope: Scope
    costs: PopulationCosts
    rates: Rates
    weights: Floats

    @classmethod
    def for_scope(cls, scope: Scope, costs: PopulationCosts) -> RooflinePredictor:
        """The estimate for a device's card.

        Raises:
            UserError: the card lacks a peak that is needed; names it.
        """
        rates = rates_of(scope.device)
        matrix = terms(costs.feature_names, scope.device, scope.precision)
        return cls(scope=scope, costs=costs, rates=rates, weights=matrix @ rates.factors(scope.device))

    def predict_ms(self, population: Population) -> Floats:
        """Estimated latency ``(n,)`` in ms, above 0; NaN where a network cannot be built."""
        return np.asarray(self.costs.weighted(population, self.weights), dtype=np.float64)

    def upper_ms(self, population: Population, confidence: float = CONFIDENCE) -> Floats:
        """What the latency stays below with ``confidence``, over devices like those that the rates are from.

        ``(n,)`` in ms; NaN as in `predict_ms`. Raises `UserError` for a confidence outside [0.5, 1).
        """
        return self.predict_ms(population) * self.bound_factor(confidence)

    def bound_factor(self, confidence: float = CONFIDENCE) -> float:
        """``upper_ms / predict_ms``, the same for all rows. Raises `UserError` as `upper_ms` does."""
        return self.rates.bound_factor(confidence)

    def bound_text(self, confidence: float = CONFIDENCE) -> str:
        """The bound as a person reads it: ``3.1 times the estimate``."""
        return f"{self.bound_factor(confidence):.1f} times the estimate"

    @property
    def source(self) -> str:
        """One line for reports: that it is an estimate, and on what it rests."""
        return f"estimated from the card of {self.scope.device.name}; rates of {self.rates.basis}"


def rates_of(device: Device) -> Rates:
    """The rates of its kind and runtime; of its kind in the runtime that was measured, where that is another."""
    same_kind = [rates for (kind, _), rates in RATES.items() if kind == device.kind]
    return RATES.get((device.kind, device.runtime), same_kind[0])


def terms(feature_names: tuple[str, ...], device: Device, precision: Precision) -> Floats:
    """Time of a unit of each feature if the device kept its peak rates: ``(F, 4)``.

    Columns: ms of a call of 1 us, of multiply-accumulates, of those of depthwise convolutions, of bytes.
    Values are of the precision's sizes (`nas.device.card.WIDTHS`). Files of 8 bits run what float32 files fuse into
    convolutions as kernels of their own. Biases are left out.

    Raises:
        UserError: the card lacks a peak that is needed; names it.
    """
    numbers, widths = ARITHMETIC[precision], WIDTHS[precision]
    mac_ms = 2e3 * device.batch / rates_of(device).credited(_operations(device, numbers))
    float_byte_ms = 1e3 / _bandwidth(device) / _FLOAT_BYTES  # features count float32 bytes
    out = np.zeros((len(feature_names), 4))
    for row, name in enumerate(feature_names):
        kind, _, figure = name.rpartition(".")
        if kind.startswith("fused_") and precision not in UNFUSED:
            continue
        if figure == "kernels":
            out[row, 0] = 1e-3
        elif figure == "padded_macs":
            out[row, 2 if kind.startswith("depthwise") else 1] = mac_ms
        elif figure == "activation_bytes":
            out[row, 3] = float_byte_ms * widths.activations * device.batch
        elif figure == "weight_bytes":
            out[row, 3] = float_byte_ms * (widths.products if kind == "linear" else widths.weights)
            if kind in ("gate", "linear"):  # a weight for each multiply-accumulate
                out[row, 1] = mac_ms / _FLOAT_BYTES
    return out


def _operations(device: Device, numbers: Arithmetic) -> float:
    """Operations a second to compare with.

    A precision that no device of the kind was measured in gets no credit for a higher peak than float32: whether a
    small network sees any of it is not known. One without a peak runs at that of float32.

    Raises:
        UserError: the card has neither.
    """
    peaks = {name: peak.per_second for name, peak in device.peaks.items()}
    known = [peaks[name] for name in (numbers, "float32") if name in peaks]
    if not known:
        problem = f"must give a peak rate for {numbers}, the card of {device.name} has {', '.join(peaks) or 'none'}"
        raise UserError(f"{device.name}/device.yaml: peaks.{numbers}", problem, "add it with its source, or measure")
    return known[0] if numbers in rates_of(device).measured else min(known)


def _bandwidth(device: Device) -> float:
    """Bytes a second; infinite on chips that keep everything inside, where the card gives none."""
    if "memory_bandwidth" in device.peaks:
        return device.peaks["memory_bandwidth"].per_second
    if device.kind in ("npu", "microcontroller"):
        return math.inf
    problem = f"must be given for a {device.kind}, the card of {device.name} has none"
    raise UserError(f"{device.name}/device.yaml: peaks.memory_bandwidth", problem, "add it with its source")
