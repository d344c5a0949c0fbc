"""The search loop on a ladder of fidelities: promotions, counts, ends, resumes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from run_problem import FIDELITY, KEY, Judge, small_problem

from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.history import History, HistoryFile, read_history
from nas.problem.records import evaluation_to_record
from nas.run.loop import LoopOptions, LoopResult, search_loop
from nas.run.progress import Progress, Tally
from nas.run.runner import Work, Workers
from nas.run.serial import SerialSession
from nas.strategy.fidelities import fitted_to
from nas.strategy.halving import Halving, at_fidelity
from nas.strategy.problem import Population, SearchProblem
from nas.strategy.random_search import RandomSearch

TIMES = ("seconds", "finished", "worker")
LOW, MIDDLE, HIGH = Fidelity(epochs=1), Fidelity(epochs=3), Fidelity(epochs=9)
LADDER = Halving(rungs=(LOW, MIDDLE, HIGH), eta=3)


@dataclass(frozen=True)
class Trained(Judge):
    """Accuracy grows with the epochs, faster for larger indices."""

    def __call__(self, candidate: Candidate) -> Evaluation:
        found = super().__call__(candidate)
        accuracy = found.metrics["accuracy"] * (1 - 0.5 / candidate.fidelity.epochs)
        return replace(found, metrics={"accuracy": accuracy})


@dataclass(frozen=True)
class Nearest:
    """Rows in a random order, those most like the best so far first: it uses history, pending and randomness."""

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        seen = history.row_keys | {row.tobytes() for row in pending}
        rows = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int16)
        rows = rng.permutation(rows[problem.screen(rows).feasible])
        accuracy = history.metric("accuracy")
        if np.isfinite(accuracy).any():
            best = history.rows[int(np.nanargmax(accuracy))]
            rows = rows[np.argsort(np.abs(rows - best).sum(axis=1), kind="stable")]
        return np.array([row for row in rows if row.tobytes() not in seen][:n], dtype=np.int16).reshape(-1, 3)


def run(path: Path, num_candidates: int, *, work: Work | None = None, **others: object) -> LoopResult:
    history, _ = read_history(path)
    options = LoopOptions(
        **{"num_candidates": num_candidates, "fidelity": LOW, "seed": 3, "halving": LADDER, **others}  # type: ignore[arg-type]
    )
    with SerialSession(work or Trained()) as session:
        problem = small_problem()
        strategy = fitted_to(Nearest(), problem, options.halving.rungs if options.halving else (LOW,))
        return search_loop(problem, strategy, session, history, HistoryFile(path), options=options)


def untimed(path: Path) -> list[dict[str, object]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in TIMES} for record in records]


def test_with_one_fidelity_the_history_is_what_it_was_before_there_were_ladders(tmp_path: Path) -> None:
    history = History()
    problem = small_problem()
    with SerialSession(Judge(fails=True)) as session:
        options = LoopOptions(num_candidates=16, fidelity=FIDELITY, seed=3)
        search_loop(
            problem, fitted_to(Nearest(), problem, (FIDELITY,)), session, history, HistoryFile(tmp_path / "h"),
            options=options,
        )  # fmt: skip
    records = [evaluation_to_record(evaluation) for evaluation in history]
    later = {"curve", "stop_below"}
    assert all(record[key] == [] for record in records for key in later)
    kept = [{key: value for key, value in record.items() if key not in {*TIMES, *later}} for record in records]
    # Written down from the loop as it was before.
    assert (
        sha256(json.dumps(kept).encode()).hexdigest()
        == "a62622f8c327c9fab855beb734f5863772570c2b4cf53020e39c5fd2bdcfc3b3"
    )


def test_a_ladder_of_one_rung_is_no_ladder(tmp_path: Path) -> None:
    run(tmp_path / "one", 12, halving=Halving(rungs=(LOW,)))
    run(tmp_path / "none", 12, halving=None)
    assert untimed(tmp_path / "one") == untimed(tmp_path / "none")


def test_the_number_of_candidates_is_that_of_architectures_and_each_rung_gets_its_share(tmp_path: Path) -> None:
    result = run(tmp_path / "h", 27)
    history, _ = read_history(tmp_path / "h")
    counts = Counter(evaluation.candidate.fidelity for evaluation in history)
    assert (result.reason, result.final.done, len(history.digests)) == ("complete", 27, 27)
    # Promotions are made before all is known, so that some are made too early, and stay.
    assert 9 <= counts[MIDDLE] <= 18
    assert 3 <= counts[HIGH] <= counts[MIDDLE]
    assert result.final.promoted == counts[MIDDLE] + counts[HIGH]


def test_a_promotion_is_the_same_architecture_and_seed_with_another_index_and_its_known_costs(tmp_path: Path) -> None:
    run(tmp_path / "h", 9)
    history, _ = read_history(tmp_path / "h")
    first = {e.candidate.architecture.digest: e.candidate for e in history if e.candidate.fidelity == LOW}
    promoted = [e.candidate for e in history if e.candidate.fidelity != LOW]
    assert promoted
    assert [e.candidate.index for e in history] == list(range(len(history)))
    for candidate in promoted:
        origin = first[candidate.architecture.digest]
        assert (candidate.seed, candidate.predicted, candidate.upper) == (
            origin.seed, origin.predicted, origin.upper
        )  # fmt: skip


def test_a_promotion_comes_before_the_next_new_architecture(tmp_path: Path) -> None:
    run(tmp_path / "h", 6)
    epochs = [evaluation.candidate.fidelity.epochs for evaluation in read_history(tmp_path / "h")[0]]
    assert epochs[:4] == [1, 1, 1, 3]


def test_failed_ones_are_never_promoted(tmp_path: Path) -> None:
    run(tmp_path / "h", 24, work=Trained(fails=True))
    history, _ = read_history(tmp_path / "h")
    failed = {e.candidate.architecture.digest for e in history if e.status == "failed"}
    assert failed
    assert not failed & {e.candidate.architecture.digest for e in history if e.candidate.fidelity != LOW}


def test_a_ladder_in_three_parts_gives_the_history_of_one_run(tmp_path: Path) -> None:
    run(tmp_path / "whole", 20)
    stops = iter([False] * 5 + [True])
    run(tmp_path / "parts", 20, stop=lambda: next(stops))
    stops = iter([False] * 9 + [True])
    run(tmp_path / "parts", 20, stop=lambda: next(stops))
    assert 0 < len(read_history(tmp_path / "parts")[0]) < len(read_history(tmp_path / "whole")[0])
    run(tmp_path / "parts", 20)
    assert untimed(tmp_path / "parts") == untimed(tmp_path / "whole")


def test_a_run_of_one_fidelity_goes_on_as_a_ladder_and_keeps_what_it_knows(tmp_path: Path) -> None:
    run(tmp_path / "h", 9, halving=None)
    run(tmp_path / "h", 9)
    history, _ = read_history(tmp_path / "h")
    assert len(at_fidelity(history, LOW)) == 9
    assert len(at_fidelity(history, MIDDLE)) == 3


def test_what_no_longer_keeps_the_budgets_is_not_promoted_after_a_resume(tmp_path: Path) -> None:
    run(tmp_path / "h", 12, halving=None)
    history, _ = read_history(tmp_path / "h")
    problem = small_problem()
    tight = replace(
        problem,
        screen=lambda rows: replace(problem.screen(rows), feasible=problem.screen(rows).predicted[KEY] <= 0.4),
    )
    options = LoopOptions(num_candidates=12, fidelity=LOW, seed=3, halving=LADDER)
    with SerialSession(Trained()) as session:
        search_loop(tight, RandomSearch(), session, history, HistoryFile(tmp_path / "h"), options=options)
    promoted = [e for e in history if e.candidate.fidelity != LOW]
    assert all(e.candidate.predicted[KEY] <= 0.4 + 1e-9 for e in promoted)


def test_a_space_with_nothing_left_still_sees_its_promotions(tmp_path: Path) -> None:
    result = run(tmp_path / "h", 1000)
    history, _ = read_history(tmp_path / "h")
    assert (result.reason, result.final.done) == ("exhausted", 60)
    assert len(at_fidelity(history, MIDDLE)) >= 20
    assert len(at_fidelity(history, HIGH)) >= 6


def test_thresholds_are_asked_for_each_candidate_with_the_history_of_then(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    def below(history: History, candidate: Candidate) -> tuple[float, ...]:
        asked.append((len(history), candidate.index))
        return (0.25,)

    run(tmp_path / "h", 6, stop_below=below)
    history, _ = read_history(tmp_path / "h")
    assert asked == [(k, k) for k in range(len(history))]
    assert all(evaluation.candidate.stop_below == (0.25,) for evaluation in history)


def test_progress_counts_architectures_and_promotions_apart_and_reckons_with_both(tmp_path: Path) -> None:
    moments: list[Progress] = []
    run(tmp_path / "h", 9, progress=moments.append, reference={KEY: 1.0})
    assert moments[-1].done == moments[-1].total == 9
    assert moments[-1].seconds_left == 0
    assert [moment.done + moment.promoted for moment in moments] == list(range(len(moments)))


def of(
    digest: str, accuracy: float, fidelity: Fidelity, *, status: str = "complete", seconds: float = 1.0
) -> Evaluation:
    history = History()
    with SerialSession(Judge()) as session:
        options = LoopOptions(num_candidates=1, fidelity=fidelity, seed=0)
        search_loop(small_problem(), RandomSearch(), session, history, Ignoring(), options=options)
    candidate = history[0].candidate
    candidate = replace(candidate, architecture=replace(candidate.architecture, digest=digest), predicted={KEY: 0.5})
    return Evaluation(candidate=candidate, status=status, metrics={"accuracy": accuracy}, seconds=seconds)  # type: ignore[arg-type]


class Ignoring:
    def append(self, evaluation: Evaluation) -> None: ...


def test_an_architecture_counts_in_the_hypervolume_with_its_dearest_evaluation() -> None:
    tally = Tally(small_problem().objectives, total=9, reference={KEY: 1.0}, halving=LADDER)
    tally.add(of("a", 0.8, LOW))
    tally.add(of("b", 0.4, LOW))
    assert tally.progress(running=0, num_slots=1).hypervolume == pytest.approx(0.8 * 0.5)
    tally.add(of("a", 0.6, MIDDLE))
    moment = tally.progress(running=0, num_slots=1)
    assert moment.hypervolume == pytest.approx(0.6 * 0.5)
    assert (moment.done, moment.promoted, moment.best["accuracy"]) == (2, 1, 0.6)
    tally.add(of("b", 0.0, MIDDLE, status="failed"))
    moment = tally.progress(running=0, num_slots=1)
    assert (moment.done, moment.promoted, moment.failed, moment.best["accuracy"]) == (2, 2, 1, 0.6)


def test_the_time_left_is_that_of_new_architectures_and_of_their_promotions() -> None:
    tally = Tally(small_problem().objectives, total=9, reference={}, halving=LADDER)
    tally.add(of("a", 0.8, LOW, seconds=2.0))
    # 8 more at 2 s, 3 at 6 s (three times the epochs), 1 at 18 s.
    assert tally.progress(running=0, num_slots=2).seconds_left == pytest.approx((8 * 2 + 3 * 6 + 18) / 2)
    tally.add(of("a", 0.9, MIDDLE, seconds=5.0))
    assert tally.progress(running=0, num_slots=1).seconds_left == pytest.approx(8 * 2 + 2 * 5 + 15)


def test_stopped_ones_are_no_failures() -> None:
    tally = Tally(small_problem().objectives, total=9, reference={KEY: 1.0})
    tally.add(of("a", 0.8, LOW, status="stopped"))
    moment = tally.progress(running=0, num_slots=1)
    assert (moment.done, moment.failed, moment.stopped, moment.hypervolume) == (1, 0, 1, 0.0)


def test_on_ray_a_ladder_judges_each_architecture_at_most_once_a_rung(local_ray: Workers, tmp_path: Path) -> None:
    history, problem = History(), small_problem()
    options = LoopOptions(num_candidates=27, fidelity=LOW, seed=3, halving=LADDER)
    with local_ray.open(Judge()) as session:
        strategy = fitted_to(RandomSearch(), problem, LADDER.rungs)
        result = search_loop(problem, strategy, session, history, HistoryFile(tmp_path / "h"), options=options)
    tried = Counter((e.candidate.architecture.digest, e.candidate.fidelity) for e in history)
    assert (result.reason, result.final.done, max(tried.values())) == ("complete", 27, 1)
    assert len(at_fidelity(history, MIDDLE)) >= 9
    assert len(at_fidelity(history, HIGH)) >= 3
