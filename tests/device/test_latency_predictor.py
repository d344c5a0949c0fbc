import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.device.advice import recommend_for
from nas.device.card import Device
from nas.device.host import host_facts
from nas.device.model_card import write_model_card
from nas.device.predictor import CostPredictor, LatencyPredictor, Scope, fit_predictor
from nas.device.samples import choose_samples
from nas.device.store import PredictorMisfitError, load_predictor, save_predictor
from nas.errors import UserError
from nas.model.population_costs import PopulationCosts
from nas.space.encodings import one_hot, one_hot_names
from nas.space.moves import Population, sample
from nas.space.space import SearchSpace

SHAPE, CLASSES = (1, 8, 8), 10
BLOCK = {
    "op": "inverted_residual",
    "kernel": {"choose": [3, 5]},
    "expansion": {"choose": [1, 2, 4]},
    "squeeze_excite": {"choose": [False, True]},
}
TEMPLATE = {
    "name": "small",
    "network": [
        {"op": "conv", "channels": {"choose": [8, 16, 32], "name": "stem"}, "kernel": 3},
        {
            "repeat": {
                "name": "stage",
                "times": {"choose": [1, 2, 3], "name": "depth"},
                "block": BLOCK,
                "first": {"channels": {"choose": [16, 24, 48], "name": "width"}, "stride": 2},
            }
        },
        {"op": "classifier"},
    ],
}


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SearchSpace.from_template(TEMPLATE)


@pytest.fixture(scope="module")
def costs(space: SearchSpace) -> PopulationCosts:
    return PopulationCosts(space, input_shape=SHAPE, num_classes=CLASSES)


@pytest.fixture(scope="module")
def scope(space: SearchSpace) -> Scope:
    return Scope(space=space, input_shape=SHAPE, num_classes=CLASSES, device=Device(name="here"), precision="float32")


def true_ms(costs: PopulationCosts, population: Population) -> np.ndarray:
    """A machine of 2 us a kernel, 20 multiply-accumulates a ns and 10 bytes a ns."""
    rates = {"kernels": 2e-3, "padded_macs": 5e-8, "activation_bytes": 1e-7, "weight_bytes": 1e-7}
    weights = [rates.get(name.rpartition(".")[2], 0.0) for name in costs.feature_names]
    return costs.features(population) @ np.array(weights)


@pytest.fixture(scope="module")
def predictor(space: SearchSpace, costs: PopulationCosts, scope: Scope) -> CostPredictor:
    rng = np.random.default_rng(0)
    plan = choose_samples(space, costs, 28, rng)
    noise = np.exp(0.02 * rng.standard_normal(28))
    return fit_predictor(
        costs,
        plan.population,
        true_ms(costs, plan.population) * noise,
        scope=scope,
        random=plan.random,
        protocol="a known formula with 2 % noise",
        anchor_ms=0.03,
        host={"cpu": "none"},
        fingerprint=host_facts().fingerprint(1),
        time="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture(scope="module")
def fresh(space: SearchSpace) -> Population:
    return sample(space, 300, np.random.default_rng(5))


# What any predictor must keep.


def test_predictions_are_one_a_row_finite_and_positive(predictor: LatencyPredictor, fresh: Population) -> None:
    predicted = predictor.predict_ms(fresh)
    assert predicted.shape == (300,)
    assert np.isfinite(predicted).all()
    assert (predicted > 0).all()
    assert predictor.predict_ms(fresh[:0]).shape == (0,)


def test_a_row_is_predicted_the_same_wherever_it_stands(predictor: LatencyPredictor, fresh: Population) -> None:
    order = np.random.default_rng(1).permutation(len(fresh))
    assert np.array_equal(predictor.predict_ms(fresh[order]), predictor.predict_ms(fresh)[order])
    assert predictor.predict_ms(fresh[7:8])[0] == predictor.predict_ms(fresh)[7]


def test_the_bound_is_no_less_than_the_prediction_and_grows_with_confidence(
    predictor: LatencyPredictor, fresh: Population
) -> None:
    before = predictor.predict_ms(fresh)
    for confidence in (0.5, 0.8, 0.9, 0.95, 0.99, 0.999):
        upper = predictor.upper_ms(fresh, confidence)
        assert (upper >= before).all()
        before = upper


def test_a_confidence_out_of_range_is_refused(predictor: LatencyPredictor, fresh: Population) -> None:
    for confidence in (0.0, 0.49, 1.0, float("nan")):
        with pytest.raises(UserError, match="confidence: must be at least"):
            predictor.upper_ms(fresh, confidence)


def test_saving_and_loading_changes_nothing(
    predictor: CostPredictor, costs: PopulationCosts, scope: Scope, fresh: Population, tmp_path: Path
) -> None:
    path = tmp_path / "deep" / scope.file_name
    save_predictor(predictor, path)
    again = load_predictor(path, costs, scope=scope)
    assert np.array_equal(again.predict_ms(fresh), predictor.predict_ms(fresh))
    assert np.array_equal(again.upper_ms(fresh, 0.9), predictor.upper_ms(fresh, 0.9))
    assert again.quality == predictor.quality
    assert again.calibration.points() == predictor.calibration.points()
    assert again.calibration.anchor_ms == predictor.calibration.anchor_ms
    assert [entry.name for entry in path.parent.iterdir()] == ["small-1x8x8-10-float32.npz"]


# What this one promises.


def test_fresh_architectures_are_predicted_to_a_few_percent(
    predictor: CostPredictor, costs: PopulationCosts, fresh: Population
) -> None:
    error = np.abs(predictor.predict_ms(fresh) / true_ms(costs, fresh) - 1)
    assert error.mean() < 0.03
    assert predictor.quality.cross_validated
    assert predictor.quality.spearman > 0.97
    assert predictor.quality.mape < 0.06


def test_the_bound_holds_about_as_often_as_promised_over_many_calibrations(
    space: SearchSpace, costs: PopulationCosts, scope: Scope, fresh: Population
) -> None:
    held = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rows = sample(space, 16, rng)
        measured = true_ms(costs, rows) * np.exp(0.05 * rng.standard_normal(16))
        fitted = fit_predictor(costs, rows, measured, scope=scope)
        later = true_ms(costs, fresh) * np.exp(0.05 * rng.standard_normal(len(fresh)))
        held.append((later <= fitted.upper_ms(fresh, 0.9)).mean())
    assert np.mean(held) >= 0.84
    assert np.mean(held) < 1


def test_factors_of_options_are_added_as_the_one_hot_encoding_would(
    predictor: CostPredictor, space: SearchSpace, fresh: Population
) -> None:
    factors = np.linspace(-0.2, 0.3, len(one_hot_names(space)))
    changed = replace(predictor, formula=replace(predictor.formula, log_factors=factors, log_offset=0.1))
    expected = changed.formula.apply(predictor.costs.features(fresh), one_hot(space, fresh).astype(float))
    assert changed.predict_ms(fresh) == pytest.approx(expected, rel=1e-6)


def test_points_are_the_random_samples_each_predicted_without_itself(predictor: CostPredictor) -> None:
    points = predictor.calibration.points()
    assert len(points) == predictor.calibration.random.sum() == predictor.quality.num_test == 21
    assert all(point["held_out"] and point["predicted_ms"] <= point["upper_ms"] for point in points)


def test_a_single_file_holds_no_pickle(predictor: CostPredictor, tmp_path: Path) -> None:
    save_predictor(predictor, tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
        assert json.loads(str(file["record"]))["format"] == 2


def test_a_missing_or_broken_file_is_a_misfit_in_one_line(
    predictor: CostPredictor, costs: PopulationCosts, scope: Scope, tmp_path: Path
) -> None:
    path = tmp_path / "p.npz"
    with pytest.raises(PredictorMisfitError, match="no latency model is stored"):
        load_predictor(path, costs, scope=scope)
    save_predictor(predictor, path)
    whole = path.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(PredictorMisfitError, match="cannot be read; calibrate again"):
            load_predictor(path, costs, scope=scope)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"precision": "int8"}, "precision must be int8, it is float32"),
        ({"num_classes": 3}, "num_classes must be 3, it is 10"),
        ({"input_shape": (3, 8, 8)}, r"input_shape must be \[3, 8, 8\], it is \[1, 8, 8\]"),
        ({"device": Device(name="here", threads=2)}, "threads must be 2, it is 1"),
        ({"device": Device(name="there")}, "device must be there, it is here"),
    ],
)
def test_a_file_about_something_else_is_refused_with_what_differs(
    predictor: CostPredictor,
    costs: PopulationCosts,
    scope: Scope,
    tmp_path: Path,
    change: dict[str, object],
    reason: str,
) -> None:
    save_predictor(predictor, tmp_path / "p.npz")
    with pytest.raises(PredictorMisfitError, match=reason):
        load_predictor(tmp_path / "p.npz", costs, scope=replace(scope, **change))


def test_a_changed_space_or_host_is_refused(
    predictor: CostPredictor, costs: PopulationCosts, scope: Scope, tmp_path: Path
) -> None:
    path = tmp_path / "p.npz"
    elsewhere = {**predictor.calibration.fingerprint, "cpu": "another processor"}
    save_predictor(replace(predictor, calibration=replace(predictor.calibration, fingerprint=elsewhere)), path)
    with pytest.raises(PredictorMisfitError, match=r"was measured elsewhere \(cpu was another processor, is "):
        load_predictor(path, costs, scope=scope)
    save_predictor(predictor, path)
    changed = SearchSpace.from_template({**TEMPLATE, "input": {"resolution": {"choose": [8, 16]}}})
    with pytest.raises(PredictorMisfitError, match="space_digest must be "):
        load_predictor(path, costs, scope=replace(scope, space=changed))


def test_the_card_tells_what_was_measured_and_skips_foreign_files(
    predictor: CostPredictor, scope: Scope, tmp_path: Path
) -> None:
    save_predictor(predictor, tmp_path / scope.file_name)
    (tmp_path / "other.npz").write_bytes(b"something else")
    text = write_model_card(tmp_path).read_text(encoding="utf-8")
    for part in (scope.file_name, scope.space.digest, "data 8x8x1", "2 % noise", str(predictor.quality)):
        assert part in text
    assert "other.npz" not in text


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_latency_that_is_none_is_refused_with_its_row(
    space: SearchSpace, costs: PopulationCosts, scope: Scope, bad: float
) -> None:
    rows = sample(space, 12, np.random.default_rng(0))
    measured = true_ms(costs, rows)
    measured[3] = bad
    with pytest.raises(UserError, match="calibration, row 3: must have a latency above 0"):
        fit_predictor(costs, rows, measured, scope=scope)


def test_too_few_random_samples_are_refused(space: SearchSpace, costs: PopulationCosts, scope: Scope) -> None:
    rows = sample(space, 12, np.random.default_rng(0))
    with pytest.raises(UserError, match="at least 8 architectures drawn at random, got 7"):
        fit_predictor(costs, rows, true_ms(costs, rows), scope=scope, random=np.arange(12) < 7)


def test_a_recommendation_for_a_calibrated_predictor_starts_from_its_bound(predictor: CostPredictor) -> None:
    text = recommend_for(predictor, 0.95)
    assert f"{(predictor.bound_factor(0.95) - 1) * 100:.2g} %" in text
    assert "the 95 % bound" in text


def test_a_fit_is_deterministic(space: SearchSpace, costs: PopulationCosts, scope: Scope, fresh: Population) -> None:
    rows = sample(space, 12, np.random.default_rng(0))
    one, other = (fit_predictor(costs, rows, true_ms(costs, rows), scope=scope) for _ in range(2))
    assert np.array_equal(one.predict_ms(fresh), other.predict_ms(fresh))


@settings(max_examples=15, deadline=None)
@given(n=st.integers(12, 60), seed=st.integers(0, 2**32 - 1))
def test_plans_are_distinct_buildable_and_the_same_for_a_seed(
    space: SearchSpace, costs: PopulationCosts, n: int, seed: int
) -> None:
    plan = choose_samples(space, costs, n, np.random.default_rng(seed))
    assert len(plan.population) == len(plan.random) == n
    assert len(np.unique(plan.population, axis=0)) == n
    assert costs.buildable(plan.population).all()
    assert plan.random.sum() == n - n // 4
    again = choose_samples(space, costs, n, np.random.default_rng(seed))
    assert np.array_equal(plan.population, again.population)


def small_space(channels: list[int]) -> tuple[SearchSpace, PopulationCosts]:
    conv = {"op": "conv", "channels": {"choose": channels}, "kernel": 3}
    space = SearchSpace.from_template({"name": "small", "network": [conv, {"op": "classifier"}]})
    return space, PopulationCosts(space, input_shape=SHAPE, num_classes=CLASSES)


def test_too_few_samples_are_refused(space: SearchSpace, costs: PopulationCosts) -> None:
    with pytest.raises(UserError, match="samples: must be at least 12, got 11"):
        choose_samples(space, costs, 11, np.random.default_rng(0))


@pytest.mark.parametrize("num", [1, 2, 5, 11])
def test_each_architecture_of_a_small_space_is_measured_in_turns_and_predicted_as_measured(num: int) -> None:
    space, costs = small_space([8 * (k + 1) for k in range(num)])
    plan = choose_samples(space, costs, 40, np.random.default_rng(0))
    _, counts = np.unique(plan.population, axis=0, return_counts=True)
    assert len(counts) == num
    assert counts.sum() == 12
    assert counts.max() - counts.min() <= 1
    assert plan.random.all()
    rng = np.random.default_rng(1)
    true = 0.01 * (1 + plan.population[:, 0])
    measured = true * np.exp(rng.normal(0, 0.005, 12))
    its_scope = Scope(
        space=space, input_shape=SHAPE, num_classes=CLASSES, device=Device(name="here"), precision="float32"
    )
    predictor = fit_predictor(costs, plan.population, measured, scope=its_scope)
    np.testing.assert_allclose(predictor.predict_ms(plan.population), true, rtol=0.03)
    assert 1 < predictor.bound_factor(0.95) < 1.1
