"""The screen and the forecast on the real costs of a real space."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from nas.errors import UserError
from nas.model.costs import network_costs
from nas.model.population_costs import PopulationCosts
from nas.problem.goals import budgets_from, objectives_from
from nas.space.load import load_space
from nas.space.moves import sample
from nas.space.space import SearchSpace
from nas.strategy.forecast import forecast
from nas.strategy.screening import Screen

ROOT = Path(__file__).resolve().parents[2]
OBJECTIVES = objectives_from(["accuracy", "macs"], device="d")


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space(ROOT / "search_spaces" / "mobilenet-tiny.yaml")


@pytest.fixture(scope="module")
def costs(space: SearchSpace) -> PopulationCosts:
    return PopulationCosts(space, input_shape=(1, 8, 8), num_classes=10)


def test_what_passes_has_a_network_that_keeps_the_budgets(space: SearchSpace, costs: PopulationCosts) -> None:
    budgets = budgets_from({"macs": "500 k", "size": "150 kB"}, device="d", confidence=0.95)
    rows = sample(space, 200, np.random.default_rng(0))
    feasible = Screen(costs=costs, budgets=budgets)(rows).feasible
    assert 10 < feasible.sum() < 190
    for row, passes in list(zip(rows, feasible, strict=True))[:20]:
        known = network_costs(space.network(row), input_shape=(1, 8, 8), num_classes=10)
        assert passes == (known.macs <= 500_000 and known.size_bytes["float32"] <= 150_000)


def test_a_budget_below_everything_is_refused_with_a_limit_that_works(
    space: SearchSpace, costs: PopulationCosts
) -> None:
    def forecast_of(limit: str) -> None:
        screen = Screen(costs=costs, budgets=budgets_from({"macs": limit}, device="d", confidence=0.95))
        forecast(screen, space, OBJECTIVES, np.random.default_rng(0), num_samples=2000).require_feasible()

    with pytest.raises(UserError, match="nothing in mobilenet-tiny meets 1 k; the smallest seen") as caught:
        forecast_of("1 k")
    assert "resolution=1.5 costs" in caught.value.advice
    forecast_of(caught.value.advice.removeprefix("relax it to ").split(" or more")[0])


def test_a_hundred_thousand_real_rows_are_screened_in_a_second(space: SearchSpace, costs: PopulationCosts) -> None:
    budgets = budgets_from({"macs": "500 k"}, device="d", confidence=0.95)
    screen = Screen(costs=costs, budgets=budgets)
    rows = sample(space, 100_000, np.random.default_rng(0))
    screen(rows[:2000])
    start = time.process_time()
    screen(rows)
    assert time.process_time() - start < 1.0
