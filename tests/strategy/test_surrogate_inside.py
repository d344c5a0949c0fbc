"""What the surrogate makes of failures, limits, fidelities and rows that are under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from nas.errors import UserError
from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.front import cost_matrix, hypervolume
from nas.problem.goals import Budget, Objective, objectives_from
from nas.problem.history import History
from nas.problem.metrics import METRICS, Metric
from nas.space.flat import flat_space
from nas.space.moves import enumerate_rows, sample
from nas.space.space import SearchSpace
from nas.strategy.capacity import known_pool, pool_of
from nas.strategy.cost_fronts import CostFronts
from nas.strategy.nsga3 import NSGA3, reference_directions, survivors
from nas.strategy.problem import Population, Screening, SearchProblem, SearchStrategy
from nas.strategy.surrogate.outcomes import Scale, chance_of_result, without_shift
from nas.strategy.surrogate.strategy import Surrogate

SPACE = flat_space("f", {f"c{k}": ["a", "b", "c", "d"] for k in range(6)})
LARGE = flat_space("g", {f"c{k}": ["a", "b", "c", "d"] for k in range(30)})
NONE: Population = np.zeros((0, 0), dtype=np.int16)
Figures = Callable[[Population], Mapping[str, float]]


def cost_of(population: Population) -> np.ndarray:
    return 1.0 + population.astype(np.float64) @ np.arange(1, population.shape[1] + 1)


def screen(population: Population) -> Screening:
    good = np.ones(len(population), dtype=np.bool_)
    macs = cost_of(population)
    return Screening(
        feasible=good, buildable=good, predicted={"macs": macs, "parameters": macs + 5.0 * population[:, 0]}
    )


def problem_of(
    space: SearchSpace = SPACE, names: tuple[str, ...] = ("accuracy", "macs"), **more: object
) -> SearchProblem:
    return SearchProblem(space=space, objectives=objectives_from([*names], device="d"), screen=screen, **more)  # type: ignore[arg-type]


def accuracy_of(row: Population) -> dict[str, float]:
    """Later options are better, the first choice above all, and the second one wants its third option."""
    return {"accuracy": float(0.5 + 0.1 * row[0] + 0.02 * row[2:].sum() / len(row) + 0.1 * (row[1] == 2))}


def evaluation(
    problem: SearchProblem, index: int, row: Population, figures: Mapping[str, float] | None, epochs: int = 1
) -> Evaluation:
    predicted = {key: float(values[0]) for key, values in problem.screen(row[None]).predicted.items()}
    candidate = Candidate(
        index=index,
        architecture=problem.space.architecture(row),
        fidelity=Fidelity(epochs=epochs),
        seed=0,
        predicted=predicted,
    )
    status = "failed" if figures is None else "complete"
    return Evaluation(candidate=candidate, status=status, metrics=figures or {})  # type: ignore[arg-type]


def random_history(problem: SearchProblem, n: int, figures: Figures, seed: int = 0) -> History:
    history = History()
    for row in np.unique(sample(problem.space, n, np.random.default_rng(seed)), axis=0):
        history.append(evaluation(problem, len(history), row, figures(row) or None))
    return history


def search(strategy: SearchStrategy, problem: SearchProblem, n: int, figures: Figures, seed: int = 0) -> History:
    history = History()
    while len(history) < n:
        rng = np.random.default_rng([seed, len(history)])
        for row in strategy.propose(problem, history, NONE, 1, rng):
            history.append(evaluation(problem, len(history), row, figures(row)))
    return history


@pytest.mark.parametrize("space", [SPACE, LARGE], ids=["small", "large"])
def test_it_finds_most_of_the_front_with_a_third_of_the_evaluations_of_random_search(space: SearchSpace) -> None:
    problem = problem_of(space)
    rows = sample(space, 50_000, np.random.default_rng(0))
    corner = [-0.5, float(cost_of(rows).max())]
    learned = search(Surrogate(), problem, 40, accuracy_of)
    drawn = random_history(problem, 120, accuracy_of)
    volumes = [hypervolume(cost_matrix(history, problem.objectives), corner) for history in (learned, drawn)]
    assert volumes[0] > 1.05 * volumes[1]


def test_what_fails_is_left_though_it_would_be_best() -> None:
    problem = problem_of()

    def figures(row: Population) -> dict[str, float]:
        return {} if row[0] == 3 else accuracy_of(row)

    history = random_history(problem, 60, figures)
    assert 10 < np.count_nonzero(~history.complete) < 25
    rows = [Surrogate().propose(problem, history, NONE, 1, np.random.default_rng(s))[0] for s in range(20)]
    everything = random_history(problem, 60, accuracy_of)
    free = [Surrogate().propose(problem, everything, NONE, 1, np.random.default_rng(s))[0] for s in range(20)]
    assert np.mean([row[0] == 3 for row in rows]) < np.mean([row[0] == 3 for row in free])


def test_the_chance_of_a_result_follows_what_is_alike() -> None:
    alike = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    chance = chance_of_result(alike, np.array([False, False, True, True]))
    np.testing.assert_allclose(chance, [0.5 / 3, 2.5 / 3, 0.5])


def test_a_limit_on_accuracy_keeps_it_from_cheap_rows_that_break_it() -> None:
    limit = Budget(key="accuracy", metric=METRICS["accuracy"], limit=0.75)
    free, limited = problem_of(), problem_of(limits=(limit,))
    history = random_history(free, 60, accuracy_of)
    share = {}
    for name, problem in (("free", free), ("limited", limited)):
        rows = Surrogate().propose(problem, history, NONE, 12, np.random.default_rng(0))
        share[name] = np.mean([accuracy_of(row)["accuracy"] >= 0.75 for row in rows])
    assert share["limited"] > share["free"]
    assert share["limited"] > 0.8


def test_a_limit_on_a_metric_that_is_no_objective_is_learned() -> None:
    loss = Metric(name="loss", short="loss", dimension="count", known_before_training=False)
    problem = problem_of(limits=(Budget(key="loss", metric=loss, limit=0.5),))

    def figures(row: Population) -> dict[str, float]:
        return {**accuracy_of(row), "loss": 0.1 + 0.3 * float(row[3])}

    history = random_history(problem, 60, figures)
    rows = Surrogate().propose(problem, history, NONE, 12, np.random.default_rng(0))
    assert np.mean([row[3] <= 1 for row in rows]) > 0.9


def test_several_metrics_that_need_training_are_learned_side_by_side() -> None:
    loss = Metric(name="loss", short="loss", dimension="count", known_before_training=False)
    objectives = (*objectives_from(["accuracy", "macs", "parameters"], device="d"), Objective(key="loss", metric=loss))
    problem = SearchProblem(space=SPACE, objectives=objectives, screen=screen)

    def figures(row: Population) -> dict[str, float]:
        return {**accuracy_of(row), "loss": 1.0 + float(row[3])}

    history = search(Surrogate(), problem, 25, figures)
    assert len(history) == 25
    assert not np.isnan(cost_matrix(history, objectives)).any()


def test_judgements_at_a_lower_fidelity_teach_but_are_not_on_the_front() -> None:
    """Low ones are all better here: taken at face value, nothing at the high fidelity would be worth a try."""
    problem, history = problem_of(), History()
    rows = np.unique(sample(SPACE, 50, np.random.default_rng(0)), axis=0)
    for row in rows:
        low = accuracy_of(row)["accuracy"] + 0.05
        history.append(evaluation(problem, len(history), row, {"accuracy": low}))
    for row in rows[::8]:
        history.append(evaluation(problem, len(history), row, accuracy_of(row), epochs=10))
    proposed = np.concatenate(
        [Surrogate().propose(problem, history, NONE, 4, np.random.default_rng(seed)) for seed in range(5)]
    )
    assert (proposed[:, 1] == 2).mean() >= 0.5  # one in four by chance: seven high judgements alone do not tell


def test_the_shift_between_fidelities_is_taken_out() -> None:
    values = np.array([1.0, 2.0, 3.0, 11.0, 12.0, 13.0])
    moved = without_shift(values, np.array([1.0, 1, 1, 9, 9, 9]), np.tile(np.eye(3), (2, 2)))
    assert moved[3:].tolist() == [11.0, 12.0, 13.0]
    np.testing.assert_allclose(moved[:3] - values[:3], 10 * 3 / 5)


def test_a_batch_spreads_and_pending_rows_are_accounted_for() -> None:
    problem = problem_of()
    history = random_history(problem, 40, accuracy_of)
    first = Surrogate().propose(problem, history, NONE, 1, np.random.default_rng(0))
    batch = Surrogate().propose(problem, history, NONE, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(batch[:1], first)
    after = Surrogate().propose(problem, history, first, 1, np.random.default_rng(0))
    np.testing.assert_array_equal(after, batch[1:2])


def test_without_results_that_differ_it_asks_for_what_it_knows_least_and_goes_on() -> None:
    problem = problem_of()
    history = random_history(problem, 30, lambda row: {"accuracy": 0.5})
    assert len(Surrogate().propose(problem, history, NONE, 3, np.random.default_rng(0))) == 3


def test_one_feasible_architecture_is_proposed_once() -> None:
    only = enumerate_rows(SPACE, limit=10_000)[1234]

    def one(population: Population) -> Screening:
        good = (population == only).all(axis=1)
        return Screening(feasible=good, buildable=good, predicted={"macs": cost_of(population)})

    problem = SearchProblem(space=SPACE, objectives=objectives_from(["accuracy", "macs"], device="d"), screen=one)
    for strategy in (Surrogate(), CostFronts()):
        (row,) = strategy.propose(problem, History(), NONE, 3, np.random.default_rng(0))
        np.testing.assert_array_equal(row, only)
        history = History([evaluation(problem, 0, row, accuracy_of(row))])
        assert len(strategy.propose(problem, history, NONE, 3, np.random.default_rng(0))) == 0


def test_errors_are_modelled_on_a_logarithmic_scale_and_other_costs_as_they_are_where_they_go_below_zero() -> None:
    accuracy = METRICS["accuracy"]
    scale = Scale.of(accuracy, np.array([-0.9, -0.5, -1.0]))
    np.testing.assert_allclose(scale.back(scale.forward(np.array([-0.9, -0.5]))), [-0.9, -0.5])
    assert np.isfinite(scale.forward(np.array([-1.0]))).all()
    plain = Metric(name="gain", short="gain", dimension="count", known_before_training=False)
    assert Scale.of(plain, np.array([-3.0, 2.0])).floor is None
    assert Scale.of(plain, np.array([3.0, 2.0])).floor == 0.0


def test_cost_fronts_takes_the_larger_networks_of_each_cost_first() -> None:
    problem = problem_of()
    first = CostFronts().propose(problem, History(), NONE, 40, np.random.default_rng(0))
    assert first[:, 0].mean() > 2.5  # 1.5 by chance; the first choice adds parameters without MACs
    assert np.ptp(cost_of(first)) > 0.8 * np.ptp(cost_of(enumerate_rows(SPACE, limit=5000)))
    pool = known_pool(problem, History(), np.random.default_rng(0))
    assert len(pool.rows) == SPACE.size
    assert pool.capacity is not None


def test_capacity_is_unknown_where_nothing_but_the_objective_is_known() -> None:
    problem = SearchProblem(
        space=SPACE,
        objectives=objectives_from(["accuracy", "macs"], device="d"),
        screen=lambda rows: Screening(feasible=rows[:, 0] >= 0, buildable=rows[:, 0] >= 0),
    )
    assert pool_of(problem, enumerate_rows(SPACE, limit=5000)).capacity is None
    assert len(CostFronts().propose(problem, History(), NONE, 5, np.random.default_rng(0))) == 5


def test_where_only_some_rows_exist_only_those_are_proposed() -> None:
    rows = np.unique(sample(LARGE, 60, np.random.default_rng(0)), axis=0)
    keys = {row.tobytes() for row in rows}

    def listed(population: Population) -> Screening:
        good = np.array([row.tobytes() in keys for row in np.ascontiguousarray(population)], dtype=np.bool_)
        return Screening(feasible=good, buildable=good, predicted={"macs": cost_of(population)})

    objectives = objectives_from(["accuracy", "macs"], device="d")
    problem = SearchProblem(space=LARGE, objectives=objectives, screen=listed, rows=rows)
    history = search(Surrogate(), problem, len(rows), accuracy_of)
    assert history.row_keys == keys
    assert len(Surrogate().propose(problem, history, NONE, 1, np.random.default_rng(0))) == 0


@pytest.mark.parametrize(("k", "size", "count"), [(1, 5, 1), (2, 12, 12), (3, 12, 10), (4, 3, 4)])
def test_reference_directions_fill_the_simplex(k: int, size: int, count: int) -> None:
    directions = reference_directions(k, size)
    assert directions.shape == (count, k)
    np.testing.assert_allclose(directions.sum(axis=1), 1.0)
    assert len(np.unique(directions, axis=0)) == count
    assert directions.min() >= 0


def test_survivors_are_the_best_ranks_and_then_one_of_each_niche() -> None:
    angle = np.linspace(0, np.pi / 2, 30)
    front = 1 - np.column_stack([np.sin(angle), np.cos(angle)])
    costs = np.concatenate([front, front + 0.5])
    kept = survivors(costs, 6)
    assert (kept < 30).all()
    gaps = np.diff(np.sort(kept))
    assert gaps.min() >= 2
    assert survivors(costs[:4], 6).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: Surrogate(num_initial=1), "strategy.num_initial: must be an integer of at least 2, got 1"),
        (lambda: Surrogate(max_points=3), "strategy.max_points: must be an integer of at least 20, got 3"),
        (lambda: NSGA3(crossover_share=2), "strategy.crossover_share: must be a number from 0 to 1"),
    ],
)
def test_a_setting_out_of_range_is_refused(make: Callable[[], object], part: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert part in str(caught.value)
