from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
import pytest

from nas.device.card import Device
from nas.device.card_figures import Figure
from nas.device.counters import Consumed, MeterLog
from nas.device.energy import (
    CARD_SPREAD,
    EnergyPredictor,
    ScreenedEnergy,
    energy_from_log,
    measure_energy,
    net_energy,
)
from nas.device.predictor import Scope
from nas.errors import UserError
from nas.locate import resource_folder
from nas.model.population_costs import PopulationCosts
from nas.space.load import load_space
from nas.space.moves import Population, sample

SPACE = load_space(resource_folder("search_spaces") / "resnet-tiny.yaml")
SHAPE = (1, 8, 8)
COSTS = PopulationCosts(SPACE, input_shape=SHAPE, num_classes=10)
ROWS = sample(SPACE, 20, np.random.default_rng(0))


def figure(value: float) -> Figure:
    return Figure(value=value, source="made up for this test")


class Latency:
    """1 ms for every row, 3 ms at the most."""

    def predict_ms(self, population: Population) -> np.ndarray:
        return np.ones(len(population))

    def upper_ms(self, population: Population, confidence: float) -> np.ndarray:
        return np.full(len(population), 3.0)


def predictor(device: Device) -> EnergyPredictor:
    scope = Scope(space=SPACE, input_shape=SHAPE, num_classes=10, device=device, precision=device.precision)
    return EnergyPredictor.for_scope(scope, COSTS, Latency())


def test_an_estimate_adds_multiply_accumulates_bytes_and_static_power() -> None:
    macs = COSTS.costs(ROWS)["macs"]
    compute = predictor(Device(name="d", energy={"mac_float32": figure(2e-9)})).predict_mj(ROWS)
    np.testing.assert_allclose(compute, macs * 2e-9)
    static = predictor(Device(name="d", energy={"static": figure(5.0)})).predict_mj(ROWS)
    np.testing.assert_allclose(static, 5.0)  # 5 W for 1 ms
    both = {"mac_float32": figure(2e-9), "static": figure(5.0), "dram_byte": figure(1e-7)}
    everything = predictor(Device(name="d", energy=both)).predict_mj(ROWS)
    assert (everything > compute + static).all()


def test_quantised_networks_move_a_quarter_of_the_weights() -> None:
    energy = {"mac_float32": figure(1e-15), "mac_int8": figure(1e-15), "dram_byte": figure(1.0)}
    device = Device(name="d", energy=energy)
    names = np.array([name.endswith("weight_bytes") for name in COSTS.feature_names])
    float32, int8 = predictor(device), predictor(dataclasses.replace(device, precision="int8"))
    np.testing.assert_allclose(int8.byte_weights[names] * 4, float32.byte_weights[names])


def test_what_fits_into_the_cache_costs_what_the_cache_costs() -> None:
    energy = {"static": figure(1e-12), "dram_byte": figure(1e-7), "sram_byte": figure(1e-9)}
    far = predictor(Device(name="d", energy=energy)).predict_mj(ROWS)
    near = predictor(Device(name="d", energy=energy, memory={"cache": figure(1e12)})).predict_mj(ROWS)
    np.testing.assert_allclose(far / near, 100.0, rtol=1e-6)


def test_an_inference_of_a_batch_takes_as_many_multiply_accumulates() -> None:
    device = Device(name="d", energy={"mac_float32": figure(2e-9)})
    one, eight = predictor(device), predictor(dataclasses.replace(device, batch=8))
    np.testing.assert_allclose(eight.predict_mj(ROWS), 8 * one.predict_mj(ROWS))


def test_the_bound_holds_the_uncertainty_of_card_and_latency_and_grows_with_confidence() -> None:
    compute = predictor(Device(name="d", energy={"mac_float32": figure(2e-9)}))
    factor = math.exp(1.6448536 * CARD_SPREAD)
    np.testing.assert_allclose(compute.upper_mj(ROWS, 0.95), compute.predict_mj(ROWS) * factor)
    static = predictor(Device(name="d", energy={"static": figure(5.0)}))
    np.testing.assert_allclose(static.upper_mj(ROWS, 0.95), 5.0 * math.exp(math.hypot(math.log(3), math.log(factor))))
    assert (static.upper_mj(ROWS, 0.99) > static.upper_mj(ROWS, 0.8)).all()
    assert (static.upper_mj(ROWS, 0.5) >= static.predict_mj(ROWS)).all()
    with pytest.raises(UserError, match="confidence"):
        static.upper_mj(ROWS, 1.0)


def test_a_card_without_energies_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(UserError, match="energy: must give mac_float32 or static, the card of bare gives none"):
        predictor(Device(name="bare"))


def test_an_estimate_says_that_it_is_one_and_names_its_sources() -> None:
    text = predictor(Device(name="d", energy={"static": figure(5.0)})).source
    assert text == "estimated from the card of d: made up for this test"


def test_a_screen_gets_the_same_figures_under_its_own_names() -> None:
    energy = predictor(Device(name="d", energy={"static": figure(5.0)}))
    screened = ScreenedEnergy(energy=energy)
    np.testing.assert_array_equal(screened.predict_ms(ROWS), energy.predict_mj(ROWS))
    np.testing.assert_array_equal(screened.upper_ms(ROWS, 0.9), energy.upper_mj(ROWS, 0.9))


class FakeMeter:
    """2 W when idle, 7 W when not, on a clock that sleeping and runs move."""

    def __init__(self, drift_w: float = 0.0) -> None:
        self.now, self.idle_w, self.drift_w = 0.0, 2.0, drift_w

    def during(self, work: Callable[[], object]) -> Consumed:
        before = self.now
        work()
        seconds = self.now - before
        power_w = 7.0 if getattr(work, "__name__", "") == "busy" else self.idle_w
        self.idle_w += self.drift_w
        return Consumed(energy_mj=power_w * seconds * 1e3, seconds=seconds)


def timed(monkeypatch: pytest.MonkeyPatch, meter: FakeMeter) -> Callable[[], None]:
    def sleep(seconds: float) -> None:
        meter.now += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: meter.now)

    def run() -> None:
        meter.now += 0.004

    return run


def test_measured_energy_is_that_of_the_runs_without_the_idle_power(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = FakeMeter()
    found = measure_energy(timed(monkeypatch, meter), meter, source="fake", seconds=1.0, idle_seconds=0.5)
    assert found.runs == 250
    assert found.energy_mj == pytest.approx(5.0 * 4.0)  # 5 W above idle for 4 ms
    assert (found.idle_w, found.busy_w, found.settled, found.note) == (2.0, 7.0, True, "")


def test_idle_power_that_changed_meanwhile_is_not_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = FakeMeter(drift_w=0.5)
    found = measure_energy(timed(monkeypatch, meter), meter, source="fake", seconds=1.0)
    assert not found.settled
    assert found.note == "idle power went from 2 to 3 W while the runs drew 7 W"


def test_runs_that_do_not_stand_out_from_idle_are_not_settled() -> None:
    idle = Consumed(energy_mj=10_000.0, seconds=1.0)
    found = net_energy(Consumed(energy_mj=10_010.0, seconds=1.0), idle=(idle, idle), runs=10, source="plug")
    assert not found.settled
    assert "too close to tell" in found.note
    below = net_energy(Consumed(energy_mj=9_000.0, seconds=1.0), idle=(idle, idle), runs=10, source="plug")
    assert math.isnan(below.energy_mj)


def test_a_meters_log_gives_the_energy_of_runs_that_were_timed_elsewhere() -> None:
    seconds = np.linspace(0, 10, 1001)
    log = MeterLog(seconds=seconds, power_w=np.where((seconds > 4) & (seconds < 6), 7.0, 2.0), source="log.csv")
    found = energy_from_log(log, start_s=4.2, end_s=5.8, runs=400, idle=((1.0, 3.0), (7.0, 9.0)))
    assert found.energy_mj == pytest.approx(5.0 * 1.6e3 / 400)
    assert found.settled
    assert found.source == "log.csv"


def test_a_million_energies_take_less_than_two_seconds() -> None:
    rows = np.tile(ROWS, (50_000, 1))
    energy = predictor(Device(name="d", energy={"mac_float32": figure(2e-9), "dram_byte": figure(1e-7)}))
    energy.predict_mj(rows[:100])
    started = time.process_time()
    assert np.isfinite(energy.predict_mj(rows)).any()
    assert time.process_time() - started < 2
