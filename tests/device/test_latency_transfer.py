"""Transfer to a new device, predictors on encodings alone, and their bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from nas.device.bound import bound_margin
from nas.device.card import Device
from nas.device.encoded import fit_encoded, fit_regression, thinned
from nas.device.encoders import Encoder
from nas.device.mixture import fit_mixture
from nas.device.predictor import Scope
from nas.device.samples import augmented_design
from nas.device.transfer import Sources, choose_transfer_samples, fit_sources, fit_transfer
from nas.errors import UserError
from nas.space.encodings import one_hot
from nas.space.flat import flat_space
from nas.space.moves import Population, sample

LAYERS, OPERATORS = 12, ("skip", "small", "wide", "deep", "odd")
SPACE = flat_space("chain", {f"layer{k}": OPERATORS for k in range(LAYERS)})
SCOPE = Scope(space=SPACE, input_shape=(0, 0, 0), num_classes=0, device=Device(name="new"), precision="float32")
ENCODER = Encoder(space=SPACE)


def device_ms(rows: Population, *, launch: float, rate: float, seed: int, noise: float = 0.02) -> np.ndarray:
    """A chain whose layers cost a launch and their work; the work halves with each third of the chain."""
    work = np.array([0.0, 1.0, 3.0, 5.0, 2.0]) * np.repeat([4.0, 2.0, 1.0], LAYERS // 3)[:, None]
    costs = rate * work + launch * (np.arange(5) > 0)
    rng = np.random.default_rng(seed)
    own = costs * np.exp(0.1 * rng.standard_normal(costs.shape))
    latency = 2.0 + one_hot(SPACE, rows).astype(float) @ own.ravel()
    return latency * np.exp(noise * rng.standard_normal(len(rows)))


@pytest.fixture(scope="module")
def rows() -> Population:
    return np.unique(sample(SPACE, 3000, np.random.default_rng(0)), axis=0)[np.random.default_rng(1).permutation(3000)]


@pytest.fixture(scope="module")
def sources(rows: Population) -> Sources:
    known = {"gpu": (0.5, 0.1), "cpu": (0.02, 1.0)}
    measured = {
        name: (rows[:600], device_ms(rows[:600], launch=launch, rate=rate, seed=seed))
        for seed, (name, (launch, rate)) in enumerate(known.items())
    }
    return fit_sources(ENCODER, measured, reference=rows[:1000])


def test_twenty_labels_on_a_device_between_the_known_ones_do(rows: Population, sources: Sources) -> None:
    truth = device_ms(rows, launch=0.4, rate=0.5, seed=7)
    plan, chosen = planned(rows, sources, 20)
    predictor = fit_transfer(sources, rows[chosen], truth[chosen], scope=SCOPE, random=plan.random)
    others = np.setdiff1d(np.arange(len(rows)), chosen)
    predicted = predictor.predict_ms(rows[others])
    assert spearmanr(predicted, truth[others])[0] > 0.93
    assert np.abs(predicted / truth[others] - 1).mean() < 0.06
    assert predictor.sources == ("gpu", "cpu")
    assert predictor.quality.num_test == plan.random.sum() == 5


def test_a_device_unlike_all_known_ones_is_told_by_counts_of_operators(rows: Population, sources: Sources) -> None:
    # What a layer costs there has nothing to do with what it costs elsewhere.
    truth = 5 + one_hot(SPACE, rows).astype(float) @ np.tile([1.0, 0.2, 0.9, 0.1, 2.0], LAYERS)
    truth *= np.exp(0.01 * np.random.default_rng(0).standard_normal(len(rows)))
    plan, chosen = planned(rows, sources, 20)
    predictor = fit_transfer(sources, rows[chosen], truth[chosen], scope=SCOPE, random=plan.random)
    assert spearmanr(predictor.predict_ms(rows), truth)[0] > 0.97


def planned(rows: Population, sources: Sources, n: int, start: int = 0):
    pool = rows[start:]
    plan = choose_transfer_samples(sources, pool, n)
    place = {row.tobytes(): start + k for k, row in enumerate(np.ascontiguousarray(pool))}
    return plan, np.array([place[row.tobytes()] for row in np.ascontiguousarray(plan.population)])


def test_plans_begin_with_random_rows_and_go_on_with_distinct_designed_ones(rows: Population, sources: Sources) -> None:
    plan, chosen = planned(rows, sources, 20)
    assert plan.random.tolist() == [True] * 5 + [False] * 15
    assert chosen[:5].tolist() == [0, 1, 2, 3, 4]
    assert len(set(chosen.tolist())) == 20
    again = choose_transfer_samples(sources, rows, 20)
    assert np.array_equal(again.population, plan.population)


@pytest.mark.parametrize("samples", [20, 50])
def test_the_bound_holds_about_95_percent_of_the_time_over_devices_and_plans(
    rows: Population, sources: Sources, samples: int
) -> None:
    held = []
    for seed in range(12 if samples == 20 else 6):
        launch, rate = np.random.default_rng(seed).uniform(0.05, 1.0, 2)
        truth = device_ms(rows, launch=launch, rate=rate, seed=100 + seed, noise=0.04)
        plan, chosen = planned(rows, sources, samples, start=60 * seed)
        predictor = fit_transfer(sources, rows[chosen], truth[chosen], scope=SCOPE, random=plan.random)
        others = np.setdiff1d(np.arange(len(rows)), chosen)
        held.append((truth[others] <= predictor.upper_ms(rows[others], 0.95)).mean())
    assert 0.92 <= np.mean(held) <= 0.985


def test_a_folded_transfer_is_the_mixture_that_was_fitted(rows: Population, sources: Sources) -> None:
    truth = device_ms(rows[:30], launch=0.3, rate=0.3, seed=3)
    predictor = fit_transfer(sources, rows[:30], truth, scope=SCOPE)
    blocks = sources.blocks(rows[:1000])
    scale = []
    for place, block in enumerate(blocks):
        own = block - block.mean(axis=0)
        own = own if place == len(blocks) - 1 else own / np.maximum(own.std(axis=0), 1e-9)
        scale.append(own / np.sqrt(np.square(own).sum(axis=1).mean()))
    mixture = fit_mixture([block[:30] for block in scale], truth, often=(0.2, 0.2, 0.9, 0.9, 0.1))
    expected = mixture.offset + sum(b @ w for b, w in zip(scale, mixture.weights, strict=True))
    assert predictor.predict_ms(rows[:1000]) == pytest.approx(expected, rel=1e-8)


def test_left_out_predictions_are_close_to_those_of_refitting_without_the_sample() -> None:
    rng = np.random.default_rng(0)
    block = rng.standard_normal((25, 3)) / np.sqrt(3)
    target = block @ np.array([1.0, -2.0, 0.5]) + 0.1 * rng.standard_normal(25)
    whole = fit_mixture([block], target, often=(1.0,))
    for left in range(0, 25, 6):
        kept = np.delete(np.arange(25), left)
        part = fit_mixture([block[kept]], target[kept], often=(1.0,))
        alone = part.offset + block[left] @ part.weights[0]
        # Only the scale of labels, which noises are relative to, differs by the sample.
        assert whole.left_out[left] == pytest.approx(alone, abs=0.01)
        assert whole.left_out_deviation[left] == pytest.approx(part.deviation([block[[left]]])[0], rel=0.15)


def test_a_block_that_explains_nothing_loses_its_weight() -> None:
    rng = np.random.default_rng(1)
    good, bad = rng.standard_normal((2, 30, 1))
    mixture = fit_mixture([good, bad], 5 + 3 * good[:, 0] + 0.01 * rng.standard_normal(30), often=(0.5, 0.5))
    assert mixture.weights[0][0] == pytest.approx(3.0, rel=0.01)
    assert abs(mixture.weights[1][0]) < 0.02
    assert mixture.offset == pytest.approx(5.0, abs=0.02)


def test_a_margin_grows_with_confidence_whatever_the_number_of_residuals() -> None:
    for n in (5, 20, 38, 39, 100):
        values = np.random.default_rng(n).standard_t(4, n)
        margins = [bound_margin(values, confidence) for confidence in (0.5, 0.7, 0.9, 0.95, 0.97, 0.98, 0.999)]
        assert margins == sorted(margins)
        assert margins[0] >= 0


def test_thinned_residuals_bound_like_all_of_them() -> None:
    values = np.random.default_rng(0).standard_normal(15_000)
    kept = thinned(values, 400)
    assert len(kept) == 400
    for share in (0.5, 0.9, 0.95):
        assert np.quantile(kept, share) == pytest.approx(np.quantile(values, share), abs=0.02)
    assert thinned(values[:100], 400) is not None
    assert np.array_equal(thinned(values[:100], 400), values[:100])


def test_a_design_takes_the_row_with_the_largest_determinant() -> None:
    features = np.random.default_rng(0).standard_normal((12, 3))
    given, best = list(range(4)), 0.0
    for candidate in range(4, 12):
        chosen = features[[*given, candidate]]
        determinant = np.linalg.det(0.01 * np.eye(3) + chosen.T @ chosen)
        if determinant > best:
            best, winner = determinant, candidate
    assert augmented_design(features, 4, 1).tolist() == [*given, winner]


def test_a_table_is_learned_from_encodings_alone(rows: Population) -> None:
    truth = device_ms(rows, launch=0.3, rate=0.5, seed=5)
    predictor = fit_encoded(rows[:300], truth[:300], scope=SCOPE, keep_samples=False)
    fresh = slice(300, None)
    assert np.abs(predictor.predict_ms(rows[fresh]) / truth[fresh] - 1).mean() < 0.04
    assert 0.9 < (truth[fresh] <= predictor.upper_ms(rows[fresh], 0.95)).mean() < 0.99
    assert predictor.quality.num_test == 60
    assert not predictor.quality.cross_validated
    assert len(predictor.calibration.population) == 0


def test_the_logarithm_is_taken_where_options_multiply() -> None:
    rows = sample(SPACE, 90, np.random.default_rng(3))
    truth = np.exp(one_hot(SPACE, rows).astype(float) @ np.tile([0.0, 0.1, 0.3, 0.5, 0.2], LAYERS))
    assert fit_regression(ENCODER, rows, truth).scale == "logarithm"


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_latencies_that_are_none_are_refused_with_their_row(rows: Population, sources: Sources, bad: float) -> None:
    truth = device_ms(rows[:20], launch=0.3, rate=0.5, seed=5)
    truth[3] = bad
    for fit in (
        lambda: fit_transfer(sources, rows[:20], truth, scope=SCOPE),
        lambda: fit_encoded(rows[:20], truth, scope=SCOPE),
        lambda: fit_sources(ENCODER, {"bad": (rows[:20], truth)}, reference=rows[:20]),
    ):
        with pytest.raises(UserError, match="calibration, row 3: must have a latency above 0"):
            fit()


def test_constant_latencies_too_few_samples_and_no_sources_are_refused(rows: Population, sources: Sources) -> None:
    with pytest.raises(UserError, match=r"must have latencies that differ, got 2\.0 ms in every row"):
        fit_transfer(sources, rows[:20], np.full(20, 2.0), scope=SCOPE)
    truth = device_ms(rows[:20], launch=0.3, rate=0.5, seed=5)
    with pytest.raises(UserError, match="at least 10 architectures, 4 of them drawn at random, got 9 and 9"):
        fit_transfer(sources, rows[:9], truth[:9], scope=SCOPE)
    with pytest.raises(UserError, match="got 20 and 3"):
        fit_transfer(sources, rows[:20], truth, scope=SCOPE, random=np.arange(20) < 3)
    with pytest.raises(UserError, match="samples: must be at least 10 for a transfer, got 5"):
        choose_transfer_samples(sources, rows, 5)
    with pytest.raises(UserError, match="samples: must be at most the 12 architectures that there are, got 20"):
        choose_transfer_samples(sources, rows[:12], 20)
    with pytest.raises(UserError, match="sources: must have at least one device, got none"):
        fit_sources(ENCODER, {}, reference=rows)
