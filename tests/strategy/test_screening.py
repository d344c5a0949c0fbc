from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.errors import UserError
from nas.problem.goals import Budget, budgets_from
from nas.space.moves import sample
from nas.space.space import SearchSpace
from nas.strategy.problem import Population
from nas.strategy.screening import Screen

LATENCY = "latency_ms.d"
ROWS = np.array([[0, 0], [1, 2], [2, 4], [3, 6]], dtype=np.int16)


@dataclass(frozen=True)
class ColumnCosts:
    """macs: ten times the first column plus one; rows with a first column of ``unbuildable`` cannot be built."""

    unbuildable: int = -9

    def costs(self, population: Population) -> dict[str, NDArray[np.float64]]:
        return {"macs": 10.0 * population[:, 0] + 1.0, "parameters": np.full(len(population), 5.0)}

    def buildable(self, population: Population) -> NDArray[np.bool_]:
        return population[:, 0] != self.unbuildable


@dataclass(frozen=True)
class ColumnPredictor:
    """The second column in ms, and a bound that lies above it by the confidence."""

    asked: list[float] = field(default_factory=list)

    def predict_ms(self, population: Population) -> NDArray[np.float64]:
        return population[:, 1].astype(np.float64)

    def upper_ms(self, population: Population, confidence: float) -> NDArray[np.float64]:
        self.asked.append(confidence)
        return population[:, 1] + confidence


def budgets(confidence: float = 0.9, **limits: object) -> tuple[Budget, ...]:
    return budgets_from(limits, device="d", confidence=confidence)


def test_without_budgets_all_that_can_be_built_is_feasible_and_everything_is_predicted() -> None:
    screening = Screen(costs=ColumnCosts(unbuildable=3), predictors={LATENCY: ColumnPredictor()})(ROWS)
    assert screening.feasible.tolist() == screening.buildable.tolist() == [True, True, True, False]
    assert screening.predicted["macs"].tolist() == [1.0, 11.0, 21.0, 31.0]
    assert screening.predicted[LATENCY].tolist() == [0.0, 2.0, 4.0, 6.0]
    assert screening.upper[LATENCY].tolist() == pytest.approx([0.95, 2.95, 4.95, 6.95])
    assert screening.broken == {"buildable": 1}


def test_an_exact_budget_holds_up_to_and_at_its_limit() -> None:
    screening = Screen(costs=ColumnCosts(), budgets=budgets(macs="21"))(ROWS)
    assert screening.feasible.tolist() == [True, True, True, False]
    assert screening.broken == {"buildable": 0, "macs": 1}


def test_a_predicted_budget_is_held_against_the_upper_bound_at_its_own_confidence() -> None:
    predictor = ColumnPredictor()
    screen = Screen(
        costs=ColumnCosts(), predictors={LATENCY: predictor}, budgets=budgets(0.6, latency="4.5 ms"), confidence=0.99
    )
    screening = screen(ROWS)
    assert screening.predicted[LATENCY].tolist() == [0.0, 2.0, 4.0, 6.0]
    assert screening.feasible.tolist() == [True, True, False, False]
    assert screening.deciding(LATENCY).tolist() == screening.upper[LATENCY].tolist()
    assert predictor.asked == [0.6]


def test_each_budget_counts_what_breaks_it_and_all_must_hold() -> None:
    screen = Screen(
        costs=ColumnCosts(unbuildable=0),
        predictors={LATENCY: ColumnPredictor()},
        budgets=budgets(macs="25", latency="3 ms", parameters="4"),
    )
    screening = screen(ROWS)
    assert screening.broken == {"buildable": 1, "macs": 1, LATENCY: 2, "parameters": 4}
    assert not screening.feasible.any()


def test_accuracy_is_left_to_training() -> None:
    screening = Screen(costs=ColumnCosts(), budgets=budgets(accuracy="90 %"))(ROWS)
    assert screening.feasible.all()
    assert screening.broken == {"buildable": 0}


def test_a_figure_that_is_nan_keeps_no_budget() -> None:
    @dataclass(frozen=True)
    class NanCosts(ColumnCosts):
        def costs(self, population: Population) -> dict[str, NDArray[np.float64]]:
            return {"macs": np.array([np.nan, 1.0, np.nan, 1.0])}

    assert Screen(costs=NanCosts(), budgets=budgets(macs="5"))(ROWS).feasible.tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("name", "limit", "key"), [("latency", "1 ms", LATENCY), ("size", "1 MB", "size_bytes"), ("memory", "1 MB", "peak")]
)
def test_a_budget_on_what_nothing_knows_is_an_error_and_never_a_pass(name: str, limit: str, key: str) -> None:
    with pytest.raises(UserError, match=f"nothing predicts {key}") as caught:
        Screen(costs=ColumnCosts(), budgets=budgets(**{name: limit}))(ROWS)
    assert caught.value.where == f"budget.{name}"
    assert "known are macs, parameters" in caught.value.advice


def test_each_row_is_judged_by_itself() -> None:
    screen = Screen(
        costs=ColumnCosts(), predictors={LATENCY: ColumnPredictor()}, budgets=budgets(macs="15", latency="3 ms")
    )
    together = screen(ROWS).feasible
    assert together.tolist() == [bool(screen(ROWS[i : i + 1]).feasible[0]) for i in range(len(ROWS))]


def test_a_million_rows_are_screened_in_about_a_second() -> None:
    space = SearchSpace.from_template(
        {"name": "wide", "network": [{"op": "conv", "channels": {"choose": [8, 16, 24, 32]}}] * 8}
    )
    population = sample(space, 1_000_000, np.random.default_rng(0))
    screen = Screen(
        costs=ColumnCosts(), predictors={LATENCY: ColumnPredictor()}, budgets=budgets(macs="15", latency="3 ms")
    )
    start = time.process_time()
    screening = screen(population)
    assert time.process_time() - start < 1.0
    assert screening.feasible.mean() == pytest.approx(0.5 * 0.75, abs=0.01)
