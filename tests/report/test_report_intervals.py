from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.report.intervals import wilson


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    # Published in Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_that_of_the_literature(successes: int, total: int, low: float, high: float) -> None:
    assert wilson(successes / total, total) == pytest.approx((low, high), abs=5e-5)


@given(total=st.integers(1, 10_000), data=st.data())
def test_the_interval_encloses_the_share_mirrors_and_narrows_with_samples(total: int, data: st.DataObject) -> None:
    share = data.draw(st.integers(0, total)) / total
    low, high = wilson(share, total)
    assert 0 <= low <= share <= high <= 1
    assert wilson(1 - share, total) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    narrow_low, narrow_high = wilson(share, 4 * total)
    assert narrow_high - narrow_low < high - low


def test_more_confidence_takes_a_wider_interval() -> None:
    low, high = wilson(0.9, 100, confidence=0.99)
    usual_low, usual_high = wilson(0.9, 100)
    assert low < usual_low
    assert high > usual_high
