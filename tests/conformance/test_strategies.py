"""What every strategy must do, whatever it is: a new one is added to `STRATEGIES` and passes without a special case."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest
import yaml
from numpy.typing import NDArray

from nas.problem.evaluation import Candidate, Evaluation, Fidelity, Status
from nas.problem.front import cost_matrix, hypervolume
from nas.problem.goals import objectives_from
from nas.problem.history import History
from nas.space.architecture import Architecture
from nas.space.load import load_space
from nas.space.moves import enumerate_rows, is_canonical, sample
from nas.space.space import SearchSpace
from nas.strategy.cost_fronts import CostFronts
from nas.strategy.fidelities import AllFidelities, OneRung
from nas.strategy.nsga2 import NSGA2
from nas.strategy.nsga3 import NSGA3
from nas.strategy.optuna_gp import OptunaGP
from nas.strategy.pareto_local_search import ParetoLocalSearch
from nas.strategy.problem import Population, Screening, SearchProblem, SearchStrategy
from nas.strategy.random_search import RandomSearch
from nas.strategy.regularised_evolution import RegularisedEvolution
from nas.strategy.surrogate.strategy import Surrogate
from nas.strategy.tpe import TPE

ROOT = Path(__file__).resolve().parents[2]
STRATEGIES: dict[str, SearchStrategy] = {
    "random": RandomSearch(),
    "regularised-evolution": RegularisedEvolution(population_size=10, tournament_size=3),
    "pareto-local-search": ParetoLocalSearch(num_initial=10),
    "nsga2": NSGA2(population_size=8),
    "nsga3": NSGA3(population_size=8),
    "tpe": TPE(num_initial=5),
    "cost-fronts": CostFronts(),
    "optuna-gp": OptunaGP(num_initial=5, max_trials=20),
    "surrogate": Surrogate(),
}
# Views of a history with several fidelities are strategies, too; around quick ones, as what is inside does not matter.
VIEWS: dict[str, SearchStrategy] = {
    "nsga2 on one rung": OneRung(strategy=NSGA2(population_size=8), fidelity=Fidelity(epochs=1)),
    "evolution on all fidelities": AllFidelities(strategy=RegularisedEvolution(population_size=10, tournament_size=3)),
}
LEARN_NOTHING = ("random", "cost-fronts")
SLOW = ("optuna-gp",)  # seconds a proposal: how well it does is compared in experiments/tabular_search
# CPU seconds a proposal after ten thousand evaluations: a model takes longer than a rule.
SECONDS: dict[str, float] = {"tpe": 0.3, "surrogate": 0.5, "cost-fronts": 0.2}
OBJECTIVES = {1: ["accuracy"], 2: ["accuracy", "macs"], 3: ["accuracy", "macs", "parameters"]}
TINY = {"name": "tiny", "network": [{"op": "conv", "channels": {"choose": [8, 16]}, "kernel": {"choose": [1, 3]}}]}
LONE = {"name": "lone", "network": [{"op": "conv", "channels": 8, "kernel": 3}]}
CHANNELS = {"choose": [8, 16, 24, 32, 40]}
PLAIN = {"name": "plain", "network": [{"name": f"l{k}", "op": "conv", "channels": CHANNELS} for k in range(8)]}
CONDITIONAL = {
    "name": "conditional",
    "input": {"resolution": {"choose": [0.5, 1.0]}},
    "network": [
        {
            "repeat": {
                "name": "stage",
                "times": {"choose": [1, 2, 3], "name": "depth"},
                "block": {"op": "inverted_residual", "kernel": {"choose": [3, 5]}, "expansion": {"choose": [1, 2, 4]}},
                "first": {"channels": {"choose": [8, 16]}},
            }
        },
        {
            "choose": ["identity", {"op": "conv", "channels": {"choose": [8, 16]}, "kernel": 3}],
            "name": "head",
        },
        {"op": "classifier"},
    ],
}
SPACES: dict[str, Callable[[], SearchSpace]] = {
    "tiny": lambda: SearchSpace.from_template(TINY),
    "plain": lambda: SearchSpace.from_template(PLAIN),
    "conditional": lambda: SearchSpace.from_template(CONDITIONAL),
    "nasbench201": lambda: load_space(ROOT / "search_spaces" / "nasbench201.yaml"),
}
NONE: Population = np.zeros((0, 0), dtype=np.int16)

needs_minutes = pytest.mark.skipif("NAS_SLOW_TESTS" not in os.environ, reason="takes minutes; set NAS_SLOW_TESTS=1")
every_strategy = pytest.mark.parametrize(
    "strategy",
    [
        pytest.param(strategy, id=name, marks=[needs_minutes] if name in SLOW else [])
        for name, strategy in {**STRATEGIES, **VIEWS}.items()
    ],
)


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return SPACES[request.param]()


@pytest.fixture(scope="module")
def long_history() -> tuple[SearchProblem, History]:
    space = SPACES["plain"]()
    history = History()
    for index, row in enumerate(enumerate_rows(space, limit=1_000_000)[::39]):
        architecture = Architecture(row=tuple(row.tolist()), choices={}, digest=f"{index:016x}")
        candidate = Candidate(index=index, architecture=architecture, fidelity=Fidelity(epochs=1), seed=0)
        history.append(Evaluation(candidate=candidate, status="complete", metrics=figures(row)))
    assert len(history) > 10_000
    return problem_of(space), history


@dataclasses.dataclass
class CountingScreen:
    """Feasible where ``rule`` says so; counts its calls and the rows it saw."""

    rule: Callable[[Population], NDArray[np.bool_]]
    calls: int = 0
    rows: int = 0

    def __call__(self, population: Population) -> Screening:
        self.calls += 1
        self.rows += len(population)
        feasible = np.asarray(self.rule(population), dtype=np.bool_)
        return Screening(feasible=feasible, buildable=np.ones(len(population), dtype=np.bool_))


def everything(population: Population) -> NDArray[np.bool_]:
    return np.ones(len(population), dtype=np.bool_)


def hashed(population: Population, *, keep: int, out_of: int) -> NDArray[np.bool_]:
    """True for about ``keep`` of ``out_of`` rows, without any order to them."""
    mixed = np.full(len(population), 12345, dtype=np.int64)
    for column in population.T.astype(np.int64):
        mixed = (mixed * 1103515245 + column * 7919 + 12345) % 2147483648
    return (mixed // 65536) % out_of < keep


def problem_of(
    space: SearchSpace, rule: Callable[[Population], NDArray[np.bool_]] = everything, num_objectives: int = 2
) -> SearchProblem:
    objectives = objectives_from(OBJECTIVES[num_objectives], device="d")
    return SearchProblem(space=space, objectives=objectives, screen=CountingScreen(rule))


def figures(row: Population) -> dict[str, float]:
    """An easy trade-off: higher options cost more and are more accurate, with less and less gain."""
    options = np.maximum(row, 0).astype(np.float64)
    return {
        "accuracy": float(np.sqrt(options + 0.1).sum() / (3 * max(1, len(row)))),
        "macs": float(options.sum()),
        "parameters": float(options[::2].sum()),
    }


def evaluation(
    space: SearchSpace, index: int, row: Population, status: Status = "complete", **changed: float
) -> Evaluation:
    known = figures(row)
    candidate = Candidate(
        index=index,
        architecture=space.architecture(row),
        fidelity=Fidelity(epochs=1),
        seed=0,
        predicted={key: known[key] for key in ("macs", "parameters")},
    )
    metrics = {"accuracy": known["accuracy"], **changed} if status == "complete" else {}
    return Evaluation(candidate=candidate, status=status, metrics=metrics)


def history_of(space: SearchSpace, n: int, seed: int = 0) -> History:
    """At most ``n`` random architectures, all different, of which every fifth has no usable result."""
    history = History()
    for row in sample(space, 4 * n, np.random.default_rng(seed)):
        if len(history) == n:
            break
        if space.architecture(row).digest not in history.digests:
            index = len(history)
            kind = index % 15
            if kind == 4:
                history.append(evaluation(space, index, row, "failed"))
            elif kind == 9:
                history.append(evaluation(space, index, row, "timeout"))
            else:
                history.append(evaluation(space, index, row, **({"accuracy": math.nan} if kind == 14 else {})))
    return history


def search(strategy: SearchStrategy, problem: SearchProblem, num: int, *, seed: int = 0, batch: int = 1) -> History:
    history = History()
    while len(history) < num:
        rng = np.random.default_rng([seed, len(history)])
        rows = strategy.propose(problem, history, NONE, min(batch, num - len(history)), rng)
        if len(rows) == 0:
            break
        for row in rows:
            history.append(evaluation(problem.space, len(history), row))
    return history


def assert_valid(problem: SearchProblem, history: History, pending: Population, n: int, rows: Population) -> None:
    space = problem.space
    assert rows.dtype == np.int16
    assert rows.shape == (len(rows), space.num_choices)
    assert len(rows) <= n
    assert is_canonical(space, rows).all()
    assert problem.screen(rows).feasible.all()
    digests = [space.architecture(row).digest for row in rows]
    assert len(set(digests)) == len(digests)
    assert history.digests.isdisjoint(digests)
    assert {space.architecture(row).digest for row in pending}.isdisjoint(digests)


@every_strategy
@pytest.mark.parametrize("num_evaluated", [0, 3, 40])
@pytest.mark.parametrize("num_pending", [0, 3])
def test_proposals_are_canonical_feasible_distinct_and_new(
    strategy: SearchStrategy, space: SearchSpace, num_evaluated: int, num_pending: int
) -> None:
    history = history_of(space, num_evaluated)
    pending = sample(space, num_pending, np.random.default_rng(9))
    problem = problem_of(space)
    for n in (1, 5):
        rows = strategy.propose(problem, history, pending, n, np.random.default_rng(1))
        assert_valid(problem, history, pending, n, rows)
        assert space.size == 4 or len(rows) == n


@every_strategy
def test_equal_arguments_give_equal_proposals_and_nothing_is_kept_between_calls(
    strategy: SearchStrategy, space: SearchSpace
) -> None:
    history, problem = history_of(space, 40), problem_of(space)
    pending = sample(space, 2, np.random.default_rng(9))
    before = [dataclasses.asdict(item) for item in history]
    first = strategy.propose(problem, history, pending, 4, np.random.default_rng(1))
    strategy.propose(problem, history_of(space, 20, seed=5), pending, 4, np.random.default_rng(2))
    np.testing.assert_array_equal(first, strategy.propose(problem, history, pending, 4, np.random.default_rng(1)))
    assert [dataclasses.asdict(item) for item in history] == before


@every_strategy
def test_another_seed_proposes_something_else(strategy: SearchStrategy) -> None:
    problem = problem_of(SPACES["plain"]())
    history = history_of(problem.space, 40)
    answers = {strategy.propose(problem, history, NONE, 3, np.random.default_rng(s)).tobytes() for s in range(5)}
    assert len(answers) > 1


@every_strategy
def test_a_resumed_search_goes_on_as_if_it_had_not_stopped(strategy: SearchStrategy) -> None:
    problem = problem_of(SPACES["conditional"]())
    whole = search(strategy, problem, 24)
    again = History(list(whole)[:15])
    while len(again) < 24:
        (row,) = strategy.propose(problem, again, NONE, 1, np.random.default_rng([0, len(again)]))
        again.append(evaluation(problem.space, len(again), row))
    assert list(again) == list(whole)


@every_strategy
@pytest.mark.parametrize("kind", ["failed", "timeout", "infeasible", "nan", "inf", "no metric"])
def test_a_history_without_a_single_result_does_not_stop_it(strategy: SearchStrategy, kind: str) -> None:
    space = SPACES["plain"]()
    problem, history = problem_of(space), History()
    for row in sample(space, 30, np.random.default_rng(0)):
        if kind in ("nan", "inf"):
            item = evaluation(space, len(history), row, accuracy=float(kind))
        elif kind == "no metric":
            item = dataclasses.replace(evaluation(space, len(history), row), metrics={"loss": 1.0})
        else:
            item = evaluation(space, len(history), row, kind)  # type: ignore[arg-type]
        history.append(item)
    rows = strategy.propose(problem, history, NONE, 4, np.random.default_rng(1))
    assert len(rows) == 4
    assert_valid(problem, history, NONE, 4, rows)


@every_strategy
def test_equal_results_everywhere_do_not_stop_it(strategy: SearchStrategy) -> None:
    space = SPACES["plain"]()
    problem, history = problem_of(space), History()
    for row in sample(space, 30, np.random.default_rng(0)):
        history.append(evaluation(space, len(history), row, accuracy=0.5, macs=1.0))
    assert len(strategy.propose(problem, history, NONE, 4, np.random.default_rng(1))) == 4


@every_strategy
def test_where_one_in_a_hundred_is_feasible_only_those_are_proposed(
    strategy: SearchStrategy, space: SearchSpace
) -> None:
    if space.size < 2000:
        pytest.skip("has too few architectures for one in a hundred")
    problem = problem_of(space, lambda population: hashed(population, keep=1, out_of=100))
    history = search(strategy, problem, 20, batch=2)
    assert len(history) == 20
    rows = strategy.propose(problem, history, NONE, 3, np.random.default_rng(1))
    assert len(rows) == 3
    assert_valid(problem, history, NONE, 3, rows)


@every_strategy
@pytest.mark.parametrize("num_evaluated", [0, 40])
def test_where_nothing_is_feasible_it_gives_up_with_nothing_after_bounded_effort(
    strategy: SearchStrategy, space: SearchSpace, num_evaluated: int
) -> None:
    problem = problem_of(space, lambda population: np.zeros(len(population), dtype=np.bool_))
    start = time.process_time()
    rows = strategy.propose(problem, history_of(space, num_evaluated), NONE, 4, np.random.default_rng(1))
    assert rows.shape == (0, space.num_choices)
    assert time.process_time() - start < (10.0 if isinstance(strategy, OptunaGP) else 2.0)
    screen = problem.screen
    assert isinstance(screen, CountingScreen)
    assert screen.calls <= 20
    assert screen.rows <= 200_000


@every_strategy
def test_asked_for_nothing_it_gives_nothing(strategy: SearchStrategy, space: SearchSpace) -> None:
    rows = strategy.propose(problem_of(space), history_of(space, 20), NONE, 0, np.random.default_rng(0))
    assert rows.shape == (0, space.num_choices)


@every_strategy
@pytest.mark.parametrize("name", ["tiny", "conditional"])
def test_a_small_space_is_searched_to_its_end_and_then_there_is_nothing(strategy: SearchStrategy, name: str) -> None:
    space = SPACES[name]()
    problem = problem_of(space, everything if name == "tiny" else lambda rows: (rows[:, 0] == 0) & (rows[:, 1] == 0))
    everyone = enumerate_rows(space, limit=10_000)
    everyone = everyone[problem.screen(everyone).feasible]
    digests = {space.architecture(row).digest for row in everyone}
    assert 4 <= len(digests) < 400
    history = search(strategy, problem, len(digests) + 1, batch=7)
    assert history.digests == digests
    assert len(history) == len(digests)


@every_strategy
def test_a_space_without_a_choice_is_searched_in_one_evaluation(strategy: SearchStrategy) -> None:
    problem = problem_of(SearchSpace.from_template(LONE))
    assert len(search(strategy, problem, 3)) == 1


@every_strategy
def test_more_than_a_space_holds_is_answered_with_all_of_it(strategy: SearchStrategy) -> None:
    assert len(strategy.propose(problem_of(SPACES["tiny"]()), History(), NONE, 100, np.random.default_rng(0))) == 4


@every_strategy
def test_what_is_pending_is_not_proposed_again(strategy: SearchStrategy) -> None:
    space = SPACES["tiny"]()
    pending = enumerate_rows(space, limit=4)[:3]
    (row,) = strategy.propose(problem_of(space), History(), pending, 4, np.random.default_rng(0))
    np.testing.assert_array_equal(row, enumerate_rows(space, limit=4)[3])


@every_strategy
def test_rows_that_build_one_network_are_one_architecture(strategy: SearchStrategy) -> None:
    space = SPACES["nasbench201"]()
    # Edges 0>1, 0>2, 1>2, 0>3, 1>3, 2>3: with node 3 fed by nothing but node 0, the others do not matter.
    problem = problem_of(space, lambda rows: (rows[:, 3] == 3) & (rows[:, 4] == 0) & (rows[:, 5] == 0))
    rows = strategy.propose(problem, History(), NONE, 5, np.random.default_rng(0))
    assert len(rows) == 1


@every_strategy
@pytest.mark.parametrize("num_objectives", OBJECTIVES)
def test_it_works_with_any_number_of_objectives(strategy: SearchStrategy, num_objectives: int) -> None:
    problem = problem_of(SPACES["conditional"](), num_objectives=num_objectives)
    history = search(strategy, problem, 30, batch=3)
    assert len(history) == 30
    assert not np.isnan(cost_matrix(history, problem.objectives)).any()


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in SLOW])
def test_a_proposal_stays_cheap_after_ten_thousand_evaluations(
    name: str, long_history: tuple[SearchProblem, History]
) -> None:
    problem, history = long_history
    strategy = STRATEGIES[name]
    strategy.propose(problem, history, NONE, 1, np.random.default_rng(0))
    start = time.process_time()
    for seed in range(5):
        assert len(strategy.propose(problem, history, NONE, 1, np.random.default_rng(seed))) == 1
    assert (time.process_time() - start) / 5 < SECONDS.get(name, 0.05)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in LEARN_NOTHING + SLOW])
def test_on_an_easy_problem_it_beats_random_search(name: str) -> None:
    problem = problem_of(SPACES["plain"](), num_objectives=1)

    def best(strategy: SearchStrategy) -> float:
        return float(np.mean([search(strategy, problem, 80, seed=s).metric("accuracy").max() for s in range(3)]))

    assert best(STRATEGIES[name]) > best(STRATEGIES["random"])


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_strategy_has_a_configuration_with_its_fields_and_defaults(name: str) -> None:
    config = yaml.safe_load((ROOT / "conf" / "strategy" / f"{name}.yaml").read_text())
    kind = type(STRATEGIES[name])
    assert config.pop("_target_") == f"{kind.__module__}.{kind.__qualname__}"
    assert config == dataclasses.asdict(kind())  # type: ignore[call-overload]


def measured_cells() -> dict[tuple[int, ...], tuple[float, float]]:
    """Operators of each cell of NAS-Bench-201 -> validation accuracy after 12 epochs, ms on a GPU."""
    folder = Path(os.environ.get("NAS_DATA", ROOT.parent / "shared" / "data")) / "nasbench201"
    if not (folder / "accuracy.parquet").exists() or not (folder / "latency_ms.parquet").exists():
        pytest.skip(f"needs the tables in {folder}")
    accuracy = pandas.read_parquet(folder / "accuracy.parquet").set_index("index")
    latency = pandas.read_parquet(folder / "latency_ms.parquet").set_index("index")["titan_rtx_1"]
    operators = accuracy[[f"op_{edge}" for edge in ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")]].to_numpy().tolist()
    judged = accuracy["cifar10_validation_accuracy_12_epochs"] / 100
    values = zip(judged.tolist(), latency.reindex(accuracy.index).tolist(), strict=True)
    return {tuple(cell): value for cell, value in zip(operators, values, strict=True)}


def test_on_measured_cells_every_strategy_beats_random_search_and_the_surrogate_beats_them_all() -> None:
    table = measured_cells()
    space = SPACES["nasbench201"]()
    points = np.array([[-accuracy, latency] for accuracy, latency in table.values()])
    low, high = points.min(axis=0), points.max(axis=0)

    milliseconds = np.zeros((5,) * 6)
    milliseconds[tuple(np.array(list(table)).T)] = points[:, 1]

    def screen(population: Population) -> Screening:
        latency = milliseconds[tuple(population.T)]
        good = np.ones(len(population), dtype=np.bool_)
        return Screening(feasible=good, buildable=good, predicted={"latency_ms.d": latency})

    objectives = objectives_from(["accuracy", "latency"], device="d")
    problem = SearchProblem(space=space, objectives=objectives, screen=screen)

    def volume(strategy: SearchStrategy, seed: int) -> float:
        history = History()
        for index in range(60):
            (row,) = strategy.propose(problem, history, NONE, 1, np.random.default_rng([seed, index]))
            accuracy, latency = table[tuple(row.tolist())]
            history.append(evaluation(space, index, row, **{"accuracy": accuracy, "latency_ms.d": latency}))
        return hypervolume((cost_matrix(history, problem.objectives) - low) / (high - low), [1.0, 1.0])

    compared = [name for name in STRATEGIES if name not in SLOW]
    means = {name: np.mean([volume(STRATEGIES[name], seed) for seed in range(2)]) for name in compared}
    ranking = sorted(means, key=lambda name: means[name])
    assert ranking[0] == "random"
    assert ranking[-1] == "surrogate"
