from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from nas.problem.evaluation import Candidate, Evaluation, Fidelity, Status
from nas.problem.front import cost_matrix, crowding, elite, hypervolume, non_dominated, pareto_rank
from nas.problem.goals import objectives_from
from nas.problem.history import History
from nas.space.architecture import Architecture

NAN = math.nan
COSTS = st.integers(1, 4).flatmap(
    lambda k: arrays(
        np.float64,
        st.tuples(st.integers(0, 24), st.just(k)),
        elements=st.one_of(st.integers(-3, 3).map(float), st.just(NAN)),
    )
)


def dominates(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """By the definition; a row with NaN is dominated by each row without."""
    if np.isnan(a).any():
        return False
    return bool(np.isnan(b).any() or ((a <= b).all() and (a < b).any()))


@given(costs=COSTS)
def test_non_dominated_is_what_the_definition_says(costs: NDArray[np.float64]) -> None:
    expected = [not np.isnan(row).any() and not any(dominates(other, row) for other in costs) for row in costs]
    assert non_dominated(costs).tolist() == expected


@given(costs=COSTS)
def test_a_rank_is_the_number_of_fronts_in_front_of_it(costs: NDArray[np.float64]) -> None:
    ranks = pareto_rank(costs)
    valid = ~np.isnan(costs).any(axis=1)
    for rank in range(int(ranks.max(initial=-1)) + 1):
        rest = valid & (ranks >= rank)
        members = np.flatnonzero(rest)[non_dominated(costs[rest])]
        assert set(members) == set(np.flatnonzero(valid & (ranks == rank)))
    if valid.any():
        assert (ranks[~valid] == ranks[valid].max() + 1).all()


def test_copies_of_a_front_member_are_all_on_the_front() -> None:
    costs = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 2.0], [NAN, 0.0]])
    assert non_dominated(costs).tolist() == [True, True, False, False]
    assert pareto_rank(costs).tolist() == [0, 0, 1, 2]


def test_the_hypervolume_of_a_staircase_is_its_area() -> None:
    costs = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [3.0, 3.0], [NAN, 0.0]])
    assert hypervolume(costs, [4.0, 4.0]) == pytest.approx(3 + 2 + 1)


def test_the_hypervolume_of_one_point_is_the_product_of_its_sides() -> None:
    assert hypervolume([[1.0]], [4.0]) == pytest.approx(3.0)
    assert hypervolume([[1.0, 1.0, 2.0]], [4.0, 3.0, 3.0]) == pytest.approx(3 * 2 * 1)


def test_points_on_or_outside_of_the_reference_add_nothing() -> None:
    assert hypervolume([[5.0, 0.0], [4.0, 1.0]], [4.0, 4.0]) == 0.0
    assert hypervolume(np.zeros((0, 2)), [1.0, 1.0]) == 0.0
    assert hypervolume([[NAN, 0.0]], [1.0, 1.0]) == 0.0


@given(costs=COSTS)
def test_the_hypervolume_comes_from_the_front_and_never_falls_with_more_points(
    costs: NDArray[np.float64],
) -> None:
    reference = np.full(costs.shape[1], 3.5)
    whole = hypervolume(costs, reference)
    assert hypervolume(costs[non_dominated(costs)], reference) == pytest.approx(whole)
    assert hypervolume(costs[: len(costs) // 2], reference) <= whole + 1e-9


@given(costs=COSTS.filter(lambda costs: costs.shape[1] <= 3 and len(costs) <= 12))
def test_the_hypervolume_counts_the_dominated_cells_of_an_integer_grid(costs: NDArray[np.float64]) -> None:
    k = costs.shape[1]
    cells = np.stack(np.meshgrid(*[np.arange(-3, 4)] * k, indexing="ij"), axis=-1).reshape(-1, k)
    dominated = (costs[None] <= cells[:, None]).all(axis=2).any(axis=1)
    assert hypervolume(costs, np.full(k, 4.0)) == pytest.approx(float(dominated.sum()))


def test_crowding_is_the_scaled_distance_between_neighbours() -> None:
    costs = np.array([[0.0, 10.0], [1.0, 6.0], [3.0, 5.0], [4.0, 0.0]])
    assert crowding(costs).tolist() == pytest.approx([math.inf, 3 / 4 + 5 / 10, 3 / 4 + 6 / 10, math.inf])


def test_crowding_gives_nothing_to_copies_and_to_rows_without_result() -> None:
    costs = np.array([[0.0, 2.0], [1.0, 1.0], [1.0, 1.0], [2.0, 0.0], [NAN, 1.0]])
    assert crowding(costs).tolist() == pytest.approx([math.inf, 2.0, 0.0, math.inf, 0.0])
    assert crowding([[3.0, 3.0]]).tolist() == [math.inf]
    assert crowding(np.zeros((0, 2))).tolist() == []


@given(costs=COSTS, size=st.integers(0, 30))
def test_the_elite_is_the_best_by_rank_and_best_first(costs: NDArray[np.float64], size: int) -> None:
    chosen = elite(costs, size)
    valid = ~np.isnan(costs).any(axis=1)
    assert len(chosen) == min(size, valid.sum())
    assert len(set(chosen.tolist())) == len(chosen)
    ranks = pareto_rank(costs)
    assert (np.diff(ranks[chosen]) >= 0).all()
    assert not valid.any() or len(chosen) == 0 or sorted(ranks[valid])[: len(chosen)] == ranks[chosen].tolist()


def test_where_the_elite_cuts_a_front_the_crowded_members_go() -> None:
    costs = np.array([[0.0, 4.0], [1.9, 2.1], [2.0, 2.0], [2.1, 1.9], [4.0, 0.0]])
    assert set(elite(costs, 4).tolist()) == {0, 4, 1, 3}


def evaluation(index: int, status: Status, metrics: dict[str, float], predicted: dict[str, float]) -> Evaluation:
    architecture = Architecture(row=(index,), choices={}, digest=f"{index:016x}")
    candidate = Candidate(
        index=index, architecture=architecture, fidelity=Fidelity(epochs=1), seed=0, predicted=predicted
    )
    return Evaluation(candidate=candidate, status=status, metrics=metrics)


def test_costs_are_minimised_and_known_ones_come_from_the_prediction_where_they_were_not_judged() -> None:
    objectives = objectives_from(["accuracy", "macs"], device="d")
    history = History(
        [
            evaluation(0, "complete", {"accuracy": 0.9}, {"macs": 5.0}),
            evaluation(1, "complete", {"accuracy": 0.8, "macs": 4.0}, {"macs": 5.0}),
            evaluation(2, "complete", {"accuracy": NAN}, {"macs": 5.0}),
            evaluation(3, "complete", {"accuracy": 0.7}, {}),
            evaluation(4, "failed", {"accuracy": 0.99}, {"macs": 1.0}),
            evaluation(5, "timeout", {}, {"macs": 1.0}),
            evaluation(6, "complete", {"accuracy": math.inf}, {"macs": 1.0}),
        ]
    )
    costs = cost_matrix(history, objectives)
    assert costs[:2].tolist() == [[-0.9, 5.0], [-0.8, 4.0]]
    assert np.isnan(costs[2:]).all()


def test_the_costs_of_an_empty_history_have_a_column_an_objective() -> None:
    assert cost_matrix(History(), objectives_from(["accuracy", "macs"], device="d")).shape == (0, 2)
