"""The operators model: rates from probes, and what they say about spaces that the fit has not seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.device.card import Device
from nas.device.host import host_facts
from nas.device.operators import OperatorsModel, Probed, Provenance, fit_operators, fit_rates
from nas.device.operators_design import choose_probes
from nas.device.operators_predictor import decode_operators, encode_operators, network_errors
from nas.device.operators_store import load_operators, operators_file, save_operators
from nas.device.predictor import LatencyPredictor, Scope
from nas.device.store import PredictorMisfitError
from nas.errors import UserError
from nas.model.features import FEATURE_NAMES
from nas.model.population_costs import PopulationCosts
from nas.model.probes import draw_probes
from nas.space.moves import sample
from nas.space.space import SearchSpace

SHAPE, CLASSES, NOISE = (1, 8, 8), 10, 0.02
RATES = {"kernels": 1e-3, "steps": 3e-7, "loads": 3e-7, "calls": 3e-6, "activation_bytes": 2e-8, "weight_bytes": 1e-8}
TRUE = np.array([RATES.get(name.rpartition(".")[2], 0.0) for name in FEATURE_NAMES])
PROVENANCE = Provenance(
    device="here",
    precision="float32",
    threads=1,
    batch=1,
    protocol="known rates with 2 % noise",
    anchor_ms=0.03,
    host=host_facts().to_record(),
    fingerprint=host_facts().fingerprint(1),
    time="2026-01-02T03:04:05+00:00",
)
TEMPLATE = {
    "name": "unseen",
    "network": [
        {"op": "conv", "channels": {"choose": [8, 16, 32]}, "kernel": {"choose": [3, 5]}},
        {
            "repeat": {
                "times": {"choose": [1, 2, 3]},
                "block": {
                    "choose": [
                        {"op": "inverted_residual", "expansion": {"choose": [2, 4]}, "squeeze_excite": True},
                        {"op": "basic_block"},
                    ]
                },
            }
        },
        {"op": "classifier"},
    ],
}


@pytest.fixture(scope="module")
def probed() -> Probed:
    rng = np.random.default_rng(0)
    features = np.array([probe.features for probe in draw_probes(160, rng)])
    noise = np.exp(NOISE * rng.standard_normal(len(features)))
    return Probed(features=features, latency_ms=features @ TRUE * noise, random=np.arange(len(features)) < 100)


@pytest.fixture(scope="module")
def model(probed: Probed) -> OperatorsModel:
    return fit_operators(probed, PROVENANCE)


@pytest.fixture(scope="module")
def scope() -> Scope:
    space = SearchSpace.from_template(TEMPLATE)
    return Scope(space=space, input_shape=SHAPE, num_classes=CLASSES, device=Device(name="here"), precision="float32")


@pytest.fixture(scope="module")
def costs(scope: Scope) -> PopulationCosts:
    return PopulationCosts(scope.space, input_shape=SHAPE, num_classes=CLASSES)


def test_a_space_that_no_probe_is_from_is_predicted(
    model: OperatorsModel, scope: Scope, costs: PopulationCosts
) -> None:
    population = sample(scope.space, 60, np.random.default_rng(1))
    predictor: LatencyPredictor = model.predictor(scope, costs)
    true_ms = costs.features(population) @ TRUE
    np.testing.assert_allclose(predictor.predict_ms(population), true_ms, rtol=0.1)
    assert (predictor.upper_ms(population, 0.95) >= true_ms).mean() > 0.95
    assert model.quality.mape < 0.06


def test_measured_networks_correct_a_factor_and_narrow_the_bound(
    model: OperatorsModel, scope: Scope, costs: PopulationCosts
) -> None:
    rng = np.random.default_rng(2)
    population = sample(scope.space, 200, rng)
    # The space runs 30 % slower than its kernels alone.
    latency_ms = 1.3 * costs.features(population) @ TRUE * np.exp(NOISE * rng.standard_normal(200))
    alone = model.predictor(scope, costs)
    told = model.predictor(scope, costs, population=population[:20], latency_ms=latency_ms[:20])
    rest, truth = population[20:], latency_ms[20:]
    assert np.abs(told.predict_ms(rest) / truth - 1).mean() < 0.05
    assert np.abs(alone.predict_ms(rest) / truth - 1).mean() > 0.15
    assert told.bound_factor(0.95) < 1.15
    assert (truth <= told.upper_ms(rest, 0.95)).mean() > 0.85
    assert told.quality.num_test == 20
    assert len(told.calibration.points()) == 20
    assert alone.calibration.points() == []


def test_networks_that_cannot_be_built_are_nan_and_no_rows_give_no_latency(model: OperatorsModel) -> None:
    pool = {"op": "max_pool", "kernel": 2, "stride": 2}
    space = SearchSpace.from_template(
        {"name": "s", "network": [{"repeat": {"times": {"choose": [1, 2, 3]}, "block": pool}}, {"op": "classifier"}]}
    )
    costs = PopulationCosts(space, input_shape=(1, 4, 4), num_classes=CLASSES)
    scope = Scope(
        space=space, input_shape=(1, 4, 4), num_classes=CLASSES, device=Device(name="here"), precision="float32"
    )
    predictor = model.predictor(scope, costs)
    population = np.array([[0], [1], [2]], dtype=np.int16)
    assert np.isnan(predictor.predict_ms(population)).tolist() == [False, False, True]
    assert predictor.upper_ms(population[:0], 0.9).shape == (0,)


@settings(max_examples=30, deadline=None)
@given(low=st.floats(0.5, 0.98), step=st.floats(0.001, 0.019))
def test_a_bound_is_above_the_prediction_and_grows_with_confidence(low: float, step: float) -> None:
    rng = np.random.default_rng(0)
    checks = {"a": rng.normal(0.1, 0.05, 8), "b": rng.normal(-0.1, 0.02, 8), "c": rng.normal(0, 0.1, 8)}
    sums = rng.uniform(1, 2, 12)
    for errors in (
        network_errors(None, None, checks, np.array([0.1, -0.2, 0.3])),
        network_errors(None, None, {}, np.array([0.1, -0.2, 0.3])),
        network_errors(sums, sums * np.exp(rng.normal(0, 0.1, 12)), checks, np.zeros(3)),
    ):
        assert 1 <= errors.factor(low) <= errors.factor(low + step)


def test_the_bound_for_a_further_space_holds_for_spaces_that_differ() -> None:
    rng = np.random.default_rng(5)
    held = []
    for _ in range(400):
        offsets = rng.normal(0, 0.1, 5)
        errors = {str(k): offset + rng.normal(0, 0.05, 8) for k, offset in enumerate(offsets[:4])}
        factor = network_errors(None, None, errors, np.zeros(2)).factor(0.9)
        held.append(offsets[4] + rng.normal(0, 0.05) <= np.log(factor))
    assert 0.87 < np.mean(held) <= 0.97


def test_rates_are_never_negative_and_outliers_barely_move_them(probed: Probed) -> None:
    clean = fit_rates(probed.features, probed.latency_ms)
    spoilt = probed.latency_ms.copy()
    spoilt[::40] *= 8
    rates = fit_rates(probed.features, spoilt)
    assert (rates >= 0).all()
    good = np.ones(len(spoilt), dtype=bool)
    good[::40] = False
    ratio = (probed.features @ rates)[good] / (probed.features @ clean)[good]
    assert np.median(np.abs(ratio - 1)) < 0.02


def test_the_order_of_probes_does_not_change_the_rates(probed: Probed) -> None:
    order = np.random.default_rng(0).permutation(len(probed))
    one = fit_rates(probed.features, probed.latency_ms)
    other = fit_rates(probed.features[order], probed.latency_ms[order])
    np.testing.assert_allclose(probed.features @ other, probed.features @ one, rtol=1e-6)


def test_probes_like_those_that_the_model_errs_on_are_preferred(probed: Probed) -> None:
    shares = probed.features * TRUE / (probed.features @ TRUE)[:, None]
    depthwise = shares[:, [name.startswith("depthwise") for name in FEATURE_NAMES]].sum(axis=1)
    first = np.arange(60)
    even = choose_probes(probed.features, first, probed.latency_ms[first], 20)
    # Depthwise kernels take thrice or a third of what any rate could give them.
    odd_ms = probed.latency_ms * np.exp(np.where(np.arange(len(probed)) % 2, 1.1, -1.1) * depthwise)
    odd = choose_probes(probed.features, first, odd_ms[first], 20)
    for chosen in (even, odd):
        assert len(set(chosen.tolist())) == 20
        assert not set(chosen.tolist()) & set(first.tolist())
    assert depthwise[odd].mean() > 1.2 * depthwise[even].mean()


def test_asking_for_more_probes_than_are_left_gives_those_that_are_left(probed: Probed) -> None:
    measured = np.arange(len(probed) - 3)
    chosen = choose_probes(probed.features, measured, probed.latency_ms[measured], 10)
    assert sorted(chosen.tolist()) == list(range(len(probed) - 3, len(probed)))


def test_a_model_comes_back_from_disk_as_it_was(
    model: OperatorsModel, scope: Scope, costs: PopulationCosts, tmp_path: Path
) -> None:
    kept = replace(model, checks={"a": np.array([0.1, 0.2]), "b": np.array([0.0, 0.1])})
    path = tmp_path / "here" / operators_file("float32")
    save_operators(kept, path)
    back = load_operators(path, device=scope.device, precision="float32")
    population = sample(scope.space, 20, np.random.default_rng(3))
    one, other = (found.predictor(scope, costs) for found in (kept, back))
    np.testing.assert_array_equal(one.predict_ms(population), other.predict_ms(population))
    np.testing.assert_array_equal(one.upper_ms(population, 0.95), other.upper_ms(population, 0.95))
    assert back.provenance == kept.provenance
    assert back.quality == kept.quality


def test_a_predictor_comes_back_from_its_parts_as_it_was(
    model: OperatorsModel, scope: Scope, costs: PopulationCosts
) -> None:
    population = sample(scope.space, 30, np.random.default_rng(3))
    true_ms = costs.features(population) @ TRUE
    for predictor in (
        model.predictor(scope, costs),
        model.predictor(scope, costs, population=population, latency_ms=true_ms),
    ):
        record, arrays = encode_operators(predictor)
        plain = json.loads(json.dumps(record))
        back = decode_operators(plain, arrays, scope, costs, predictor.quality, predictor.calibration)
        np.testing.assert_array_equal(back.predict_ms(population), predictor.predict_ms(population))
        np.testing.assert_array_equal(back.upper_ms(population, 0.9), predictor.upper_ms(population, 0.9))


def test_quality_without_networks_of_the_space_is_that_on_other_spaces(
    model: OperatorsModel, scope: Scope, costs: PopulationCosts
) -> None:
    checks = {"a": np.log([1.1, 1.1, 1.1]), "b": np.log([0.9, 1.0]), "c": np.log([1.0, 1.0])}
    quality = replace(model, checks=checks).predictor(scope, costs).quality
    assert quality.num_test == 7
    assert quality.mape == pytest.approx((3 * (1 - 1 / 1.1) + (1 / 0.9 - 1)) / 7)
    assert np.isnan(quality.spearman)


@pytest.mark.parametrize(
    ("device", "precision", "told"),
    [
        (Device(name="there"), "float32", "device must be there"),
        (Device(name="here", batch=8), "float32", "batch must be 8, it is 1"),
        (Device(name="here", threads=2), "float32", "threads must be 2"),
        (Device(name="here"), "int8", "precision must be int8"),
    ],
)
def test_a_model_of_something_else_is_refused(
    model: OperatorsModel, tmp_path: Path, device: Device, precision: str, told: str
) -> None:
    path = tmp_path / "m.npz"
    save_operators(model, path)
    with pytest.raises(PredictorMisfitError, match=told):
        load_operators(path, device=device, precision=precision)  # type: ignore[arg-type]


def test_a_model_of_another_machine_and_a_broken_or_missing_file_are_refused(
    model: OperatorsModel, tmp_path: Path
) -> None:
    path = tmp_path / "m.npz"
    with pytest.raises(PredictorMisfitError, match="no operators model is stored"):
        load_operators(path, device=Device(name="here"), precision="float32")
    elsewhere = replace(PROVENANCE, fingerprint={**PROVENANCE.fingerprint, "cpu": "another"})
    save_operators(replace(model, provenance=elsewhere), path)
    with pytest.raises(PredictorMisfitError, match="measured elsewhere"):
        load_operators(path, device=Device(name="here"), precision="float32")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(PredictorMisfitError, match="cannot be read"):
        load_operators(path, device=Device(name="here"), precision="float32")
    np.savez(path, record=np.array('{"kind": "cost", "format": 2}'))
    with pytest.raises(PredictorMisfitError, match="it is cost of format 2"):
        load_operators(path, device=Device(name="here"), precision="float32")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, record=np.array([{"kind": "operators"}], dtype=object))
    with pytest.raises(PredictorMisfitError, match="cannot be read"):
        load_operators(path, device=Device(name="here"), precision="float32")


def test_a_predictor_of_another_precision_or_batch_is_refused(
    model: OperatorsModel, scope: Scope, costs: PopulationCosts
) -> None:
    with pytest.raises(UserError, match="precision must be int8, it was measured for float32"):
        model.predictor(replace(scope, precision="int8"), costs)
    with pytest.raises(UserError, match="batch must be 4"):
        model.predictor(replace(scope, device=Device(name="here", batch=4)), costs)


def test_too_few_or_wrong_measurements_are_refused(model: OperatorsModel, probed: Probed) -> None:
    few = Probed(features=probed.features[:30], latency_ms=probed.latency_ms[:30], random=probed.random[:30])
    with pytest.raises(UserError, match="must be at least 40"):
        fit_operators(few, PROVENANCE)
    with pytest.raises(UserError, match=r"row 1: must have a latency above 0, got 0\.0 ms"):
        Probed(features=probed.features[:2], latency_ms=np.array([1.0, 0.0]), random=probed.random[:2])
    with pytest.raises(UserError, match="at least 5 networks"):
        network_errors(np.ones(3), np.ones(3), {}, np.zeros(3))
    with pytest.raises(UserError, match="above 0"):
        network_errors(np.ones(5), np.array([1.0, 1, 1, 1, np.nan]), {}, np.zeros(3))


def test_a_million_architectures_take_under_a_second_once_tables_are_filled(
    model: OperatorsModel, scope: Scope, costs: PopulationCosts
) -> None:
    import time

    population = sample(scope.space, 1_000_000, np.random.default_rng(0))
    predictor = model.predictor(scope, costs)
    predictor.predict_ms(population)
    start = time.process_time()
    predictor.upper_ms(population, 0.95)
    assert time.process_time() - start < 1
