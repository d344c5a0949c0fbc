from __future__ import annotations

from itertools import combinations, product
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nas.strategy.explain import Explanation, explain

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]


def explained(codes: Codes, figure: Floats, ordered: bool = False) -> Explanation:
    (found,) = explain(codes, [figure], ordered=[ordered] * codes.shape[1], rng=np.random.default_rng(0))
    assert found is not None
    return found


def grid(*sizes: int) -> Codes:
    return np.array(list(product(*map(range, sizes))), dtype=np.int64)


def shapley_by_definition(codes: Codes, fitted: Floats) -> Floats:
    """Over all coalitions, with conditional means over a full grid as what a coalition is worth."""
    rows, count = codes.shape

    def worth(row: int, members: tuple[int, ...]) -> float:
        alike = (codes[:, members] == codes[row, members]).all(axis=1)
        return float(fitted[alike].mean())

    values = np.zeros((rows, count))
    for row in range(rows):
        for choice in range(count):
            others = [other for other in range(count) if other != choice]
            for size in range(count):
                weight = factorial(size) * factorial(count - size - 1) / factorial(count)
                for members in combinations(others, size):
                    joined = tuple(sorted((*members, choice)))
                    values[row, choice] += weight * (worth(row, joined) - worth(row, members))
    return values


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.booleans())
def test_what_choices_add_is_their_shapley_value(seed: int, ordered: bool) -> None:
    codes = grid(2, 3, 4)
    rng = np.random.default_rng(seed)
    figure = codes[:, 0] * 2.0 + codes[:, 1] * codes[:, 2] + rng.normal(0, 0.5, len(codes))
    found = explained(codes, figure, ordered)
    fitted = found.shapley.sum(axis=1)
    assert found.shapley == pytest.approx(shapley_by_definition(codes, fitted), abs=1e-8)


def test_an_additive_figure_is_taken_apart_into_its_terms() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 3, (200, 6)).astype(np.int64)
    terms = np.array([0.0, 1.0, 5.0])
    found = explained(codes, terms[codes[:, 0]] - 0.5 * terms[codes[:, 3]])
    assert found.r2 > 0.99
    first, fourth = found.options[0], found.options[3]
    assert first[2][0] - first[0][0] == pytest.approx(5.0, rel=0.03)
    assert fourth[2][0] - fourth[0][0] == pytest.approx(-2.5, rel=0.03)
    assert found.shares[[0, 3]].sum() == pytest.approx(1, abs=0.02)
    assert found.shares.sum() == pytest.approx(1)


def test_an_interaction_is_shared_equally() -> None:
    codes = np.tile(grid(2, 2, 2), (4, 1))
    found = explained(codes, np.where(codes[:, 0] == codes[:, 1], 1.0, 0.0))
    assert found.interactions > 0
    assert found.shares == pytest.approx([0.5, 0.5, 0.0], abs=0.02)


def test_noise_is_not_explained() -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 3, (80, 10)).astype(np.int64)
    assert explained(codes, rng.normal(size=80)).r2 < 0.2


def test_left_out_rows_are_predicted_as_well_as_fresh_ones() -> None:
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 4, (120, 5)).astype(np.int64)
    figure = codes @ np.array([1.0, 0.5, 0.2, 0.0, 0.0]) + rng.normal(0, 0.5, 120)
    # 0.5 of noise in a deviation of about 1.37: nobody predicts more than this share of the variance.
    attainable = 1 - 0.25 / float(figure.var())
    assert attainable - 0.12 < explained(codes, figure, ordered=True).r2 < attainable + 0.08


def test_the_presence_of_a_nested_choice_is_put_down_to_its_parent() -> None:
    rng = np.random.default_rng(4)
    codes = rng.integers(0, 2, (150, 3)).astype(np.int64)
    codes[codes[:, 0] == 0, 1] = -1
    found = explained(codes, np.where(codes[:, 0] == 1, 3.0, 0.0) + 0.3 * (codes[:, 1] == 1))
    assert found.shares[0] > 0.9
    assert set(found.options[1]) == {0, 1}
    assert np.all(found.shapley[codes[:, 1] == -1, 1] == 0)


def test_intervals_hold_the_figure_and_narrow_with_rows() -> None:
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 3, (240, 4)).astype(np.int64)
    figure = codes[:, 0] + rng.normal(0, 1.0, 240)
    few, many = explained(codes[:30], figure[:30]), explained(codes, figure)
    for found in (few, many):
        assert np.all(found.shares_low <= found.shares)
        assert np.all(found.shares <= found.shares_high)
    assert many.shares_high[0] - many.shares_low[0] < few.shares_high[0] - few.shares_low[0]


def test_nothing_is_said_of_what_does_not_vary() -> None:
    rng = np.random.default_rng(6)
    codes = rng.integers(0, 3, (20, 4)).astype(np.int64)
    assert explain(codes, [np.full(20, 0.3)], ordered=[False] * 4, rng=rng) == [None]
    assert explain(np.zeros((20, 4), dtype=np.int64), [rng.normal(size=20)], ordered=[False] * 4, rng=rng) == [None]


@settings(deadline=None, max_examples=30)
@given(st.integers(12, 40), st.integers(1, 8), st.integers(0, 10_000))
def test_any_codes_give_finite_parts_that_sum_to_the_fit(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 3, (rows, columns)).astype(np.int64)
    (found,) = explain(codes, [rng.normal(size=rows)], ordered=[bool(seed % 2)] * columns, rng=rng)
    if found is not None:
        assert np.all(np.isfinite(found.shapley))
        assert found.r2 <= 1
        assert np.all(np.isfinite(found.left_out))
        assert found.shares.sum() == pytest.approx(1, abs=1e-6) or np.allclose(found.shapley, 0, atol=1e-6)
