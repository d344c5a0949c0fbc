"""Stratified draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.train.data.splits import apportion, counts_of, draw, stratified_order

counts = st.lists(st.integers(1, 60), min_size=1, max_size=8).map(lambda values: np.array(values, dtype=np.int64))


@given(counts, st.integers(0, 500), st.integers(0, 3))
def test_parts_add_up_to_the_total_and_stay_within_their_bounds(counts, total, minimum):
    parts = apportion(counts, total, minimum=minimum)
    floor = np.minimum(counts, minimum)
    assert parts.sum() == np.clip(total, floor.sum(), counts.sum())
    assert np.all(parts <= counts)
    assert np.all(parts >= floor)


@given(counts, st.floats(0, 1))
def test_each_part_is_within_one_of_its_quota(counts, share):
    total = round(share * counts.sum())
    assert np.all(np.abs(apportion(counts, total) - counts * total / counts.sum()) < 1)


def test_the_largest_remainders_are_rounded_up():
    assert apportion(np.array([5, 3, 2]), 5).tolist() == [3, 1, 1]  # quotas 2.5, 1.5, 1.0; the tie goes to the first


def test_a_part_is_never_more_than_the_most_allowed():
    assert apportion(np.array([10, 10]), 10, most=np.array([2, 9])).tolist() == [2, 8]


@given(st.integers(0, 2**32), counts)
def test_a_draw_holds_the_wanted_number_of_each_class(seed, counts):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    parts = apportion(counts, int(counts.sum()) // 2)
    chosen = draw(labels, parts, np.random.default_rng(seed))
    assert np.array_equal(counts_of(labels[chosen], len(counts)), parts)
    assert np.array_equal(chosen, np.unique(chosen))


@given(st.integers(0, 2**32), counts)
def test_every_prefix_of_a_stratified_order_is_in_proportion(seed, counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    order = stratified_order(labels, np.random.default_rng(seed))
    assert np.array_equal(np.sort(order), np.arange(len(labels)))
    for size in range(1, len(labels) + 1):
        held = counts_of(labels[order[:size]], len(counts))
        assert np.all(np.abs(held - counts * size / len(labels)) <= 1 + len(counts) / 2 * counts / len(labels))


def test_another_seed_gives_another_order():
    labels = np.repeat(np.arange(3), 20)
    first, again, other = (stratified_order(labels, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_counts_include_classes_without_members():
    assert counts_of(np.array([0, 0, 2]), 4).tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize("total", [-3, 0])
def test_nothing_is_taken_when_nothing_is_wanted(total):
    assert apportion(np.array([4, 4]), total).tolist() == [0, 0]
