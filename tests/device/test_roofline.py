from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from nas.device.card import Device, Kind, load_device
from nas.device.card_figures import Peak
from nas.device.predictor import Scope
from nas.device.roofline import RATES, RooflinePredictor, rates_of, terms
from nas.errors import UserError
from nas.locate import resource_folder
from nas.model.population_costs import PopulationCosts
from nas.problem.goals import budgets_from
from nas.space.load import load_space
from nas.space.moves import sample
from nas.strategy.screening import Screen

SPACE = load_space(resource_folder("search_spaces") / "mobilenet-tiny.yaml")
SHAPE = (1, 8, 8)
COSTS = PopulationCosts(SPACE, input_shape=SHAPE, num_classes=10)
ROWS = sample(SPACE, 40, np.random.default_rng(0))
CARDS = resource_folder("latency_models")
SHIPPED = [
    "apple-a17-pro", "apple-m2", "coral-edge-tpu", "esp32-s3", "jetson-orin-nano", "nvidia-a100", "nvidia-h100",
    "nvidia-t4", "pixel-8", "raspberry-pi-4", "raspberry-pi-5", "snapdragon-8-gen-3", "x86-laptop", "x86-server",
]  # fmt: skip


def peaks(**rates: float) -> dict[str, Peak]:
    return {name: Peak(per_second=rate, source="made up for this test") for name, rate in rates.items()}


CPU = Device(name="cpu", peaks=peaks(float32=1e11, int8=4e11, memory_bandwidth=2e10))


def predictor(device: Device, precision: str = "") -> RooflinePredictor:
    wanted = precision or device.precision
    scope = Scope(space=SPACE, input_shape=SHAPE, num_classes=10, device=device, precision=wanted)  # type: ignore[arg-type]
    return RooflinePredictor.for_scope(scope, COSTS)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_card_gives_an_estimate_that_says_so(name: str) -> None:
    estimate = predictor(load_device(name, [CARDS]))
    expected, upper = estimate.predict_ms(ROWS), estimate.upper_ms(ROWS, 0.95)
    assert (expected > 0).all()
    assert (upper > expected).all()
    assert estimate.source.startswith(f"estimated from the card of {name}")


def test_the_estimate_is_the_sum_of_calls_arithmetic_and_bytes() -> None:
    rates = rates_of(CPU)
    features = dict(zip(COSTS.feature_names, COSTS.features(ROWS).T, strict=True))
    used = {name: values for name, values in features.items() if not name.startswith("fused_")}
    calls = sum(values for name, values in used.items() if name.endswith(".kernels"))
    one = dataclasses.replace(CPU, peaks=peaks(float32=1e30, memory_bandwidth=1e30))
    call_ms = rates.factors(one)[0] * 1e-3
    np.testing.assert_allclose(predictor(one).predict_ms(ROWS), calls * call_ms)


def test_ten_times_the_bandwidth_takes_nine_tenths_of_the_traffic_away() -> None:
    wide = dataclasses.replace(CPU, peaks=peaks(float32=1e11, memory_bandwidth=2e11))
    endless = dataclasses.replace(CPU, peaks=peaks(float32=1e11, memory_bandwidth=1e40))
    none = predictor(endless).predict_ms(ROWS)
    np.testing.assert_allclose(
        predictor(wide).predict_ms(ROWS) - none, (predictor(CPU).predict_ms(ROWS) - none) / 10, rtol=1e-6
    )


def test_order_does_not_matter_and_an_empty_population_gives_nothing() -> None:
    estimate = predictor(CPU)
    np.testing.assert_array_equal(estimate.predict_ms(ROWS[::-1]), estimate.predict_ms(ROWS)[::-1])
    assert estimate.predict_ms(ROWS[:0]).shape == (0,)
    assert estimate.upper_ms(ROWS[:0], 0.95).shape == (0,)


def test_the_bound_grows_with_confidence_and_a_wrong_confidence_is_refused() -> None:
    estimate = predictor(CPU)
    factors = [estimate.bound_factor(confidence) for confidence in (0.5, 0.8, 0.9, 0.95, 0.99)]
    assert factors == sorted(factors)
    assert factors[0] >= 1
    assert factors[3] > 2  # an estimate that claims more than that is not honest
    with pytest.raises(UserError, match="confidence"):
        estimate.bound_factor(1.0)


def test_a_batch_takes_longer_but_not_as_many_calls() -> None:
    one, eight = predictor(CPU).predict_ms(ROWS), predictor(dataclasses.replace(CPU, batch=8)).predict_ms(ROWS)
    assert (one < eight).all()
    assert (eight < 8 * one).all()


def test_a_precision_that_was_never_measured_on_the_kind_gets_no_credit_for_its_peak() -> None:
    gpu = Device(name="gpu", kind="gpu", peaks=peaks(float32=1e13, float16=8e13, memory_bandwidth=1e15))
    slower = Device(name="gpu", kind="gpu", peaks=peaks(float32=1e13, memory_bandwidth=1e15))
    assert "float16" not in RATES["gpu", "pytorch"].measured
    np.testing.assert_allclose(
        predictor(gpu, "float16").predict_ms(ROWS), predictor(slower, "float16").predict_ms(ROWS)
    )


def test_int8_files_call_more_kernels_and_compute_faster() -> None:
    float32, int8 = terms(COSTS.feature_names, CPU, "float32"), terms(COSTS.feature_names, CPU, "int8")
    fused = [row for row, name in enumerate(COSTS.feature_names) if name == "fused_hardswish.kernels"]
    assert (float32[fused, 0] == 0).all()
    assert (int8[fused, 0] > 0).all()
    np.testing.assert_allclose(int8[:, 1] * 4, float32[:, 1])


@pytest.mark.parametrize(
    ("kind", "known", "precision", "missing"),
    [
        ("cpu", {"memory_bandwidth": 1e10}, "float32", "peaks.float32"),
        ("gpu", {"float32": 1e10}, "float32", "peaks.memory_bandwidth"),
        ("npu", {"int8": 1e12}, "float32", "peaks.float32"),
        ("microcontroller", {}, "int8", "peaks.int8"),
    ],
)
def test_a_card_without_a_needed_peak_is_refused_by_its_key(
    kind: Kind, known: dict[str, float], precision: str, missing: str
) -> None:
    with pytest.raises(UserError) as caught:
        predictor(Device(name="bare", kind=kind, peaks=peaks(**known)), precision)
    assert caught.value.where == f"bare/device.yaml: {missing}"


def test_a_screen_takes_an_estimate_like_any_predictor() -> None:
    estimate = predictor(CPU)
    middle = float(np.median(estimate.upper_ms(ROWS, 0.95)))
    budgets = budgets_from({"latency": f"{middle} ms"}, device="cpu", confidence=0.95)
    screening = Screen(costs=COSTS, predictors={"latency_ms.cpu": estimate}, budgets=budgets)(ROWS)
    np.testing.assert_array_equal(screening.feasible, estimate.upper_ms(ROWS, 0.95) <= middle)
    assert 0 < screening.feasible.sum() < len(ROWS)


def test_networks_that_cannot_be_built_have_no_estimate() -> None:
    deep = load_space(resource_folder("search_spaces") / "resnet-tiny.yaml")
    costs = PopulationCosts(deep, input_shape=(1, 1, 1), num_classes=10)
    rows = sample(deep, 20, np.random.default_rng(1))
    scope = Scope(space=deep, input_shape=(1, 1, 1), num_classes=10, device=CPU, precision="float32")
    estimated = RooflinePredictor.for_scope(scope, costs).predict_ms(rows)
    np.testing.assert_array_equal(np.isnan(estimated), ~costs.buildable(rows))


def test_a_million_estimates_take_less_than_a_second() -> None:
    rows = np.tile(ROWS, (25_000, 1))
    estimate = predictor(CPU)
    estimate.predict_ms(ROWS)
    started = time.process_time()
    estimate.predict_ms(rows)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("precision", "activations", "weights", "products"),
    [("float16", 2, 2, 2), ("int8", 1, 1, 1), ("int8-dynamic", 4, 1, 1), ("int4", 1, 1, 0.625)],
)
def test_bytes_are_those_of_the_files_of_a_precision(
    precision: str, activations: float, weights: float, products: float
) -> None:
    names = ("conv.activation_bytes", "conv.weight_bytes", "linear.weight_bytes", "fused_hardswish.activation_bytes")
    floats, found = (terms(names, CPU, name)[:, 3] for name in ("float32", precision))  # type: ignore[arg-type]
    np.testing.assert_allclose(4 * found[:3] / floats[:3], [activations, weights, products])
    # A float32 convolution takes its activation in; in 8 bits that is a kernel of its own.
    assert floats[3] == 0
    assert (found[3] > 0) == (precision != "float16")
