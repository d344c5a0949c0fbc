"""Promotions between fidelities, and what may be compared with what."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.problem.evaluation import Candidate, Evaluation, Fidelity, Status
from nas.problem.front import hypervolume, non_dominated, pareto_rank
from nas.problem.goals import objectives_from
from nas.problem.history import History
from nas.space.architecture import Architecture
from nas.space.space import SearchSpace
from nas.strategy import ladder as ladder_module
from nas.strategy.fidelities import AllFidelities, OneRung, fitted_to
from nas.strategy.halving import (
    Halving,
    at_fidelity,
    comparable,
    highest,
    order_by_contribution,
    rungs_of,
    with_stopped,
)
from nas.strategy.ladder import Ladder
from nas.strategy.problem import Population, Screening, SearchProblem
from nas.strategy.random_search import RandomSearch
from nas.strategy.surrogate.strategy import Surrogate

LOW, MIDDLE, HIGH = Fidelity(epochs=2), Fidelity(epochs=6), Fidelity(epochs=18)
LADDER = Halving(rungs=(LOW, MIDDLE, HIGH), eta=3)
OBJECTIVES = objectives_from(["accuracy", "latency"], device="d")
KEY = "latency_ms.d"


def judged(
    number: int,
    accuracy: float,
    latency: float,
    *,
    fidelity: Fidelity = LOW,
    status: Status = "complete",
    curve: tuple[float, ...] = (),
) -> Evaluation:
    candidate = Candidate(
        index=number,
        architecture=Architecture(row=(number,), choices={}, digest=f"{number:04x}"),
        fidelity=fidelity,
        seed=number,
        predicted={KEY: latency},
    )
    metrics = {"accuracy": accuracy} if status == "complete" else {}
    return Evaluation(candidate=candidate, status=status, metrics=metrics, curve=curve)


def promotions(
    halving: Halving,
    history: History,
    running: Sequence[Candidate],
    n: int,
    *,
    barred: Set[str] = frozenset(),
) -> list[tuple[Candidate, Fidelity]]:
    return Ladder(halving, OBJECTIVES, barred=barred, history=history).promotions(running, n)


def rows(found: list[tuple[Candidate, Fidelity]]) -> list[tuple[int, Fidelity]]:
    return [(candidate.architecture.row[0], fidelity) for candidate, fidelity in found]


def test_the_best_third_of_a_rung_is_promoted_without_waiting_for_more() -> None:
    history = History([judged(k, 0.5 + 0.1 * k, 1.0) for k in range(3)])
    assert rows(promotions(LADDER, history, (), 4)) == [(2, MIDDLE)]
    assert promotions(LADDER, History(list(history)[:2]), (), 4) == []


def test_promotions_go_to_the_higher_rung_first() -> None:
    low = [judged(k, 0.5 + 0.01 * k, 1.0) for k in range(12)]
    middle = [judged(k, 0.7 + 0.01 * k, 1.0, fidelity=MIDDLE) for k in (9, 10, 11)]
    found = rows(promotions(LADDER, History([*low, *middle]), (), 2))
    assert found == [(11, HIGH), (8, MIDDLE)]


def test_nothing_is_promoted_twice_and_nothing_that_runs_already() -> None:
    history = History([judged(k, 0.5 + 0.1 * k, 1.0) for k in range(6)])
    running = [judged(5, 0.0, 1.0, fidelity=MIDDLE).candidate]
    assert rows(promotions(LADDER, history, running, 4)) == [(4, MIDDLE)]
    history.append(judged(4, 0.9, 1.0, fidelity=MIDDLE, status="failed"))
    assert promotions(LADDER, history, running, 4) == []


@pytest.mark.parametrize("status", ["failed", "timeout", "infeasible", "stopped"])
def test_what_has_no_result_is_never_promoted(status: Status) -> None:
    history = History([judged(k, 0.0, 1.0, status=status, curve=(0.9,)) for k in range(9)])
    assert promotions(LADDER, history, (), 9) == []


def test_what_is_barred_is_not_promoted() -> None:
    history = History([judged(k, 0.5 + 0.1 * k, 1.0) for k in range(6)])
    found = promotions(LADDER, history, (), 4, barred={"0005"})
    assert rows(found) == [(4, MIDDLE)]


def test_of_a_front_those_that_add_most_volume_are_promoted() -> None:
    # All four lie on the front; 1 and 2 are near copies, so that neither adds much.
    front = [judged(0, 0.5, 1.0), judged(1, 0.70, 2.0), judged(2, 0.701, 2.01), judged(3, 0.9, 4.0)]
    dominated = [judged(k, 0.3, 5.0) for k in (4, 5)]
    found = rows(promotions(LADDER, History([*front, *dominated]), (), 9))
    assert {row for row, _ in found} == {0, 3}


@given(
    points=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=14),
    size=st.integers(0, 16),
)
def test_the_order_is_that_of_ranks_and_of_volumes_lost(points: list[tuple[int, int]], size: int) -> None:
    costs = np.array(points, dtype=np.float64)
    order = order_by_contribution(costs, size)
    assert len(order) == len(set(order.tolist())) == min(size, len(costs))
    assert (np.diff(pareto_rank(costs)[order]) >= 0).all()
    assert (order_by_contribution(costs)[: len(order)] == order).all()
    front = np.flatnonzero(non_dominated(costs))
    scaled = (costs - costs.min(axis=0)) / np.maximum(np.ptp(costs, axis=0), 1.0)
    volumes = [
        hypervolume(scaled[front], [1.1, 1.1]) - hypervolume(scaled[front[front != place]], [1.1, 1.1])
        for place in order
        if place in front
    ]
    assert all(one >= other - 1e-9 for one, other in pairwise(volumes))


def test_an_empty_rung_and_one_of_failures_have_no_order() -> None:
    assert len(order_by_contribution(np.zeros((0, 2)))) == 0
    assert len(order_by_contribution(np.full((3, 2), np.nan))) == 0


@given(outcomes=st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 9)), min_size=1, max_size=30), eta=st.integers(2, 4))
def test_a_rung_never_holds_more_than_its_share_as_long_as_results_come_one_by_one(
    outcomes: list[tuple[float, float]], eta: int
) -> None:
    ladder = Halving(rungs=(LOW, HIGH), eta=eta)
    costs = History(judged(k, *outcome) for k, outcome in enumerate(outcomes))
    found = promotions(ladder, costs, (), len(outcomes))
    assert len(found) == len(outcomes) // eta == ladder.expected(len(outcomes))[1]


@given(
    outcomes=st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 9), st.booleans()), max_size=40),
    slots=st.integers(1, 4),
)
def test_a_ladder_that_is_kept_up_to_date_says_what_one_that_is_made_anew_says(
    outcomes: list[tuple[float, float, bool]], slots: int
) -> None:
    kept, history = Ladder(LADDER, OBJECTIVES), History()
    for number, (accuracy, latency, fails) in enumerate(outcomes):
        found = promotions(LADDER, history, (), slots)
        assert kept.promotions((), slots) == found
        more = [
            judged(candidate.index, accuracy, latency, fidelity=fidelity, status="failed" if fails else "complete")
            for candidate, fidelity in found
        ]
        for evaluation in [*more, judged(number, accuracy, latency)]:
            history.append(evaluation)
            kept.take(evaluation)


def test_a_rung_is_ranked_less_often_the_longer_it_is_and_at_moments_that_follow_from_its_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths: list[int] = []

    def counted(costs: np.ndarray, size: int) -> np.ndarray:
        lengths.append(len(costs))
        return np.argsort(costs[:, 0])[:size]

    monkeypatch.setattr(ladder_module, "order_by_contribution", counted)
    kept = Ladder(LADDER, OBJECTIVES)
    for number in range(2100):
        kept.take(judged(number, 0.5, 1.0))
        kept.promotions((), 1)
    assert lengths[:126] == list(range(3, 129))
    assert len(lengths) < 128 + 5 * 64
    assert lengths[-3:] == [2048 - 16, 2048, 2048 + 32]
    again = Ladder(LADDER, OBJECTIVES, history=[judged(number, 0.5, 1.0) for number in range(2099)])
    again.promotions((), 1)
    assert lengths[-1] == 2048 + 32


def test_of_each_architecture_the_dearest_complete_evaluation_counts() -> None:
    history = History(
        [
            judged(0, 0.5, 1.0),
            judged(1, 0.6, 1.0),
            judged(1, 0.8, 1.0, fidelity=MIDDLE),
            judged(0, 0.0, 1.0, fidelity=MIDDLE, status="failed"),
        ]
    )
    found = highest(history)
    assert [(e.candidate.architecture.row[0], e.candidate.fidelity) for e in found] == [(0, LOW), (1, MIDDLE)]


def test_a_view_to_compare_holds_each_architecture_once_with_results_of_one_fidelity() -> None:
    history = History([judged(0, 0.5, 1.0), judged(0, 0.9, 1.0, fidelity=HIGH), judged(1, 0.8, 1.0, fidelity=MIDDLE)])
    view = comparable(history, LOW)
    assert [(e.candidate.architecture.row[0], e.status) for e in view] == [(0, "complete"), (1, "stopped")]
    assert view.metric("accuracy")[0] == 0.5
    assert view.row_keys == history.row_keys


def test_a_stopped_training_is_a_result_of_as_many_epochs_as_it_had() -> None:
    history = History([judged(0, 0.9, 1.0, fidelity=HIGH)])
    assert with_stopped(history) is history
    history.append(judged(1, 0.0, 1.0, fidelity=HIGH, status="stopped", curve=(0.2, 0.4, 0.45)))
    told = with_stopped(history)[1]
    assert (told.status, told.metrics, told.candidate.fidelity) == ("complete", {"accuracy": 0.45}, Fidelity(epochs=3))
    assert history[1].status == "stopped"


def test_fidelities_come_dearest_first_with_what_is_complete() -> None:
    history = History([judged(0, 0.5, 1.0), judged(1, 0.5, 1.0, status="failed"), judged(0, 0.6, 1.0, fidelity=HIGH)])
    assert [(fidelity, places.tolist()) for fidelity, places in rungs_of(history)] == [(HIGH, [2]), (LOW, [0])]
    assert len(at_fidelity(history, LOW)) == 2


SPACE = SearchSpace.from_template(
    {
        "name": "one",
        "network": [
            {"op": "conv", "channels": {"choose": [8, 16, 24, 32, 40, 48]}},
            {"op": "classifier"},
        ],
    }
)


def screen(population: Population) -> Screening:
    every = np.ones(len(population), dtype=bool)
    return Screening(feasible=every, buildable=every, predicted={KEY: 1.0 + population[:, 0]})


PROBLEM = SearchProblem(space=SPACE, objectives=OBJECTIVES, screen=screen)


@dataclass(frozen=True)
class Watching:
    """Random search that keeps what it was shown."""

    seen: list[tuple[list[Evaluation], list[int]]] = field(default_factory=list)

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        self.seen.append((list(history), pending[:, 0].tolist()))
        return RandomSearch().propose(problem, history, pending, n, rng)


def test_a_strategy_that_compares_sees_one_rung_and_no_promotion_as_pending() -> None:
    watching = Watching()
    strategy = fitted_to(watching, PROBLEM, LADDER.rungs)
    assert isinstance(strategy, OneRung)
    history = History([judged(0, 0.5, 1.0), judged(1, 0.6, 2.0), judged(1, 0.9, 2.0, fidelity=MIDDLE)])
    found = strategy.propose(PROBLEM, history, np.array([[1], [2]], dtype=np.int16), 6, np.random.default_rng(0))
    ((shown, pending),) = watching.seen
    assert [evaluation.metrics["accuracy"] for evaluation in shown] == [0.5, 0.6]
    assert pending == [2]
    assert sorted(found[:, 0].tolist()) == [3, 4, 5]


def test_with_one_rung_a_strategy_is_asked_as_it_is_and_one_that_tells_fidelities_apart_sees_all() -> None:
    watching = Watching()
    assert fitted_to(watching, PROBLEM, (LOW,)) is watching
    surrogate = Surrogate()
    assert fitted_to(surrogate, PROBLEM, LADDER.rungs) == AllFidelities(strategy=surrogate)
