"""Which candidates are trained in full: the front, and what a short training cannot tell from it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas.commands.finish import spread_front

# Columns: minus accuracy, latency. The first two rows are the front.
COSTS = np.array([[-0.97, 1.0], [-0.98, 2.0], [-0.975, 16.0], [-0.97, 3.0], [-0.60, 1.5], [-0.90, 32.0]])


def test_the_front_comes_first() -> None:
    assert set(spread_front(COSTS, 2, tolerance=0.01)) == {0, 1}


def test_a_spare_place_goes_to_what_is_as_good_within_the_error_and_farthest_in_cost() -> None:
    assert list(spread_front(COSTS, 3, tolerance=0.01))[2] == 2


def test_what_is_clearly_worse_comes_only_after_all_that_is_not() -> None:
    order = list(spread_front(COSTS, 6, tolerance=0.01))
    assert set(order[:4]) == {0, 1, 2, 3}
    assert set(order[4:]) == {4, 5}


def test_without_an_error_the_next_ranks_follow_on_the_front() -> None:
    assert set(spread_front(COSTS, 4, tolerance=0.0)[:2]) == {0, 1}
    assert len(spread_front(COSTS, 4, tolerance=0.0)) == 4


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=12),
    size=st.integers(1, 14),
)
def test_each_is_chosen_once_and_no_more_than_there_are(rows: list[tuple[int, int]], size: int) -> None:
    chosen = spread_front(np.array(rows, dtype=np.float64), size, tolerance=0.5)
    assert len(chosen) == len(set(chosen.tolist())) == min(size, len(rows))
