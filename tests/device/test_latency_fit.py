import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from nas.device.bound import bound_factor
from nas.device.formula import FITS, Formula, Samples
from nas.device.quality import Quality, judge
from nas.device.samples import designed_rows
from nas.device.selection import select

residuals = st.lists(st.floats(-0.5, 0.5), min_size=4, max_size=60).map(np.array)


def made_samples(n: int, seed: int, *, noise: float = 0.0) -> tuple[Samples, np.ndarray]:
    """Samples of a machine that is linear in six features, two of each figure, and its weights."""
    rng = np.random.default_rng(seed)
    features = rng.integers(1, 20, (n, 6)) * np.array([1, 1, 1e4, 1e4, 1e3, 1e3])
    weights = np.array([2e-3, 4e-3, 1e-7, 2e-7, 1e-6, 0.0])
    latency_ms = features @ weights * np.exp(noise * rng.standard_normal(n))
    one_hot = np.eye(3)[rng.integers(0, 3, n)]
    figures = np.array([0, 0, 1, 1, 2, 2])
    return Samples(features=features, one_hot=one_hot, latency_ms=latency_ms, figures=figures), weights


@pytest.mark.parametrize("name", FITS)
def test_every_fit_recovers_a_linear_machine_from_many_samples(name: str) -> None:
    samples, _ = made_samples(200, 0)
    fresh, _ = made_samples(50, 1)
    formula = FITS[name](samples)
    assert formula.apply(fresh.features, fresh.one_hot) == pytest.approx(fresh.latency_ms, rel=0.02)


def test_an_unpenalised_fit_finds_the_weights_themselves() -> None:
    samples, weights = made_samples(30, 0)
    assert FITS["non-negative"](samples).weights == pytest.approx(weights, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", FITS)
def test_no_fit_depends_on_the_unit_of_latency(name: str) -> None:
    samples, _ = made_samples(20, 3, noise=0.1)
    scaled = Samples(
        features=samples.features,
        one_hot=samples.one_hot,
        latency_ms=1000 * samples.latency_ms,
        figures=samples.figures,
    )
    one, other = (FITS[name](given).apply(samples.features, samples.one_hot) for given in (samples, scaled))
    assert other == pytest.approx(1000 * one, rel=1e-6)


@pytest.mark.parametrize("name", FITS)
def test_a_kind_that_no_sample_has_breaks_no_fit(name: str) -> None:
    samples, _ = made_samples(12, 0)
    samples.features[:, 3] = 0
    fresh, _ = made_samples(5, 1)
    assert np.isfinite(FITS[name](samples).apply(fresh.features, fresh.one_hot)).all()


def test_a_formula_never_goes_below_its_floor_and_keeps_nan() -> None:
    formula = Formula(weights=np.array([1.0]), log_factors=np.zeros(1), log_offset=0.0, floor_ms=0.5)
    assert formula.join(np.array([-3.0, 0.4, 2.0]), 0.0).tolist() == [0.5, 0.5, 2.0]
    assert np.isnan(formula.join(np.array([np.nan]), 0.0)).all()


def test_factors_of_options_are_chosen_where_features_do_not_know_what_matters() -> None:
    samples, _ = made_samples(60, 0, noise=0.01)
    slow = Samples(
        features=samples.features,
        one_hot=samples.one_hot,
        latency_ms=samples.latency_ms * np.where(samples.one_hot[:, 0] > 0, 1.5, 1.0),
        figures=samples.figures,
    )
    assert "factors of options" in select(slow, np.ones(60, dtype=bool)).fit


def test_residuals_are_of_random_samples_only_and_of_fits_without_them() -> None:
    samples, _ = made_samples(20, 0, noise=0.05)
    random = np.arange(20) < 14
    chosen = select(samples, random)
    without = samples.rows(np.delete(np.arange(20), 3))
    formula = FITS[chosen.fit](without)
    expected = math.log(samples.latency_ms[3] / formula.apply(samples.features[3:4], samples.one_hot[3:4])[0])
    assert chosen.log_residuals.shape == (14,)
    assert chosen.log_residuals[3] == pytest.approx(expected)


def test_the_bound_is_the_order_statistic_that_theory_asks_for() -> None:
    values = np.random.default_rng(0).permutation(np.arange(1, 20)) / 100
    assert bound_factor(values, 0.95) == pytest.approx(math.exp(0.19))
    assert bound_factor(values, 0.9) == pytest.approx(math.exp(0.18))
    assert bound_factor(values, 0.5) == pytest.approx(math.exp(0.10))


def test_with_too_few_residuals_the_bound_is_students_and_no_less_than_the_largest() -> None:
    values = np.array([-0.02, 0.0, 0.01, 0.03, 0.02])
    normal = values.mean() + student.ppf(0.95, 4) * values.std(ddof=1) * math.sqrt(1 + 1 / 5)
    assert bound_factor(values, 0.95) == pytest.approx(math.exp(normal))
    outlier = np.array([0.0] * 17 + [0.5])
    assert bound_factor(outlier, 0.95) == pytest.approx(math.exp(0.5))


@settings(max_examples=200, deadline=None)
@given(values=residuals, low=st.floats(0.5, 0.999), high=st.floats(0.5, 0.999))
def test_the_bound_is_at_least_one_and_grows_with_confidence(values: np.ndarray, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert 1 <= bound_factor(values, low) <= bound_factor(values, high)


@pytest.mark.parametrize("n", [8, 15, 20, 28, 40])
def test_the_bound_covers_95_percent_of_further_residuals_on_average(n: int) -> None:
    rng = np.random.default_rng(n)
    covered = []
    for _ in range(400):
        values = 0.05 * rng.standard_t(5, n + 200)
        covered.append((values[n:] <= math.log(bound_factor(values[:n], 0.95))).mean())
    assert 0.93 <= np.mean(covered) <= 0.985


def test_figures_of_quality_are_as_defined() -> None:
    quality = judge([1.0, 2.0, 4.0, 5.0], [1.05, 1.0, 4.0, 6.0], [1.05, 1.5, 4.0, 7.0], confidence=0.9, num_train=9)
    assert quality.spearman == pytest.approx(0.8)
    assert quality.mape == pytest.approx((0.05 + 0.5 + 0 + 0.2) / 4)
    assert quality.within_10_percent == 0.5
    assert quality.coverage == 0.75
    assert (quality.num_train, quality.num_test) == (9, 4)
    assert Quality.from_record(quality.to_record()) == quality
    assert "90% bound held 3 of 4" in str(quality)


def test_the_rank_correlation_of_constants_is_nan() -> None:
    assert math.isnan(judge([1.0, 1.0], [1.0, 2.0], [1.0, 2.0], confidence=0.9, num_train=1).spearman)


def test_designed_rows_are_the_ones_unlike_what_is_there() -> None:
    alike = np.tile([10.0, 1.0, 1.0], (6, 1))
    features = np.concatenate([alike, [[1.0, 10.0, 1.0], [1.0, 1.0, 10.0]]])
    assert set(designed_rows(features, 3, 2).tolist()) == {6, 7}
    assert designed_rows(features, 3, 0).tolist() == []
