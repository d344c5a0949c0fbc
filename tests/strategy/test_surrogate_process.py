"""The Gaussian process against closed forms and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve

from nas.strategy.surrogate.process import JITTER, _misfit, fit_process, matern, squared_distances


def points(n: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, 2)) / 2, rng.normal(size=(n, 1)) / 2]


def test_the_posterior_is_that_of_the_textbook() -> None:
    groups, new = points(12), points(5, seed=1)
    values = np.sin(groups[0][:, 0]) + groups[1][:, 0]
    process = fit_process(groups, values)

    def prior(one: list[np.ndarray], other: list[np.ndarray]) -> np.ndarray:
        squared = sum(w * squared_distances(a, b) for w, a, b in zip(process.weights, one, other, strict=True))
        return process.variance * matern(np.asarray(squared))

    noisy = prior(groups, groups) + (process.noise + JITTER * process.variance) * np.eye(12)
    across = prior(groups, new)
    posterior = process.posterior(new)
    expected = process.offset + across.T @ solve(noisy, values - process.offset)
    covariance = prior(new, new) - across.T @ solve(noisy, across)
    np.testing.assert_allclose(posterior.mean, expected, rtol=1e-6)
    np.testing.assert_allclose(posterior.deviation, np.sqrt(np.diag(covariance)), rtol=1e-5)
    given_covariance = process.covariance(new, posterior.solved, new, posterior.solved)
    np.testing.assert_allclose(given_covariance, covariance, atol=1e-8)


def test_the_slope_of_the_misfit_is_that_of_finite_differences() -> None:
    groups = points(15)
    distances = [squared_distances(group, group) for group in groups]
    values = np.random.default_rng(3).normal(size=15)
    at = np.array([-0.3, 0.4, -2.0])
    _, slope = _misfit(at, distances, values)
    step = 1e-5
    for k in range(3):
        shift = step * np.eye(3)[k]
        above, below = (_misfit(at + sign * shift, distances, values)[0] for sign in (1, -1))
        assert slope[k] == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-6)


def test_what_matters_gets_a_larger_weight_than_what_does_not() -> None:
    rng = np.random.default_rng(0)
    matters, noise = rng.normal(size=(60, 1)) / np.sqrt(2), rng.normal(size=(60, 1)) / np.sqrt(2)
    process = fit_process([matters, noise], np.sin(2 * matters[:, 0]))
    assert process.weights[0] > 20 * process.weights[1]


def test_noise_is_told_from_signal() -> None:
    rng = np.random.default_rng(0)
    x = np.linspace(-1, 1, 80)[:, None]
    clean = fit_process([x], np.sin(3 * x[:, 0]))
    noisy = fit_process([x], np.sin(3 * x[:, 0]) + 0.3 * rng.normal(size=80))
    assert clean.noise < 0.001
    assert noisy.noise == pytest.approx(0.09, rel=0.5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.floats(-1e6, 1e6))
def test_equal_values_are_expected_everywhere(n: int, value: float) -> None:
    process = fit_process(points(n), np.full(n, value))
    posterior = process.posterior(points(4, seed=2))
    np.testing.assert_allclose(posterior.mean, value, rtol=1e-9, atol=1e-9)
    assert (posterior.deviation > 0).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_matern_is_a_correlation_that_falls_with_distance(seed: int) -> None:
    squared = np.sort(np.random.default_rng(seed).exponential(3.0, size=20))
    values = matern(squared)
    assert (np.diff(values) <= 0).all()
    assert ((values > 0) & (values <= 1)).all()
    assert matern(np.zeros(1))[0] == 1.0
