from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.errors import UserError
from nas.problem.goals import budgets_from, objectives_from
from nas.space.moves import enumerate_rows
from nas.space.space import SearchSpace
from nas.strategy.causes import find_causes
from nas.strategy.forecast import forecast, share_of
from nas.strategy.problem import Population
from nas.strategy.screening import Screen

LATENCY = "latency_ms.d"


def space_of(num_choices: int, num_options: int = 4) -> SearchSpace:
    """Convolutions whose channels are chosen: ``num_options ** num_choices`` architectures."""
    channels = {"choose": [8 * (k + 1) for k in range(num_options)]}
    layers = [{"name": f"layer{k}", "op": "conv", "channels": channels} for k in range(num_choices)]
    return SearchSpace.from_template({"name": "plain", "network": [*layers, {"op": "classifier"}]})


@dataclass(frozen=True)
class SumCosts:
    """macs: one plus the sum of the option indices; parameters: what remains to the largest sum, plus one."""

    num_options: int = 4
    can_be_built: bool = True

    def costs(self, population: Population) -> dict[str, NDArray[np.float64]]:
        total = population.sum(axis=1).astype(np.float64)
        return {"macs": 1 + total, "parameters": 1 + (self.num_options - 1) * population.shape[1] - total}

    def buildable(self, population: Population) -> NDArray[np.bool_]:
        return np.full(len(population), self.can_be_built)


@dataclass(frozen=True)
class SumPredictor:
    """0.1 ms an index and 0.048 ms beside; the bound lies 0.007 ms above."""

    def predict_ms(self, population: Population) -> NDArray[np.float64]:
        weights = np.ones(population.shape[1])
        weights[-1] = 3.0
        return 0.048 + 0.1 * population @ weights

    def upper_ms(self, population: Population, confidence: float) -> NDArray[np.float64]:
        return self.predict_ms(population) + 0.007


def screen_with(costs: SumCosts | None = None, confidence: float = 0.95, **limits: object) -> Screen:
    return Screen(
        costs=costs or SumCosts(),
        predictors={LATENCY: SumPredictor()},
        budgets=budgets_from(limits, device="d", confidence=confidence),
    )


OBJECTIVES = objectives_from(["accuracy", "latency"], device="d")


def test_a_small_space_is_counted_exactly() -> None:
    result = forecast(screen_with(macs="3"), space_of(3), OBJECTIVES, np.random.default_rng(0))
    assert result.exhaustive
    assert (result.size, result.share.total) == (64, 64)
    assert result.share.count == 1 + 3 + 6  # index sums 0, 1 and 2
    assert result.share.low == result.share.high == result.share.value == 10 / 64
    result.require_feasible()


def test_a_large_space_is_estimated_with_an_interval_that_holds_the_truth() -> None:
    result = forecast(screen_with(macs="12"), space_of(8), OBJECTIVES, np.random.default_rng(0), num_samples=2000)
    sums = enumerate_rows(space_of(8), limit=70_000).sum(axis=1)
    assert not result.exhaustive
    assert result.share.low < (sums <= 11).mean() < result.share.high
    assert result.share.high - result.share.low < 0.05


def test_each_budget_has_its_own_share() -> None:
    result = forecast(screen_with(macs="3", parameters="9"), space_of(3), OBJECTIVES, np.random.default_rng(0))
    assert {key: share.count for key, share in result.shares.items()} == {
        "buildable": 64,
        "macs": 10,
        "parameters": 64 - 1,
    }
    assert result.share.count == 9


def test_ranges_span_the_metrics_and_tell_the_tightest_bound() -> None:
    result = forecast(screen_with(), space_of(3), OBJECTIVES, np.random.default_rng(0))
    macs, latency = result.ranges["macs"], result.ranges[LATENCY]
    assert (macs.minimum, macs.median, macs.maximum, macs.tightest) == (1.0, 5.5, 10.0, 1.0)
    assert latency.minimum == pytest.approx(0.048)
    assert latency.maximum == pytest.approx(0.048 + 1.5)
    assert latency.tightest == pytest.approx(0.055)


def test_a_budget_that_nothing_meets_ends_with_the_tightest_value_what_to_relax_and_the_causes() -> None:
    result = forecast(screen_with(latency="0.01 ms"), space_of(3), OBJECTIVES, np.random.default_rng(0))
    assert not result.feasible
    with pytest.raises(UserError) as caught:
        result.require_feasible()
    assert str(caught.value) == (
        "budget.latency: nothing in plain meets 0.01 ms on d with 95% confidence; "
        "the fastest seen is 0.048 ms (bound 0.055 ms); relax it to 0.055 ms or more, or use a space with cheaper "
        "options where it costs most: layer2.channels=32 costs 0.9 ms more than 8, "
        "layer0.channels=32 costs 0.3 ms more than 8, layer1.channels=32 costs 0.3 ms more than 8"
    )


def test_relaxing_to_the_advice_is_enough() -> None:
    tight = forecast(
        screen_with(latency="0.01 ms"), space_of(12), OBJECTIVES, np.random.default_rng(0), num_samples=500
    )
    (shortfall,) = tight.shortfalls
    assert shortfall.tightest == pytest.approx(0.055)  # found by descent: a draw of 12 zeros is one in 16 million
    with pytest.raises(UserError) as caught:
        tight.require_feasible()
    limit = caught.value.advice.removeprefix("relax it to ").split(" or more")[0]
    rng = np.random.default_rng(0)
    assert forecast(screen_with(latency=limit), space_of(12), OBJECTIVES, rng, num_samples=500).feasible


def test_what_no_draw_meets_but_the_space_can_is_feasible() -> None:
    result = forecast(screen_with(macs="2"), space_of(12), OBJECTIVES, np.random.default_rng(0), num_samples=500)
    assert result.share.count == 0
    assert result.share.low == 0.0
    assert 0 < result.share.high < 0.01
    assert result.feasible
    result.require_feasible()


def test_budgets_that_only_clash_together_are_named_together() -> None:
    result = forecast(screen_with(macs="4", parameters="4"), space_of(3), OBJECTIVES, np.random.default_rng(0))
    assert not result.feasible
    assert result.shortfalls == ()
    with pytest.raises(UserError, match=r"budget: nothing in plain meets all of them together \(macs <= 4, parameters"):
        result.require_feasible()


def test_an_exact_budget_is_told_without_confidence_or_device() -> None:
    result = forecast(screen_with(macs="0.5"), space_of(3), OBJECTIVES, np.random.default_rng(0))
    with pytest.raises(
        UserError, match=r"budget.macs: nothing in plain meets 0.5; the smallest seen is 1; relax it to 1 "
    ):
        result.require_feasible()


def test_a_space_in_which_nothing_can_be_built_says_so() -> None:
    screen = screen_with(SumCosts(can_be_built=False), macs="3")
    result = forecast(screen, space_of(3), OBJECTIVES, np.random.default_rng(0))
    assert result.ranges == {}
    with pytest.raises(UserError, match=r"space plain: must hold a network that can be built .* none of 64 can"):
        result.require_feasible()


def test_an_objective_that_nothing_predicts_is_an_error() -> None:
    objectives = objectives_from(["accuracy", "size"], device="d")
    with pytest.raises(UserError, match="objectives: must be known before training, but nothing predicts size_bytes"):
        forecast(screen_with(), space_of(3), objectives, np.random.default_rng(0))


def test_equal_seeds_give_equal_forecasts() -> None:
    one, two = (
        forecast(screen_with(macs="2"), space_of(12), OBJECTIVES, np.random.default_rng(3), num_samples=300)
        for _ in range(2)
    )
    assert one == two


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (31, 100, 0.2278, 0.4063)],
)
def test_the_interval_is_wilsons(count: int, total: int, low: float, high: float) -> None:
    share = share_of(count, total)
    assert (share.low, share.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_a_choice_without_effect_and_an_option_with_few_rows_are_no_cause() -> None:
    space = space_of(2, num_options=3)
    rows = np.array([[0, k % 3] for k in range(30)] + [[1, 0]] * 30 + [[2, 0]] * 2, dtype=np.int16)
    values = np.where(rows[:, 0] == 1, 4.0, np.where(rows[:, 0] == 2, 100.0, 1.0))
    by_name = {cause.choice: cause for cause in find_causes(space, rows, values, "count")}
    cause = by_name["layer0.channels"]
    assert (cause.dear, cause.cheap, cause.difference) == ("16", "8", 3.0)
    assert str(cause) == "layer0.channels=16 costs 3 more than 8"
    assert find_causes(space, rows, np.ones(len(rows)), "count") == ()
