"""The loop at the size of a large cluster, in small: busy workers, a cost that does not grow, a bounded memory."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
from run_problem import small_problem
from run_simulated import SimulatedSession

from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.history import History, read_history
from nas.run.guarded_file import GuardedFile
from nas.run.loop import LoopOptions, search_loop
from nas.strategy.halving import Halving
from nas.strategy.random_search import RandomSearch

RUNGS = tuple(Fidelity(epochs=epochs) for epochs in (1, 3, 9))


def judge(candidate: Candidate) -> Evaluation:
    accuracy = 0.5 + 0.03 * sum(candidate.architecture.row) + 0.01 * candidate.fidelity.epochs
    return Evaluation(candidate=candidate, status="complete", metrics={"accuracy": accuracy}, seconds=60.0)


def lasting(candidate: Candidate) -> float:
    """A minute an epoch on average, log-normal."""
    rng = np.random.default_rng([candidate.seed, candidate.fidelity.epochs])
    return candidate.fidelity.epochs * float(60 * rng.lognormal(-0.125, 0.5))


def run(path: Path, total: int, workers: int, *, ladder: bool) -> tuple[SimulatedSession, History, list[float]]:
    session = SimulatedSession(num_slots=workers, seconds=lasting, result=judge, clock=time.process_time)
    spent: list[float] = []
    options = LoopOptions(
        num_candidates=total, fidelity=RUNGS[0], seed=0, halving=Halving(rungs=RUNGS) if ladder else None,
        progress=lambda _: spent.append(session.driver_seconds), reference={"latency_ms.d": 1.0},
    )  # fmt: skip
    history = History()
    search_loop(small_problem(6), RandomSearch(), session, history, GuardedFile(path), options=options)
    return session, history, spent


def test_a_hundred_workers_are_kept_busy(tmp_path: Path) -> None:
    session, history, _ = run(tmp_path / "h", 600, 100, ladder=False)
    assert len(history) == len(read_history(tmp_path / "h")[0]) == 600
    assert session.busy_share() >= 0.95


def test_what_a_candidate_costs_the_driver_does_not_grow_with_the_run_on_a_ladder_either(tmp_path: Path) -> None:
    session, history, spent = run(tmp_path / "h", 450, 20, ladder=True)
    count = len(history)
    assert count > 600
    first, last = (spent[place + 150] - spent[place] for place in (50, count - 151))
    assert last < 3 * first + 0.3
    assert session.driver_seconds / count < 0.02


def test_an_evaluation_that_was_read_takes_no_more_than_one_that_was_made(tmp_path: Path) -> None:
    run(tmp_path / "h", 400, 20, ladder=False)
    tracemalloc.start()
    try:
        history, _ = read_history(tmp_path / "h")
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept / len(history) < 4_500
    assert peak < kept + 300_000  # the file is not in memory as a whole


def test_an_evaluation_takes_a_few_kilobytes_of_the_driver(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        _, history, _ = run(tmp_path / "h", 400, 20, ladder=False)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A hundred thousand of them fit into a gigabyte, with half of it to spare.
    assert kept / len(history) < 5_000
