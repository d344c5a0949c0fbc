"""Boxes and expected improvement against sampling and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.problem.front import hypervolume
from nas.strategy.surrogate.improvement import (
    BOXES_AT_MOST,
    Known,
    LogNormal,
    Normal,
    boxes_below,
    expected_improvement,
)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(0, 7))
def test_for_known_costs_it_is_the_hypervolume_that_is_gained(seed: int, k: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    front, points = rng.integers(0, 6, size=(size, k)) / 5, rng.integers(0, 7, size=(12, k)) / 5
    reference = np.full(k, 1.1)
    gains = expected_improvement([Known(values=column) for column in points.T], front, reference)
    before = hypervolume(front, reference) if size else 0.0
    expected = [hypervolume(np.vstack([front, point]), reference) - before for point in points]
    np.testing.assert_allclose(gains, expected, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_boxes_hold_each_free_point_once_and_no_dominated_one(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    front, reference = rng.random((6, k)), np.ones(k)
    lower, upper = boxes_below(front, reference)
    points = rng.random((200, k))
    inside = ((points[:, None] > lower) & (points[:, None] <= upper)).all(axis=2).sum(axis=1)
    free = ~(front[None] <= points[:, None]).all(axis=2).any(axis=1)
    np.testing.assert_array_equal(inside, free.astype(int))


def test_with_one_known_and_one_believed_objective_it_is_the_mean_over_draws() -> None:
    rng = np.random.default_rng(0)
    front = np.array([[0.1, 0.8], [0.4, 0.5], [0.9, 0.2]])
    reference = np.array([1.1, 1.1])
    known, mean, deviation = np.array([0.3, 0.6]), np.array([0.4, 0.3]), np.array([0.2, 0.1])
    value = expected_improvement([Known(values=known), Normal(mean=mean, deviation=deviation)], front, reference)
    before = hypervolume(front, reference)
    for k in range(2):
        draws = rng.normal(mean[k], deviation[k], size=4000)
        gains = [hypervolume(np.vstack([front, [known[k], draw]]), reference) - before for draw in draws]
        assert value[k] == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(4000))


@pytest.mark.parametrize("floor", [-1.0, 0.0])
def test_the_shortfall_of_beliefs_is_the_mean_over_draws(floor: float) -> None:
    rng = np.random.default_rng(0)
    levels = np.array([floor - 0.5, floor, floor + 0.1, floor + 2.0])
    belief = LogNormal(mean=np.array([-1.0]), deviation=np.array([0.5]), floor=floor)
    draws = floor + np.exp(rng.normal(-1.0, 0.5, size=200_000))
    expected = np.maximum(levels[None] - draws[:, None], 0).mean(axis=0)
    np.testing.assert_allclose(belief.shortfall(levels)[0], expected, atol=0.005)
    normal = Normal(mean=np.array([0.2]), deviation=np.array([0.3]))
    draws = rng.normal(0.2, 0.3, size=200_000)
    expected = np.maximum(levels[None] - draws[:, None], 0).mean(axis=0)
    np.testing.assert_allclose(normal.shortfall(levels)[0], expected, atol=0.005)


def test_a_large_front_of_four_objectives_is_thinned() -> None:
    front = np.random.default_rng(0).random((60, 4))
    front /= front.sum(axis=1, keepdims=True)
    lower, upper = boxes_below(front, np.ones(4))
    assert 100 < len(lower) <= BOXES_AT_MOST
    assert (upper > lower).all()


def test_without_a_front_everything_below_the_corner_counts() -> None:
    value = expected_improvement(
        [Known(values=np.array([0.5])), Known(values=np.array([2.0]))], np.zeros((0, 2)), np.ones(2)
    )
    assert value.tolist() == [0.0]
    value = expected_improvement([Known(values=np.array([0.5]))] * 2, np.zeros((0, 2)), np.ones(2))
    assert value.tolist() == [0.25]
