"""Intervals of a quality, and what more samples would buy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, spearmanr

from nas.device.advice import expected_factor, learning_curve, recommend
from nas.device.bound import bound_factor
from nas.device.quality import Quality, judge, mean_interval, share_interval, spearman_interval


def test_an_exact_interval_leaves_two_and_a_half_percent_on_either_side() -> None:
    low, high = share_interval(17, 20)
    assert binom.sf(16, 20, low) == pytest.approx(0.025)
    assert binom.cdf(17, 20, high) == pytest.approx(0.025)
    assert share_interval(20, 20)[1] == 1.0
    assert share_interval(0, 20)[0] == 0.0


def test_an_interval_of_a_rank_correlation_holds_about_95_percent_of_the_time() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], (600, 25))
    true = 6 / math.pi * math.asin(0.45)
    held = 0
    for sample in pairs:
        low, high = spearman_interval(float(spearmanr(sample[:, 0], sample[:, 1])[0]), 25)
        held += low <= true <= high
    assert 0.92 <= held / 600 <= 0.985


def test_an_interval_of_a_mean_is_students_and_stays_above_zero() -> None:
    values = np.array([0.01, 0.02, 0.03, 0.04])
    half = 3.182446 * values.std(ddof=1) / 2
    assert mean_interval(values) == pytest.approx((max(0.0, 0.025 - half), 0.025 + half), rel=1e-5)
    assert mean_interval(np.array([0.0, 1.0]))[0] == 0.0


def test_what_is_undefined_has_no_interval() -> None:
    assert spearman_interval(0.9, 3) is None
    assert spearman_interval(float("nan"), 30) is None
    assert mean_interval(np.array([0.1])) is None


def test_a_quality_keeps_its_intervals_and_reads_records_without_them() -> None:
    quality = judge([1.0, 2.0, 3.0, 4.0, 5.0], [1.1, 1.9, 3.3, 3.9, 5.2], [1.2] * 5, confidence=0.95, num_train=9)
    assert quality.spearman_interval is not None
    assert quality.mape_interval[0] <= quality.mape <= quality.mape_interval[1]
    assert quality.coverage_interval == share_interval(1, 5)
    assert Quality.from_record(quality.to_record()) == quality
    record = {key: value for key, value in quality.to_record().items() if not key.endswith("_interval")}
    assert Quality.from_record(record).spearman_interval is None


@pytest.mark.parametrize("n", [8, 12, 19, 30, 60])
def test_the_expected_bound_is_that_of_normal_residuals_on_average(n: int) -> None:
    rng = np.random.default_rng(n)
    seen = np.mean([math.log(bound_factor(0.05 * rng.standard_normal(n), 0.95)) for _ in range(1500)])
    assert math.log(expected_factor(0.05, n, 0.95)) == pytest.approx(seen, rel=0.12)


def test_more_samples_are_recommended_where_an_outlier_makes_the_bound() -> None:
    residuals = np.append(0.03 * np.random.default_rng(0).standard_normal(20), 0.2)
    text = recommend(residuals, num_samples=28, confidence=0.95)
    assert " more samples would narrow the 95 % bound from 22 % to about " in text
    number, promised = int(text.split()[0]), float(text.split()[-2])
    assert 4 <= number <= 84
    assert promised < 0.8 * 22.2


def test_a_steep_learning_curve_promises_more_than_a_flat_one() -> None:
    residuals = 0.1 * np.random.default_rng(0).standard_normal(21)
    flat = recommend(residuals, num_samples=28, confidence=0.95, curve=[(14, 0.1), (21, 0.1), (28, 0.1)])
    steep = recommend(residuals, num_samples=28, confidence=0.95, curve=[(14, 0.2), (21, 0.14), (28, 0.1)])
    number = lambda text: int(text.split()[0]) if text[0].isdigit() else 10_000  # noqa: E731
    assert number(steep) < number(flat)


def test_where_more_samples_change_little_the_recommendation_says_so() -> None:
    values = np.sort(0.05 * np.random.default_rng(2).standard_normal(300))
    text = recommend(values, num_samples=400, confidence=0.95)
    assert text.startswith("more samples would hardly narrow the 95 % bound")


def test_a_learning_curve_keeps_the_share_of_random_samples_and_ends_with_all_of_them() -> None:
    random = np.arange(40) < 30
    seen = []

    def errors(rows: np.ndarray) -> np.ndarray:
        seen.append((len(rows), int(random[rows].sum())))
        return np.full(int(random[rows].sum()), 1 / len(rows))

    curve = learning_curve(errors, random, np.random.default_rng(0))
    assert [n for n, _ in curve] == [20, 30, 40]
    assert [error for _, error in curve] == pytest.approx([1 / 20, 1 / 30, 1 / 40])
    assert {pair[1] / pair[0] for pair in seen} <= {0.75, 22 / 30}
