"""What each strategy does by its own rules, beyond what all must do (see tests/conformance)."""

from __future__ import annotations

import logging

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from nas.errors import UserError
from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.goals import objectives_from
from nas.problem.history import History
from nas.space.moves import is_canonical, neighbours, sample
from nas.space.space import SearchSpace
from nas.strategy.novelty import anywhere, around, select_new
from nas.strategy.nsga2 import NSGA2
from nas.strategy.optuna_study import ask_rows, best_and_latest, distributions_of, make_study, make_trials
from nas.strategy.pareto_local_search import ParetoLocalSearch
from nas.strategy.problem import Population, Screening, SearchProblem
from nas.strategy.random_search import RandomSearch
from nas.strategy.regularised_evolution import RegularisedEvolution
from nas.strategy.tpe import TPE

NONE: Population = np.zeros((0, 0), dtype=np.int16)
SPACE = SearchSpace.from_template(
    {
        "name": "plain",
        "network": [
            {"name": f"l{k}", "op": "conv", "channels": {"choose": [8, 16, 24, 32]}, "kernel": {"choose": [1, 3]}}
            for k in range(5)
        ],
    }
)
CONDITIONAL = SearchSpace.from_template(
    {
        "name": "conditional",
        "network": [
            {"choose": ["identity", {"op": "conv", "channels": {"choose": [8, 16]}}], "name": "first"},
            {"op": "conv", "channels": {"choose": [8]}, "activation": {"choose": ["relu", "hardswish"]}},
        ],
    }
)


def see_all(population: Population) -> Screening:
    all_good = np.ones(len(population), dtype=np.bool_)
    return Screening(feasible=all_good, buildable=all_good)


PROBLEM = SearchProblem(space=SPACE, objectives=objectives_from(["accuracy", "macs"], device="d"), screen=see_all)


def history_of(rows: Population, accuracies: list[float], macs: list[float]) -> History:
    history = History()
    for index, (row, accuracy, cost) in enumerate(zip(rows, accuracies, macs, strict=True)):
        candidate = Candidate(index=index, architecture=SPACE.architecture(row), fidelity=Fidelity(epochs=1), seed=0)
        metrics = {"accuracy": accuracy, "macs": cost}
        history.append(Evaluation(candidate=candidate, status="complete", metrics=metrics))
    return history


def random_history(n: int) -> History:
    rng = np.random.default_rng(0)
    return history_of(sample(SPACE, n, rng), rng.random(n).tolist(), rng.random(n).tolist())


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: RegularisedEvolution(population_size=1), "strategy.population_size: must be an integer of at least 2"),
        (lambda: RegularisedEvolution(tournament_size=0), "strategy.tournament_size: must be an integer of at least 1"),
        (
            lambda: RegularisedEvolution(population_size=4, tournament_size=5),
            "strategy.tournament_size: must be at most population_size",
        ),
        (lambda: ParetoLocalSearch(num_initial=0), "strategy.num_initial"),
        (lambda: ParetoLocalSearch(num_initial=2.5), "strategy.num_initial: must be an integer"),  # type: ignore[arg-type]
        (lambda: NSGA2(population_size=True), "strategy.population_size: must be an integer"),
        (lambda: NSGA2(crossover_share=1.5), "strategy.crossover_share: must be a number from 0 to 1, got 1.5"),
        (lambda: NSGA2(mutation_share=float("nan")), "strategy.mutation_share: must be a number from 0 to 1"),
        (lambda: TPE(num_initial=1), "strategy.num_initial"),
        (lambda: TPE(max_trials=5), "strategy.max_trials: must be an integer of at least 20, got 5"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_field_rule_and_value(make: object, part: str) -> None:
    assert callable(make)
    with pytest.raises(UserError) as caught:
        make()
    assert part in str(caught.value)


def test_random_search_draws_each_feasible_architecture_about_equally_often() -> None:
    problem = SearchProblem(
        space=SPACE,
        objectives=PROBLEM.objectives,
        screen=lambda rows: Screening(feasible=(rows[:, 2:] == 0).all(axis=1), buildable=rows[:, 0] >= 0),
    )
    drawn = [RandomSearch().propose(problem, History(), NONE, 1, np.random.default_rng(s))[0] for s in range(400)]
    counts = np.bincount([int(row[0]) * 2 + int(row[1]) for row in drawn], minlength=8)
    assert counts.sum() == 400
    assert counts.min() > 25


def test_evolution_steps_from_the_best_of_those_that_are_still_alive() -> None:
    rows = sample(SPACE, 12, np.random.default_rng(0))
    accuracies = [0.99] + [0.1] * 10 + [0.9]
    history = history_of(rows, accuracies, [1.0] * 12)
    strategy = RegularisedEvolution(population_size=5, tournament_size=5)
    children = [strategy.propose(PROBLEM, history, NONE, 1, np.random.default_rng(s))[0] for s in range(30)]
    distance_to_best_alive = np.mean([(child != rows[11]).sum() for child in children])
    distance_to_best_dead = np.mean([(child != rows[0]).sum() for child in children])
    assert distance_to_best_alive < 3 < distance_to_best_dead


def test_local_search_steps_to_neighbours_of_the_front_until_none_is_left() -> None:
    rows = sample(SPACE, 10, np.random.default_rng(0))
    history = history_of(rows, [0.9] + [0.1] * 9, [1.0] * 10)
    near = {row.tobytes() for row in neighbours(SPACE, rows[0])} - history.row_keys
    seen = set()
    strategy = ParetoLocalSearch(num_initial=10)
    for index in range(len(near)):
        (row,) = strategy.propose(PROBLEM, history, NONE, 1, np.random.default_rng(index))
        seen.add(row.tobytes())
        candidate = Candidate(
            index=10 + index, architecture=SPACE.architecture(row), fidelity=Fidelity(epochs=1), seed=0
        )
        history.append(Evaluation(candidate=candidate, status="complete", metrics={"accuracy": 0.05, "macs": 2.0}))
    assert seen == near
    (row,) = strategy.propose(PROBLEM, history, NONE, 1, np.random.default_rng(0))
    assert row.tobytes() not in near


def test_a_batch_of_local_steps_starts_from_several_members() -> None:
    rows = sample(SPACE, 10, np.random.default_rng(0))
    history = history_of(rows, [0.9, 0.5] + [0.1] * 8, [2.0, 1.0] + [3.0] * 8)
    batch = ParetoLocalSearch(num_initial=5, tournament_size=1).propose(
        PROBLEM, history, NONE, 8, np.random.default_rng(0)
    )
    origins = [int((rows[:2] != row).sum(axis=1).argmin()) for row in batch]
    assert set(origins) == {0, 1}


def test_a_generation_is_bred_from_the_best_of_the_generations_before_it_and_not_from_its_own() -> None:
    one = np.zeros((6, SPACE.num_choices), dtype=np.int16)
    one[:, 1] = [0, 0, 1, 1, 1, 1]
    one[:, 0] = [0, 1, 0, 1, 2, 3]
    other = np.full((3, SPACE.num_choices), 1, dtype=np.int16)
    other[:, 0] = [1, 2, 3]
    history = history_of(np.concatenate([one, other]), [0.5] * 6 + [0.99] * 3, [1.0] * 9)
    strategy = NSGA2(population_size=6, mutation_share=0.0)
    fresh = [strategy.propose(PROBLEM, history, NONE, 1, np.random.default_rng(s))[0] for s in range(20)]
    near_one = np.mean([(row[2:] == 0).mean() for row in fresh])
    assert near_one > 0.7


def test_a_rebuilt_study_breeds_and_does_not_start_again_at_random() -> None:
    """Optuna draws at random while it finds no generation; then a child has nothing to do with its parents."""
    rows = np.zeros((6, SPACE.num_choices), dtype=np.int16)
    rows[:, 0] = [0, 1, 2, 3, 0, 1]
    rows[4:, 1] = 1
    history = history_of(rows, [0.5] * 6, [1.0] * 6)
    children = [
        NSGA2(population_size=6).propose(PROBLEM, history, NONE, 1, np.random.default_rng(s))[0] for s in range(30)
    ]
    changed = np.mean([(child[2:] != 0).sum() for child in children])
    assert changed < 2.5  # of 8, of which 4 + 4 * 3 / 4 would differ at random: 5


def test_tpe_prefers_what_the_better_evaluations_share() -> None:
    rng = np.random.default_rng(0)
    rows = sample(SPACE, 120, rng)
    accuracies = (rows[:, 0] == 2) * 0.5 + (rows[:, 4] == 1) * 0.4 + rng.random(120) * 0.05
    history = history_of(rows, accuracies.tolist(), [1.0] * 120)
    proposals = np.concatenate([TPE().propose(PROBLEM, history, NONE, 1, np.random.default_rng(s)) for s in range(20)])
    assert (proposals[:, 0] == 2).mean() > 0.5  # one in four by chance
    assert (proposals[:, 4] == 1).mean() > 0.5


def test_tpe_keeps_the_best_and_the_latest_of_a_long_history() -> None:
    costs = np.arange(100.0)[:, None]
    costs[50] = np.nan
    judged = np.flatnonzero(~np.isnan(costs[:, 0]))
    kept = best_and_latest(costs, judged, 20, num_best=2)
    assert kept.tolist() == [0, 1, *range(82, 100)]
    np.testing.assert_array_equal(best_and_latest(costs, judged, 99, num_best=10), judged)


def test_ordered_choices_are_integers_to_optuna_and_others_categories() -> None:
    kinds = [type(distribution).__name__ for distribution in distributions_of(SPACE).values()]
    assert kinds == ["IntDistribution", "IntDistribution"] * 5
    kinds = [type(distribution).__name__ for distribution in distributions_of(CONDITIONAL).values()]
    assert kinds == ["CategoricalDistribution", "IntDistribution", "CategoricalDistribution"]


def test_trials_have_a_value_for_each_choice_and_come_back_canonical() -> None:
    rng = np.random.default_rng(0)
    rows = sample(CONDITIONAL, 20, rng)
    trials = make_trials(CONDITIONAL, rows, rng.random((20, 2)), rng)
    assert {len(trial.params) for trial in trials} == {3}
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert {trial.state for trial in make_trials(CONDITIONAL, rows, None, rng)} == {TrialState.RUNNING}
    study = make_study(optuna.samplers.TPESampler(seed=0, multivariate=True), num_objectives=2)
    study.add_trials(trials)
    assert len(study.trials) == 20
    assert is_canonical(CONDITIONAL, ask_rows(study, CONDITIONAL, 30, rng)).all()


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_optuna_says_nothing_and_its_log_level_stays_what_it_was(level: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(level)
    try:
        for strategy in (TPE(), NSGA2()):
            strategy.propose(PROBLEM, random_history(40), NONE, 2, np.random.default_rng(0))
        assert optuna.logging.get_verbosity() == level
    finally:
        optuna.logging.set_verbosity(before)
    assert capfd.readouterr() == ("", "")


def test_batches_are_drawn_only_while_rows_are_missing() -> None:
    drawn = []

    def batches() -> object:
        for seed in range(5):
            drawn.append(seed)
            yield sample(SPACE, 8, np.random.default_rng(seed))

    assert len(select_new(PROBLEM, History(), NONE, 3, batches())) == 3  # type: ignore[arg-type]
    assert drawn == [0]


def test_neighbours_of_several_rows_come_in_turns() -> None:
    rows = sample(SPACE, 3, np.random.default_rng(0))
    near = around(PROBLEM, rows, np.random.default_rng(1))
    assert [(near[k] != rows[k]).sum() for k in range(3)] == [1, 1, 1]
    assert len(near) == 3 * len(neighbours(SPACE, rows[0]))


def test_the_effort_over_the_whole_space_grows_and_ends() -> None:
    sizes = [len(batch) for batch in anywhere(PROBLEM, History(), 1, np.random.default_rng(0))]
    assert SPACE.size == 32768
    assert sizes == [16, 128, 1024, 32768]
