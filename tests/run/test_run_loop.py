from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from run_problem import FIDELITY, KEY, Judge, small_problem

from nas.errors import UserError
from nas.problem.evaluation import Candidate, Evaluation
from nas.problem.history import History, HistoryFile, read_history
from nas.run.loop import LoopOptions, LoopResult, Stopped, candidate_seed, search_loop
from nas.run.progress import Progress
from nas.run.runner import Work, Workers
from nas.run.serial import SerialRunner, SerialSession
from nas.strategy.problem import Population, SearchProblem, SearchStrategy
from nas.strategy.random_search import RandomSearch
from nas.strategy.regularised_evolution import RegularisedEvolution

TIMES = ("seconds", "finished", "worker")


@dataclass
class Kept:
    """A store in memory."""

    evaluations: list[Evaluation] = field(default_factory=list)

    def append(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)


def options(num_candidates: int, **others: object) -> LoopOptions:
    return LoopOptions(**{"num_candidates": num_candidates, "fidelity": FIDELITY, "seed": 3, **others})  # type: ignore[arg-type]


def run_serially(
    path: Path,
    num_candidates: int,
    *,
    strategy: SearchStrategy | None = None,
    work: Work | None = None,
    **others: object,
) -> LoopResult:
    history, _ = read_history(path)
    with SerialSession(work or Judge(fails=True)) as session:
        return search_loop(
            small_problem(), strategy or RandomSearch(), session, history, HistoryFile(path),
            options=options(num_candidates, **others),
        )  # fmt: skip


def untimed(path: Path) -> list[dict[str, object]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in TIMES} for record in records]


@pytest.mark.parametrize("strategy", [RandomSearch(), RegularisedEvolution()], ids=["random", "evolution"])
def test_two_serial_runs_with_one_seed_give_the_same_history_but_for_times(
    tmp_path: Path, strategy: SearchStrategy
) -> None:
    for name in ("a", "b"):
        run_serially(tmp_path / name, 20, strategy=strategy)
    run_serially(tmp_path / "c", 20, strategy=strategy, seed=4)
    assert untimed(tmp_path / "a") == untimed(tmp_path / "b")
    assert untimed(tmp_path / "a") != untimed(tmp_path / "c")


def test_a_serial_run_in_three_parts_gives_the_history_of_one_run(tmp_path: Path) -> None:
    run_serially(tmp_path / "whole", 20)
    for num_candidates in (3, 11, 20):
        run_serially(tmp_path / "parts", num_candidates)
    assert untimed(tmp_path / "parts") == untimed(tmp_path / "whole")


def test_failed_evaluations_count_and_are_recorded(tmp_path: Path) -> None:
    result = run_serially(tmp_path / "h", 20)
    history, _ = read_history(tmp_path / "h")
    num_failed = int(np.count_nonzero(~history.complete))
    assert 0 < num_failed < 20
    assert (result.reason, result.final.done, result.final.failed, result.final.running) == (
        "complete",
        20,
        num_failed,
        0,
    )


def test_candidates_carry_what_was_known_before_training(tmp_path: Path) -> None:
    run_serially(tmp_path / "h", 6)
    for evaluation in read_history(tmp_path / "h")[0]:
        candidate = evaluation.candidate
        expected = 0.1 + 0.1 * sum(candidate.architecture.row)
        assert candidate.predicted == {KEY: pytest.approx(expected)}
        assert candidate.upper == {KEY: pytest.approx(expected * 1.1)}
        assert candidate.seed == candidate_seed(3, candidate.index)


def test_a_resumed_run_numbers_on_behind_the_largest_index(tmp_path: Path) -> None:
    run_serially(tmp_path / "h", 5)
    lines = (tmp_path / "h").read_text().splitlines(keepends=True)
    (tmp_path / "h").write_text("".join(lines[:2] + lines[3:]))  # candidate 2 was running when the driver was killed
    run_serially(tmp_path / "h", 7)
    history, _ = read_history(tmp_path / "h")
    assert [evaluation.candidate.index for evaluation in history] == [0, 1, 3, 4, 5, 6, 7]


def test_a_run_that_is_long_enough_already_evaluates_nothing(tmp_path: Path) -> None:
    run_serially(tmp_path / "h", 5)
    before = (tmp_path / "h").read_bytes()
    result = run_serially(tmp_path / "h", 4)
    assert (result.reason, result.final.done) == ("complete", 5)
    assert (tmp_path / "h").read_bytes() == before


def test_a_space_with_nothing_left_ends_the_search(tmp_path: Path) -> None:
    result = run_serially(tmp_path / "h", 1000, work=Judge())
    # Of the 64 rows, those of total 8 and 9 are too slow: 3 + 1.
    assert (result.reason, result.final.done) == ("exhausted", 60)


def test_told_to_stop_it_begins_nothing_new(tmp_path: Path) -> None:
    answers = iter([False, False, True])
    result = run_serially(tmp_path / "h", 20, stop=lambda: next(answers))
    assert (result.reason, result.final.done) == ("stopped", 2)


class Pool(SerialSession):
    """Three slots; the candidate submitted last ends first. Notes how many are in flight at each wait."""

    num_slots = 3

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.busy: list[int] = []

    def wait(self, timeout: float | None = None) -> list[Evaluation]:
        self.busy.append(len(self.in_flight))
        self._queue.rotate(1)
        return super().wait(timeout)


@dataclass(frozen=True)
class Watched:
    """Random search that notes the sizes it was asked for and that were pending."""

    asked: list[tuple[int, int]] = field(default_factory=list)

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        self.asked.append((n, len(pending)))
        return RandomSearch().propose(problem, history, pending, n, rng)


def test_slots_are_kept_busy_and_the_strategy_knows_what_is_pending() -> None:
    strategy, history = Watched(), History()
    with Pool(Judge()) as session:
        search_loop(small_problem(), strategy, session, history, Kept(), options=options(8))
    assert session.busy == [3, 3, 3, 3, 3, 3, 2, 1]
    assert strategy.asked == [(3, 0)] + [(1, 2)] * 5
    assert sorted(evaluation.candidate.index for evaluation in history) == list(range(8))
    assert [evaluation.candidate.index for evaluation in history][:2] == [2, 3]


def test_an_evaluation_is_stored_before_anything_else_sees_it() -> None:
    history, seen = History(), []

    class Store:
        def append(self, evaluation: Evaluation) -> None:
            assert len(history) == evaluation.candidate.index
            seen.append(("stored", evaluation.candidate.index))

    def tell(progress: Progress) -> None:
        if progress.latest is not None:
            seen.append(("told", progress.latest.candidate.index))

    with SerialSession(Judge()) as session:
        search_loop(small_problem(), RandomSearch(), session, history, Store(), options=options(2, progress=tell))
    assert seen == [("stored", 0), ("told", 0), ("stored", 1), ("told", 1)]


def test_an_interrupt_leaves_everything_recorded_and_says_how_much(tmp_path: Path) -> None:
    class Interrupted(Judge):
        def __call__(self, candidate: Candidate) -> Evaluation:
            if candidate.index == 4:
                raise KeyboardInterrupt
            return super().__call__(candidate)

    with pytest.raises(Stopped, match=r"^stopped: 4 of 9 candidates are recorded$") as caught:
        run_serially(tmp_path / "h", 9, work=Interrupted())
    assert (caught.value.recorded, caught.value.total) == (4, 9)
    assert len(read_history(tmp_path / "h")[0]) == 4


def test_progress_counts_up_and_its_hypervolume_never_falls(tmp_path: Path) -> None:
    moments: list[Progress] = []
    run_serially(tmp_path / "h", 15, progress=moments.append, reference={KEY: 1.0})
    assert [moment.done for moment in moments] == list(range(16))
    assert [moment.running for moment in moments] == [1] * 15 + [0]
    assert moments[0].latest is None
    assert math.isnan(moments[0].seconds_left)
    assert moments[-1].seconds_left == 0
    volumes = [moment.hypervolume for moment in moments]
    assert volumes == sorted(volumes)
    assert volumes[0] == 0 < volumes[-1] < 1
    history, _ = read_history(tmp_path / "h")
    assert moments[-1].best == {
        "accuracy": np.nanmax(history.metric("accuracy")),
        KEY: np.nanmin(history.figure(KEY)),
    }


@pytest.mark.parametrize(
    "error", ["ModuleNotFoundError: No module named 'mine'", "UserError: network[1]: 'mine' cannot be imported: "
              "ModuleNotFoundError: No module named 'mine'; install it"],
)  # fmt: skip
def test_a_search_whose_first_candidates_fail_with_one_import_error_ends(tmp_path: Path, error: str) -> None:
    def fail(candidate: Candidate) -> Evaluation:
        return Evaluation(candidate=candidate, status="failed", error=error)

    with pytest.raises(UserError, match="no worker can import what the candidates need: ModuleNotFoundError: No mod"):
        run_serially(tmp_path / "h", 9, work=fail)
    assert len(read_history(tmp_path / "h")[0]) == 3


def test_a_search_goes_on_if_only_some_candidates_cannot_import(tmp_path: Path) -> None:
    def fail_sometimes(candidate: Candidate) -> Evaluation:
        if candidate.index != 2:
            raise ImportError("No module named 'mine'")
        return Judge()(candidate)

    assert run_serially(tmp_path / "h", 9, work=fail_sometimes).final.failed == 8


def test_on_ray_a_module_that_only_the_driver_has_ends_the_search(
    local_ray: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here_work.py").write_text("class Work:\n    def __call__(self, candidate): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here_work  # type: ignore[import-not-found]

    history = History()
    with (
        local_ray.open(only_here_work.Work()) as session,
        pytest.raises(UserError, match="No module named 'only_here_work'; install it where the workers run"),
    ):
        search_loop(small_problem(), RandomSearch(), session, history, Kept(), options=options(9))
    assert 3 <= len(history) <= 4


def test_on_ray_a_search_records_each_candidate_once(local_ray: Workers, tmp_path: Path) -> None:
    history = History()
    with local_ray.open(Judge(fails=True)) as session:
        result = search_loop(
            small_problem(), RandomSearch(), session, history, HistoryFile(tmp_path / "h"), options=options(30)
        )
    assert (result.reason, len(history)) == ("complete", 30)
    assert sorted(evaluation.candidate.index for evaluation in history) == list(range(30))
    assert len({evaluation.candidate.architecture.row for evaluation in history}) == 30
    assert list(read_history(tmp_path / "h")[0]) == list(history)


def test_the_overhead_of_the_loop_on_ray_is_small(local_ray: Workers, tmp_path: Path) -> None:
    with local_ray.open(Judge()) as session:
        result = search_loop(
            small_problem(5), RandomSearch(), session, History(), HistoryFile(tmp_path / "h"), options=options(150)
        )
    # 20 ms a candidate on a quiet machine (experiments/loop_overhead); this one may be busy, and starts its workers.
    assert result.final.seconds < 150 * 0.1


def test_candidate_seeds_differ_and_depend_on_both_seed_and_index() -> None:
    seeds = {candidate_seed(seed, index) for seed in range(20) for index in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_the_serial_runner_opens_sessions_for_the_loop() -> None:
    history, store = History(), Kept()
    with SerialRunner().start(workers=1) as workers, workers.open(Judge()) as session:
        search_loop(small_problem(), RandomSearch(), session, history, store, options=options(1))
    assert [evaluation.status for evaluation in history] == ["complete"]
    assert store.evaluations == list(history)
