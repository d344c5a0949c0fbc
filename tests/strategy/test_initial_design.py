"""The initial design covers the known cost from end to end."""

from __future__ import annotations

import numpy as np
import pytest

from nas.problem.goals import objectives_from
from nas.problem.history import History
from nas.space.space import SearchSpace
from nas.strategy.initial import initial_design, target
from nas.strategy.problem import Population, Screening, SearchProblem

WIDTHS = [1, 2, 4, 8, 16, 32, 64, 128]
SPACE = SearchSpace.from_template(
    {
        "name": "widths",
        "network": [{"op": "conv", "channels": {"choose": WIDTHS}}, {"op": "conv", "kernel": {"choose": [1, 3, 5, 7]}}],
    }
)


def screen(population: Population) -> Screening:
    cost = np.array(WIDTHS, dtype=np.float64)[population[:, 0]]
    ones = np.ones(len(population), dtype=bool)
    return Screening(feasible=cost < 100, buildable=ones, predicted={"macs": cost})


def costs_of(population: Population) -> list[float]:
    return screen(population).predicted["macs"].tolist()


@pytest.mark.parametrize(("k", "place"), [(0, 0.0), (1, 1.0), (2, 0.5), (3, 0.25), (4, 0.75), (5, 0.125), (6, 0.625)])
def test_targets_begin_with_the_ends_and_halve_the_gaps(k: int, place: float) -> None:
    assert target(k) == place


def test_the_first_rows_are_the_cheapest_the_dearest_feasible_and_the_middle_on_a_logarithmic_scale() -> None:
    problem = SearchProblem(space=SPACE, objectives=objectives_from(["accuracy", "macs"], device="x"), screen=screen)
    none = np.zeros((0, 2), dtype=np.int16)
    rows = next(initial_design(problem, History(), none, 3, np.random.default_rng(0)))
    assert costs_of(rows) == [1.0, 64.0, 8.0]


def test_what_is_pending_moves_the_design_on() -> None:
    problem = SearchProblem(space=SPACE, objectives=objectives_from(["accuracy", "macs"], device="x"), screen=screen)
    pending = np.array([[0, 0], [6, 0]], dtype=np.int16)
    rows = next(initial_design(problem, History(), pending, 1, np.random.default_rng(0)))
    assert costs_of(rows) == [8.0]


def test_without_a_known_objective_draws_are_uniform() -> None:
    problem = SearchProblem(space=SPACE, objectives=objectives_from(["accuracy"], device="x"), screen=screen)
    none = np.zeros((0, 2), dtype=np.int16)
    rows = next(initial_design(problem, History(), none, 2, np.random.default_rng(0)))
    assert len(rows) > 2
