"""Ladders, stops and warm starts as a user asks for them: settings, forecast, search, who is trained in full."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from nas.commands.explore import Exploration, explore
from nas.commands.finish import finalists, spread_front, spread_rungs
from nas.commands.plan import make_plan
from nas.commands.screen import search_screen
from nas.commands.settings import RunOptions, SearchSettings
from nas.commands.setup import Setup, prepare
from nas.commands.warm_start import check_warm_start, earlier_histories
from nas.errors import UserError
from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.front import cost_matrix
from nas.problem.goals import objectives_from
from nas.problem.history import History, HistoryFile, read_history
from nas.run.folder import RunFolder
from nas.run.identity import space_record
from nas.run.serial import SerialSession
from nas.space.architecture import Architecture
from nas.space.moves import sample
from nas.space.space import SearchSpace
from nas.strategy.earlier import OWN, PROBATION, SEEDS, WarmStarted, is_worth, warm_started
from nas.strategy.fidelities import fitted_to
from nas.strategy.problem import Population, Screening, SearchProblem, SearchStrategy
from nas.strategy.random_search import RandomSearch
from nas.strategy.surrogate.strategy import Surrogate
from nas.train.data.digits import Digits
from nas.train.evaluate import TrainingEvaluate
from nas.train.recipe import Recipe

TEMPLATE = {
    "name": "small",
    "network": [
        {"op": "conv", "channels": {"choose": [4, 8, 12, 16], "name": "one"}, "kernel": 3, "stride": 2},
        {"op": "conv", "channels": {"choose": [4, 8, 12, 16], "name": "two"}, "kernel": {"choose": [1, 3]}},
        {"op": "conv", "channels": {"choose": [4, 8, 12, 16], "name": "three"}, "kernel": 1},
        {"op": "classifier"},
    ],
}
SPACE = SearchSpace.from_template(TEMPLATE)
LOW, HIGH = Fidelity(epochs=2), Fidelity(epochs=6)


@dataclass
class Noting:
    """A display that keeps what it is told."""

    said: list[tuple[str, str]] = field(default_factory=list)

    def say(self, topic: str, text: str) -> None:
        self.said.append((topic, text))

    def progress(self, topic: str, done: int, total: int, *, text: str = "", each: bool = False) -> None:
        if each:
            self.said.append((topic, text))

    def note(self, text: str) -> None:
        self.said.append(("note", text))

    def result(self, text: str, figures: object) -> None: ...


def set_up(**run: object) -> Setup:
    settings = SearchSettings(
        space=SPACE,
        data=Digits(limit=300),
        objectives=("accuracy", "macs"),
        run=RunOptions(**run),  # type: ignore[arg-type]
    )
    return prepare(settings, Noting())  # type: ignore[arg-type]


# Settings ------------------------------------------------------------------------------------------------------------


def test_a_number_of_epochs_is_one_rung_and_a_list_is_a_ladder() -> None:
    assert RunOptions().rungs == (Fidelity(epochs=6),)
    assert RunOptions(epochs=[2, 6]).rungs == (LOW, HIGH)
    run = RunOptions(epochs=(2, 2, 6), resolution=(0.5, 1, 1), data_share=(0.5, 0.5, 1))
    assert run.rungs == (Fidelity(epochs=2, resolution=0.5, data_share=0.5), Fidelity(epochs=2, data_share=0.5), HIGH)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"epochs": 0}, "run.epochs: must be a whole number of at least 1, got 0"),
        ({"epochs": []}, "run.epochs: must hold at least one number of epochs, got []"),
        ({"epochs": [2, "6"]}, "run.epochs: must be a whole number of at least 1, got '6'"),
        ({"epochs": "2,6"}, "run.epochs: must be a whole number of at least 1, got '2,6'"),
        ({"epochs": [6, 2]}, "run.epochs: must go from cheap to dear, got [6, 2]; a rung costs"),
        ({"epochs": [2, 2]}, "run.epochs: must go from cheap to dear"),
        ({"epochs": [2, 6], "resolution": [0.5]}, "run.resolution: must be null or a list with one number for each"),
        ({"epochs": 2, "data_share": [0.5]}, "run.data_share: must be null or a list with one number for each"),
        ({"epochs": [2, 6], "data_share": [0.5, 2]}, "run.data_share: must hold numbers above 0 and at most 1, got 2"),
        ({"epochs": [2, 6], "resolution": 0.5}, "run.resolution: must be null or a list"),
        ({"eta": 1}, "run.eta: must be a whole number of at least 2, got 1"),
        ({"stop_hopeless": 1.5}, "run.stop_hopeless: must be a number between 0 and 1 or null, got 1.5"),
        ({"stop_hopeless": True}, "run.stop_hopeless: must be a number between 0 and 1 or null, got True"),
        ({"warm_start": [3]}, "run.warm_start: must name run folders, got 3"),
        ({"warm_start": 3}, "run.warm_start: must name run folders, got 3"),
    ],
)
def test_what_makes_no_ladder_is_refused_in_one_line(given: dict[str, object], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        RunOptions(**given)  # type: ignore[arg-type]
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


# The search ----------------------------------------------------------------------------------------------------------


def searched(setup: Setup, path: Path, *, strategy: SearchStrategy | None = None, candidates: int = 9) -> History:
    evaluate = TrainingEvaluate(space=setup.space, task=setup.task, recipe=Recipe())
    screen = search_screen(setup, ())
    plan = make_plan(setup, screen, evaluate, Noting(), workers=1)  # type: ignore[arg-type]
    problem = SearchProblem(space=setup.space, objectives=setup.objectives, screen=screen)
    what = Exploration(topic="search", strategy=strategy or RandomSearch(), file=path, candidates=candidates, seed=0)
    with SerialSession(evaluate) as session:
        return explore(setup, problem, session, plan, what, Noting())  # type: ignore[arg-type]


def test_a_search_on_a_ladder_promotes_on_real_data_and_trains_the_dearest_in_full_first(tmp_path: Path) -> None:
    setup = set_up(epochs=[1, 2], candidates=9, front=4, final_epochs=5, stop_hopeless=0.2)
    history = searched(setup, tmp_path / "history.jsonl")
    promoted = {e.candidate.architecture.digest for e in history if e.candidate.fidelity.epochs == 2}
    assert len(history.digests) == 9
    assert 3 <= len(promoted) <= 6
    assert list(read_history(tmp_path / "history.jsonl")[0]) == list(history)
    chosen = finalists(setup, history, dict.fromkeys(history.digests, True))
    assert len({candidate.architecture.digest for candidate in chosen}) == 4
    assert chosen[0].architecture.digest in promoted
    assert {(candidate.fidelity.epochs, candidate.stop_below) for candidate in chosen} == {(5, ())}


def test_the_plan_counts_the_epochs_of_every_rung() -> None:
    setup = set_up(epochs=[1, 2, 4], candidates=9, final_epochs=5)
    display = Noting()
    evaluate = TrainingEvaluate(space=setup.space, task=setup.task, recipe=Recipe())
    make_plan(setup, search_screen(setup, ()), evaluate, display, workers=1)  # type: ignore[arg-type]
    (text,) = [text for topic, text in display.said if topic == "plan"]
    assert text.startswith("9 candidates x 1 epoch, 3 x 2, 1 x 4, then up to 8 x 5 in full, 1 worker: about ")


# Who is trained in full ----------------------------------------------------------------------------------------------

OBJECTIVES = objectives_from(["accuracy", "macs"], device="d")


def judged(number: int, accuracy: float, macs: float, fidelity: Fidelity = LOW) -> Evaluation:
    candidate = Candidate(
        index=number,
        architecture=Architecture(row=(number,), choices={}, digest=f"{number:04x}"),
        fidelity=fidelity,
        seed=0,
        predicted={"macs": macs},
    )
    return Evaluation(candidate=candidate, status="complete", metrics={"accuracy": accuracy})


def order(*evaluations: Evaluation, size: int) -> list[tuple[int, int]]:
    history = History(evaluations)
    chosen = spread_rungs(history, cost_matrix(history, OBJECTIVES), size, num_images=10**6)
    return [(history[k].candidate.architecture.row[0], history[k].candidate.fidelity.epochs) for k in chosen]


def test_what_was_judged_at_a_lower_fidelity_never_dominates_what_was_judged_at_a_higher_one() -> None:
    # 1 seems better than 0 by the noise of a short training; only 0 was judged thoroughly.
    found = order(judged(0, 0.6, 5.0), judged(1, 0.99, 5.0), judged(0, 0.9, 5.0, HIGH), size=2)
    assert found == [(0, 6), (1, 2)]


def test_what_was_promoted_dominates_what_it_beat_before() -> None:
    # 0 is worse than 1 after 2 epochs of training as after 6; 2 is cheap and on the front of the lower rung.
    found = order(judged(0, 0.6, 5.0), judged(1, 0.7, 5.0), judged(2, 0.5, 1.0), judged(1, 0.9, 5.0, HIGH), size=3)
    assert found == [(1, 6), (2, 2), (0, 2)]


def test_with_one_fidelity_the_order_is_that_of_the_front() -> None:
    rng = np.random.default_rng(0)
    history = History(judged(k, *point) for k, point in enumerate(rng.uniform(0.1, 1, (12, 2))))
    costs = cost_matrix(history, OBJECTIVES)
    best = float(history.metric("accuracy").max())
    share = (best * 100 + 1) / 102
    tolerance = math.sqrt(share * (1 - share) / 100)
    for size in (1, 4, 12, 20):
        assert (
            spread_rungs(history, costs, size, num_images=100)
            == spread_front(costs, size, tolerance=tolerance).tolist()
        )


# Warm start ----------------------------------------------------------------------------------------------------------


def screen(population: Population) -> Screening:
    macs = 1.0 + population.sum(axis=1).astype(np.float64)
    return Screening(feasible=macs <= 12, buildable=np.ones(len(macs), dtype=bool), predicted={"macs": macs})


PROBLEM = SearchProblem(space=SPACE, objectives=OBJECTIVES, screen=screen)


def accuracy(row: Population) -> float:
    return 0.5 + 0.03 * float(row.sum()) + 0.02 * float(row[0])


def told(rows: Population, judge: Callable[[Population], float] = accuracy) -> History:
    history = History()
    for index, row in enumerate(rows):
        candidate = Candidate(
            index=index,
            architecture=SPACE.architecture(row),
            fidelity=HIGH,
            seed=index,
            predicted={"latency_ms.old": 1.0},
        )
        history.append(Evaluation(candidate=candidate, status="complete", metrics={"accuracy": judge(row)}))
    return history


def some_rows(n: int, seed: int = 0) -> Population:
    return np.unique(sample(SPACE, 4 * n, np.random.default_rng(seed)), axis=0)[:n]


NONE = np.zeros((0, SPACE.num_choices), dtype=np.int16)


def test_any_strategy_begins_with_the_old_front_under_the_costs_and_budgets_of_now() -> None:
    old = told(some_rows(30))
    strategy = fitted_to(RandomSearch(), PROBLEM, (LOW,), earlier=[old])
    assert isinstance(strategy, WarmStarted)
    first = strategy.propose(PROBLEM, History(), NONE, OWN + 3, np.random.default_rng(0))
    assert screen(first).feasible.all()
    assert (first[OWN:] == strategy.seeds[:3]).all()
    assert (first[:OWN] == RandomSearch().propose(PROBLEM, History(), NONE, OWN, np.random.default_rng(0))).all()
    assert {row.tobytes() for row in strategy.seeds} <= old.row_keys
    best = max(accuracy(row) for row in old.rows[screen(np.asarray(old.rows)).feasible])
    assert max(accuracy(row) for row in strategy.seeds) == best
    rows = strategy.propose(PROBLEM, History(), NONE, 20, np.random.default_rng(0))
    assert len(rows) == len({row.tobytes() for row in rows}) == 20
    assert len(strategy.seeds) <= SEEDS
    later = strategy.propose(PROBLEM, told(rows[:OWN]), rows[OWN : OWN + 1], 1, np.random.default_rng(0))
    assert (later == strategy.seeds[1:2]).all()


def test_after_its_seeds_a_strategy_is_asked_as_if_there_had_been_nothing_else() -> None:
    strategy = warm_started(RandomSearch(), PROBLEM, [told(some_rows(30))], fidelity=LOW, teaches=False)
    assert isinstance(strategy, WarmStarted)
    history = told(strategy.seeds)
    found = strategy.propose(PROBLEM, history, NONE, 5, np.random.default_rng(7))
    assert (found == RandomSearch().propose(PROBLEM, history, NONE, 5, np.random.default_rng(7))).all()


def test_an_earlier_search_of_which_nothing_keeps_the_budgets_changes_nothing() -> None:
    large = np.array([[3, 3, 1, 3]], dtype=np.int16)[:, : SPACE.num_choices]
    tight = replace(PROBLEM, screen=lambda rows: replace(screen(rows), feasible=screen(rows).predicted["macs"] <= 2))
    strategy = RandomSearch()
    assert warm_started(strategy, tight, [told(large)], fidelity=LOW, teaches=False) is strategy


def test_the_surrogate_learns_from_earlier_evaluations_as_from_cheaper_ones_and_may_try_them_again() -> None:
    old = told(some_rows(30))
    strategy = warm_started(Surrogate(), PROBLEM, [old], fidelity=LOW, teaches=True)
    assert isinstance(strategy, WarmStarted)
    (lesson,) = strategy.lessons
    assert all(evaluation.candidate.fidelity.cost < LOW.cost for evaluation in lesson)
    assert all(evaluation.candidate.predicted.keys() == {"macs"} for evaluation in lesson)
    history = told(strategy.seeds)
    found = strategy.propose(PROBLEM, history, NONE, 80, np.random.default_rng(0))
    assert len(found) == 80
    assert not {row.tobytes() for row in found} & history.row_keys
    assert {row.tobytes() for row in found} & old.row_keys


def test_an_earlier_ladder_teaches_a_lesson_a_rung_and_the_dearest_is_the_nearest() -> None:
    rows = some_rows(9)
    old = told(rows)
    for evaluation in list(old)[:3]:
        dearer = replace(evaluation.candidate, fidelity=Fidelity(epochs=18))
        old.append(replace(evaluation, candidate=dearer, metrics={"accuracy": 0.99}))
    old.append(replace(old[0], status="failed", metrics={}))
    strategy = warm_started(Surrogate(), PROBLEM, [old], fidelity=LOW, teaches=True)
    assert isinstance(strategy, WarmStarted)
    assert [len(lesson) for lesson in strategy.lessons] == [3, 9]
    first, second = (lesson[0].candidate.fidelity.cost for lesson in strategy.lessons)
    assert second < first < LOW.cost
    assert {row.tobytes() for row in strategy.seeds} & {row.tobytes() for row in rows[:3]}


def test_an_earlier_search_teaches_on_probation_and_then_only_if_it_predicts() -> None:
    rng = np.random.default_rng(0)
    rows = some_rows(40)
    alike, shuffled = told(rows), told(rows, lambda _: float(rng.uniform()))
    own = list(told(some_rows(2 * PROBATION, seed=5)))
    assert is_worth(shuffled, History(own[: PROBATION - 1]))
    assert is_worth(alike, History(own))
    assert not is_worth(shuffled, History(own))
    assert not is_worth(told(rows, lambda row: -accuracy(row)), History(own))
    assert not is_worth(told(rows, lambda _: 0.5), History(own))


def old_run(path: Path, space: SearchSpace, history: History) -> Path:
    folder = RunFolder.create(path, {"space": space_record(space), "data": {}})
    store = HistoryFile(folder.history_file)
    for evaluation in history:
        store.append(evaluation)
    return path


def test_a_search_begins_with_the_runs_it_is_told_of_and_leaves_them_as_they_are(tmp_path: Path) -> None:
    run = old_run(tmp_path / "old", SPACE, told(some_rows(12)))
    with (run / "history.jsonl").open("a") as file:
        file.write('{"index": 99, "tor')  # another search is writing there
    before = (run / "history.jsonl").read_bytes()
    setup = set_up(epochs=1, candidates=3, warm_start=str(run))
    display = Noting()
    check_warm_start(setup, display)  # type: ignore[arg-type]
    assert display.said == [("warm", f"{run}  12 results of 12 candidates of an earlier search")]
    (old,) = earlier_histories(setup)
    history = searched(setup, tmp_path / "history.jsonl", candidates=OWN + 2)
    assert {row.tobytes() for row in history.rows[OWN:]} <= old.row_keys
    assert (run / "history.jsonl").read_bytes() == before


def test_runs_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path) -> None:
    other = SearchSpace.from_template({**TEMPLATE, "name": "other", "network": TEMPLATE["network"][1:]})
    empty = old_run(tmp_path / "empty", SPACE, History())
    foreign = old_run(tmp_path / "foreign", other, History())
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "manifest.json").write_text(json.dumps({"format": 0}))
    resumed = old_run(tmp_path / "resumed", SPACE, told(some_rows(3)))
    for given, expected in (
        ({"warm_start": str(tmp_path / "nowhere")}, "run.warm_start: must be a run folder, but there is no "),
        ({"warm_start": [str(foreign)]}, f"run.warm_start: must be a run in the space small (digest {SPACE.digest})"),
        ({"warm_start": str(empty)}, "run.warm_start: must be a run with results, but none of "),
        ({"warm_start": str(tmp_path / "older")}, "run.warm_start: must be of format 1, got 0"),
        ({"warm_start": str(resumed), "resume": str(resumed)}, "run.warm_start: must name other runs than the one"),
    ):
        with pytest.raises(UserError) as caught:
            check_warm_start(set_up(**given), Noting())  # type: ignore[arg-type]
        assert str(caught.value).startswith(expected)
        assert "\n" not in str(caught.value)
