"""Rank aggregation over a pool."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas.train.scores.aggregate import AGGREGATES, aggregate, ranks
from nas.train.scores.network import SCORES

POOLS = arrays(np.float64, (7, 3), elements=st.one_of(st.integers(-5, 5).map(float), st.just(np.nan)))


def named(pool: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip("abc", pool.T, strict=True))


def test_ranks_begin_at_one_share_ties_and_put_nan_below_all() -> None:
    assert ranks(np.array([3.0, np.nan, 1.0, 3.0, -np.inf])).tolist() == [4.5, 1.5, 3.0, 4.5, 1.5]


def test_the_aggregate_is_the_sum_of_logarithms_of_relative_ranks() -> None:
    scores = {"a": np.array([1.0, 2.0, 3.0, 4.0]), "b": np.array([8.0, 6.0, 7.0, 5.0])}
    expected = np.log([1 / 4 * 4 / 4, 2 / 4 * 2 / 4, 3 / 4 * 3 / 4, 4 / 4 * 1 / 4])
    np.testing.assert_allclose(aggregate(scores, ["a", "b"]), expected)


def test_a_network_that_is_poor_in_one_respect_loses_to_one_that_is_fair_in_both() -> None:
    scores = {"a": np.array([4.0, 3.0, 1.0, 2.0]), "b": np.array([1.0, 3.0, 4.0, 2.0])}
    values = aggregate(scores, ["a", "b"])
    assert values[1] > values[0]


@given(POOLS, st.permutations(range(7)))
def test_the_order_of_the_pool_does_not_matter(pool: np.ndarray, order: list[int]) -> None:
    np.testing.assert_allclose(aggregate(named(pool), "abc")[order], aggregate(named(pool[order]), "abc"))


@given(POOLS)
def test_only_the_order_of_scores_counts(pool: np.ndarray) -> None:
    np.testing.assert_array_equal(aggregate(named(pool), "abc"), aggregate(named(np.exp(3 * pool)), "abc"))


@given(POOLS)
def test_a_network_that_is_at_least_as_good_in_all_scores_is_not_below(pool: np.ndarray) -> None:
    filled = np.where(np.isnan(pool), -np.inf, pool)
    values = aggregate(named(pool), "abc")
    for i, one in enumerate(filled):
        for j, other in enumerate(filled):
            if (one >= other).all():
                assert values[i] >= values[j] - 1e-12
    assert (values <= 1e-12).all()


@pytest.mark.parametrize("names", AGGREGATES.values(), ids=AGGREGATES)
def test_published_sets_are_of_known_scores(names: tuple[str, ...]) -> None:
    assert set(names) <= set(SCORES)
