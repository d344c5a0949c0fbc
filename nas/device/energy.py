"""Energy of an inference: measured where something counts it, else estimated from the device card.

Responsible for the arithmetic of both, and for saying which of them a figure is. Energies are mJ an inference of the
device's batch, above what the device draws when idle where they are measured; an estimate holds all that flows.

An estimate is energy a multiply-accumulate, energy a byte, and a static power times the latency [Horowitz2014]. Bytes
count as on-chip where weights and activations fit into the card's cache. The coefficients are those of other chips, or
rated power over peak rates: good for ranking architectures, and right within a factor at best.

References:
    [Horowitz2014] M. Horowitz. Computing's energy problem (and what we can do about it). ISSCC 2014.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from nas.device.card import ARITHMETIC, BYTES_PER_VALUE, UNFUSED, WIDTHS, Device, Precision
from nas.device.counters import Consumed, EnergyMeter, MeterLog
from nas.device.predictor import CONFIDENCE, LatencyPredictor, Scope
from nas.errors import UserError
from nas.model.population_costs import PopulationCosts
from nas.space.moves import Population

Floats = NDArray[np.float64]

CARD_SPREAD = math.log(2)
"""Standard deviation of the logarithm of true over estimated energy: an assumption, as no estimate was checked."""

_MAX_IDLE_CHANGE = 0.1
_MIN_SHARE = 0.02


@dataclass(frozen=True, kw_only=True)
class EnergyMeasurement:
    """Energy of an inference, measured.

    Attributes:
        energy_mj: above idle; NaN where that cannot be told.
        idle_w: power before and after the runs, on average.
        busy_w: power during the runs.
        runs: inferences that it is the mean of.
        settled: False where it cannot be trusted.
        note: why not; "" where it is settled.
        source: what measured it.
    """

    energy_mj: float
    idle_w: float
    busy_w: float
    runs: int
    settled: bool
    note: str
    source: str


def measure_energy(
    run: Callable[[], object], meter: EnergyMeter, *, source: str, seconds: float = 3.0, idle_seconds: float = 2.0
) -> EnergyMeasurement:
    """Energy of ``run``, an inference: many in a row, minus what flows without them, looked at before and after.

    Args:
        run: one inference, on a model that is loaded and warm.
        meter: that counts.
        source: what it is, in words.
        seconds: that inferences run, at least; one at least is run.
        idle_seconds: of idling on either side.

    Raises:
        UserError: the meter cannot be read.
    """
    before = meter.during(lambda: time.sleep(idle_seconds))
    runs = 0

    def busy() -> None:
        nonlocal runs
        until = time.monotonic() + seconds
        while runs == 0 or time.monotonic() < until:
            run()
            runs += 1

    during = meter.during(busy)
    after = meter.during(lambda: time.sleep(idle_seconds))
    return net_energy(during, idle=(before, after), runs=runs, source=source)


def energy_from_log(
    log: MeterLog, *, start_s: float, end_s: float, runs: int, idle: tuple[tuple[float, float], tuple[float, float]]
) -> EnergyMeasurement:
    """Energy of an inference from a meter's log, for runs that were timed elsewhere.

    Args:
        log: of the meter.
        start_s, end_s: of the first and the last run, on the log's clock.
        runs: inferences between them.
        idle: start and end of a pause before, and of one after.

    Raises:
        UserError: the log does not cover one of these.
    """

    def consumed(first_s: float, last_s: float) -> Consumed:
        return Consumed(energy_mj=log.energy_mj(first_s, last_s), seconds=last_s - first_s)

    pauses = (consumed(*idle[0]), consumed(*idle[1]))
    return net_energy(consumed(start_s, end_s), idle=pauses, runs=runs, source=log.source)


def net_energy(during: Consumed, *, idle: tuple[Consumed, Consumed], runs: int, source: str) -> EnergyMeasurement:
    """Energy a run above idle; not settled where idle power changed, or runs hardly stand out from it."""
    powers = [pause.energy_mj / pause.seconds / 1e3 for pause in idle]
    idle_w, busy_w = sum(powers) / 2, during.energy_mj / during.seconds / 1e3
    note = ""
    if abs(powers[1] - powers[0]) > _MAX_IDLE_CHANGE * max(busy_w - idle_w, 0.0):
        note = f"idle power went from {powers[0]:.3g} to {powers[1]:.3g} W while the runs drew {busy_w:.3g} W"
    if busy_w - idle_w <= _MIN_SHARE * idle_w:
        note = f"the runs drew {busy_w:.3g} W, the idle machine {idle_w:.3g} W: too close to tell"
    energy_mj = (busy_w - idle_w) * during.seconds * 1e3 / runs
    return EnergyMeasurement(
        energy_mj=energy_mj if energy_mj > 0 else math.nan,
        idle_w=idle_w,
        busy_w=busy_w,
        runs=runs,
        settled=not note,
        note=note,
        source=source,
    )


def check_card(device: Device, precision: Precision) -> None:
    """Refuses a card that energies cannot be estimated from.

    Raises:
        UserError: it gives neither the energy of a multiply-accumulate nor a static power.
    """
    wanted = {f"mac_{ARITHMETIC[precision]}", "mac_float32", "static"}
    if not wanted & device.energy.keys():
        given = ", ".join(device.energy) or "none"
        problem = f"must give mac_{ARITHMETIC[precision]} or static, the card of {device.name} gives {given}"
        raise UserError(f"{device.name}/device.yaml: energy", problem, "add them, with their source")


@dataclass(frozen=True, kw_only=True, eq=False)
class EnergyPredictor:
    """Energy estimated from a device card and a latency.

    Attributes:
        scope: what it is about.
        costs: features and costs of rows.
        latency: of the same scope, measured or estimated.
        mac_mj: of a multiply-accumulate.
        static_w: power that flows during the whole inference.
        near_byte_mj, far_byte_mj: of a byte in caches, and of one in memory.
        cache_bytes: up to which weights and activations stay in caches.
        byte_weights: ``(F,)``, bytes a unit of each feature.
    """

    scope: Scope
    costs: PopulationCosts
    latency: LatencyPredictor
    mac_mj: float
    static_w: float
    near_byte_mj: float
    far_byte_mj: float
    cache_bytes: float
    byte_weights: Floats

    @classmethod
    def for_scope(cls, scope: Scope, costs: PopulationCosts, latency: LatencyPredictor) -> EnergyPredictor:
        """The estimate for a device's card.

        Raises:
            UserError: the card gives neither the energy of a multiply-accumulate nor a static power.
        """
        device, numbers = scope.device, ARITHMETIC[scope.precision]
        check_card(device, scope.precision)
        known = {name: figure.value for name, figure in device.energy.items()}
        mac = known.get(f"mac_{numbers}", known.get("mac_float32"))
        far = known.get("dram_byte", 0.0)
        near = known.get("sram_byte", 0.0)
        cache = device.memory["cache"].value if "cache" in device.memory else 0.0
        return cls(
            scope=scope,
            costs=costs,
            latency=latency,
            mac_mj=mac or 0.0,
            static_w=known.get("static", 0.0),
            near_byte_mj=near,
            far_byte_mj=far if "dram_byte" in known else near,
            cache_bytes=cache,
            byte_weights=_byte_weights(costs.feature_names, scope),
        )

    def predict_mj(self, population: Population) -> Floats:
        """Estimated energy ``(n,)`` in mJ, above 0; NaN where a network cannot be built."""
        return self._moving_mj(population) + self.static_w * self.latency.predict_ms(population)

    def upper_mj(self, population: Population, confidence: float = CONFIDENCE) -> Floats:
        """What the energy stays below with ``confidence``: ``(n,)`` in mJ, at least what is expected.

        The bound of the latency, widened by `CARD_SPREAD`. NaN as in `predict_mj`.

        Raises:
            UserError: a confidence outside [0.5, 1).
        """
        if not 0.5 <= confidence < 1:
            raise UserError("confidence", f"must be at least 0.5 and below 1, got {confidence}", "0.95 is usual")
        of_card = float(norm.ppf(confidence)) * CARD_SPREAD
        expected_ms = self.latency.predict_ms(population)
        of_latency = np.log(self.latency.upper_ms(population, confidence) / expected_ms)
        static = self.static_w * expected_ms * np.exp(np.hypot(of_latency, of_card))
        return np.asarray(self._moving_mj(population) * math.exp(of_card) + static)

    @property
    def source(self) -> str:
        """One line for reports: that it is an estimate, and from what."""
        named = ", ".join(dict.fromkeys(figure.source for figure in self.scope.device.energy.values()))
        return f"estimated from the card of {self.scope.device.name}: {named}"

    def _moving_mj(self, population: Population) -> Floats:
        """Of multiply-accumulates and bytes ``(n,)``."""
        costs = self.costs.costs(population)
        stored, mapped = _shares(self.scope)
        held = costs["size_bytes"] * stored + costs["peak_activation_bytes"] * self.scope.device.batch * mapped
        per_byte = np.where(held <= self.cache_bytes, self.near_byte_mj, self.far_byte_mj)
        moved = self.costs.weighted(population, self.byte_weights)
        return np.asarray(costs["macs"] * self.scope.device.batch * self.mac_mj + moved * per_byte)


@dataclass(frozen=True, kw_only=True, eq=False)
class ScreenedEnergy:
    """An energy predictor under the names that a screen asks for; a screen takes units from its keys.

    Attributes:
        energy: asked.
    """

    energy: EnergyPredictor

    def predict_ms(self, population: Population) -> Floats:
        """`EnergyPredictor.predict_mj`, in mJ."""
        return self.energy.predict_mj(population)

    def upper_ms(self, population: Population, confidence: float = CONFIDENCE) -> Floats:
        """`EnergyPredictor.upper_mj`, in mJ."""
        return self.energy.upper_mj(population, confidence)


def _shares(scope: Scope) -> tuple[float, float]:
    """Bytes of weights and of activations, relative to float32."""
    widths, full = WIDTHS[scope.precision], BYTES_PER_VALUE["float32"]
    return widths.weights / full, widths.activations / full


def _byte_weights(feature_names: tuple[str, ...], scope: Scope) -> Floats:
    """Bytes moved by kernels, a unit of each feature: activations of the batch, and weights once."""
    stored, mapped = _shares(scope)
    products = WIDTHS[scope.precision].products / BYTES_PER_VALUE["float32"]
    out = np.zeros(len(feature_names))
    for row, name in enumerate(feature_names):
        kind, _, figure = name.rpartition(".")
        if kind.startswith("fused_") and scope.precision not in UNFUSED:
            continue
        if figure == "activation_bytes":
            out[row] = mapped * scope.device.batch
        elif figure == "weight_bytes":
            out[row] = products if kind == "linear" else stored
    return out
