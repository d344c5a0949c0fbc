from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.deploy.precision.allocation import Option, allocate
from nas.errors import UserError

PRECISIONS = ("float32", "int8", "int4")
figures = st.floats(0, 1e4, allow_subnormal=False).map(lambda value: round(value, 3))


@st.composite
def operators(draw: st.DrawFn) -> list[list[Option]]:
    return [
        [
            Option(precision=name, loss=draw(figures), size_bytes=draw(figures), latency_ms=draw(figures))
            for name in PRECISIONS[: draw(st.integers(1, 3))]
        ]
        for _ in range(draw(st.integers(1, 5)))
    ]


def brute_force(choices: list[list[Option]], size: float, latency: float) -> float:
    """The least loss of all combinations; infinite where none keeps to the budgets."""
    kept = (
        sum(option.loss for option in picked)
        for picked in itertools.product(*choices)
        if sum(option.size_bytes for option in picked) <= size
        and sum(option.latency_ms for option in picked) <= latency
    )
    return min(kept, default=math.inf)


@settings(max_examples=60, deadline=None)
@given(choices=operators(), share=st.floats(0, 1), other=st.floats(0, 1))
def test_the_loss_is_the_least_of_all_combinations(choices: list[list[Option]], share: float, other: float) -> None:
    def budget(figure: str, part: float) -> float:
        rows = [[getattr(option, figure) for option in options] for options in choices]
        # A little above what some combination needs, so that no rounding decides.
        return sum(min(row) + part * (max(row) - min(row)) for row in rows) + 1e-4

    size, latency = budget("size_bytes", share), budget("latency_ms", other)
    least = brute_force(choices, size, latency)
    if math.isinf(least):
        with pytest.raises(UserError, match="budget"):
            allocate(choices, max_size_bytes=size, max_latency_ms=latency)
        return
    found = allocate(choices, max_size_bytes=size, max_latency_ms=latency)
    picked = [options[index] for options, index in zip(choices, found.chosen, strict=True)]
    assert found.loss == pytest.approx(sum(option.loss for option in picked))
    assert found.size_bytes <= size * (1 + 1e-6) + 1e-3
    assert found.latency_ms <= latency * (1 + 1e-6) + 1e-3
    assert found.loss == pytest.approx(least, rel=1e-6, abs=1e-3)


def test_without_a_budget_every_operator_has_its_least_loss() -> None:
    rows = [[Option(precision="float32", loss=0.0), Option(precision="int8", loss=0.1)]] * 3
    assert allocate(rows).chosen == (0, 0, 0)
    assert allocate([]).chosen == ()


def test_a_budget_that_cannot_be_met_says_what_the_least_is() -> None:
    rows = [[Option(precision="int8", loss=0.1, size_bytes=300.0, latency_ms=2.0)]] * 2
    with pytest.raises(UserError, match=r"budget\.size: cannot be met, got 500 bytes; relax it to 600 bytes"):
        allocate(rows, max_size_bytes=500)
    with pytest.raises(UserError, match=r"budget\.latency: cannot be met, got 3 ms; relax it to 4 ms"):
        allocate(rows, max_latency_ms=3)


def test_two_budgets_that_exclude_each_other_are_told() -> None:
    small = Option(precision="int4", loss=0.1, size_bytes=1, latency_ms=9)
    quick = Option(precision="int8", loss=0.1, size_bytes=9, latency_ms=1)
    with pytest.raises(UserError, match="cannot be met in both"):
        allocate([[small, quick]], max_size_bytes=5, max_latency_ms=5)
