"""Ranges in words, the draws from them and the steps within them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UserError
from nas.run.tuning_space import Interval, Options, Range, parse_range, proposals, step

SPACE: dict[str, Range] = {
    "rate": Interval(low=0.01, high=1.0, log=True),
    "shift": Interval(low=0.0, high=0.3),
    "batch": Interval(low=8, high=128, log=True, whole=True),
    "flip": Options(values=(True, False)),
}


def parsed(text: object, own: float | None = 0.1) -> Range:
    return parse_range(text, where="tune.space.rate", own=own)


def test_words_are_ranges() -> None:
    assert parsed("log 0.01 1") == Interval(low=0.01, high=1.0, log=True)
    assert parsed("uniform 0 0.3") == Interval(low=0.0, high=0.3)
    assert parsed([32, 64]) == Options(values=(32, 64))


def test_multiples_are_of_the_value_that_is_tuned() -> None:
    span = parsed("log x0.5 x2", own=0.2)
    assert isinstance(span, Interval)
    assert (span.low, span.high) == pytest.approx((0.1, 0.4))


@pytest.mark.parametrize(
    ("text", "own", "rule"),
    [
        (3, 0.1, "must be a range, got 3"),
        ("log 0 1", 0.1, "must be above 0 on a logarithmic scale"),
        ("uniform 2 1", 0.1, "must go from low to high"),
        ("uniform 0 nan", 0.1, "must be bounded by finite numbers"),
        ("uniform 0 much", 0.1, "must be bounded by numbers, got 'much'"),
        ("log x0.1 x2", 0.0, "cannot be a multiple of the recipe's value, which is 0.0"),
        ([1], 0.1, "must list at least two values, each once"),
        ([1, 1], 0.1, "must list at least two values, each once"),
        ([1, None], 0.1, "must list numbers, names, true or false"),
        ("gauss 0 1", 0.1, "must be a range, got 'gauss 0 1'"),
    ],
)
def test_what_is_no_range_is_refused_in_one_line(text: object, own: float, rule: str) -> None:
    with pytest.raises(UserError) as caught:
        parsed(text, own)
    assert caught.value.where == "tune.space.rate"
    assert rule in caught.value.problem


def test_a_whole_number_has_whole_ends() -> None:
    with pytest.raises(UserError, match="whole number"):
        parse_range("uniform 1.5 4", where="batch", own=2, whole=True)


@given(count=st.integers(1, 40), seed=st.integers(0, 99))
def test_each_part_of_a_range_is_drawn_from_once(count: int, seed: int) -> None:
    draws = proposals(SPACE, count, np.random.default_rng(seed))
    shares = np.sort([np.log(float(draw["rate"]) / 0.01) / np.log(100) for draw in draws])
    # Kept to four digits, a draw may round across the border of its part.
    assert np.all(shares >= np.arange(count) / count - 1e-3)
    assert np.all(shares <= (np.arange(count) + 1) / count + 1e-3)


@given(seed=st.integers(0, 999), steps=st.integers(1, 8))
def test_steps_stay_in_their_ranges_and_of_their_kinds(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    fields = proposals(SPACE, 1, rng)[0]
    for _ in range(steps):
        fields = step(SPACE, fields, rng)
        assert 0.01 <= float(fields["rate"]) <= 1
        assert 0 <= float(fields["shift"]) <= 0.3
        assert isinstance(fields["batch"], int)
        assert 8 <= fields["batch"] <= 128
        assert isinstance(fields["flip"], bool)


def test_settings_that_are_not_there_yet_are_drawn() -> None:
    assert set(step(SPACE, {}, np.random.default_rng(0))) == set(SPACE)


def test_draws_follow_from_the_generator() -> None:
    first, second = (proposals(SPACE, 5, np.random.default_rng(3)) for _ in range(2))
    assert first == second
    assert proposals(SPACE, 0, np.random.default_rng(3)) == []
