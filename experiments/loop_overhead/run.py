"""What the search loop costs beside training: no-op evaluations, everything else real.

Usage: python experiments/loop_overhead/run.py [--candidates 1000] [--workers N] [--runner ray|serial]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.locate import resource_folder
from nas.model.population_costs import PopulationCosts
from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.goals import budgets_from, objectives_from
from nas.problem.history import History, HistoryFile
from nas.run.capacity import usable_cores
from nas.run.loop import LoopOptions, search_loop
from nas.run.progress import Progress
from nas.run.ray_runner import RayRunner
from nas.run.serial import SerialRunner
from nas.space.load import load_space
from nas.space.moves import sample
from nas.strategy.problem import Population, SearchProblem
from nas.strategy.random_search import RandomSearch
from nas.strategy.screening import Screen

DEVICE = "nowhere"
LIMIT_MS = 0.4


@dataclass(frozen=True)
class LinearLatency:
    """Milliseconds as a weighted sum of kernel features: what a fitted predictor computes, with invented weights."""

    costs: PopulationCosts
    weights: NDArray[np.float64]

    def predict_ms(self, population: Population) -> NDArray[np.float64]:
        return self.costs.weighted(population, self.weights)

    def upper_ms(self, population: Population, confidence: float) -> NDArray[np.float64]:
        return 1.08 * self.predict_ms(population)


@dataclass
class Clock:
    """Seconds spent in each part of the driver."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.seconds[name] += time.perf_counter() - start

        return wrapper


@dataclass(frozen=True)
class Timed:
    """A strategy or a store whose one method is timed."""

    propose: Callable[..., Any] = lambda *_: None
    append: Callable[..., Any] = lambda *_: None


def nothing(candidate: Candidate) -> Evaluation:
    """Looks like an evaluation and costs nothing."""
    return Evaluation(candidate=candidate, status="complete", metrics={"accuracy": 0.5 + (candidate.seed % 997) / 2000})


def problem_with_screen() -> SearchProblem:
    space = load_space(resource_folder("search_spaces") / "mobilenet-tiny.yaml")
    costs = PopulationCosts(space, input_shape=(1, 8, 8), num_classes=10)
    # Scaled so that a part of the space breaks the budget, as in a search with one.
    scale = costs.features(sample(space, 100, np.random.default_rng(0))).sum(axis=1).mean()
    weights = np.full(len(costs.feature_names), 0.8 * LIMIT_MS / scale)
    key = f"latency_ms.{DEVICE}"
    budgets = budgets_from({"latency": f"{LIMIT_MS} ms"}, device=DEVICE, confidence=0.95)
    screen = Screen(costs=costs, predictors={key: LinearLatency(costs, weights)}, budgets=budgets)
    return SearchProblem(space=space, objectives=objectives_from(["accuracy", "latency"], device=DEVICE), screen=screen)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--runner", choices=["ray", "serial"], default="ray")
    given = parser.parse_args()
    problem, clock = problem_with_screen(), Clock()
    start = time.perf_counter()
    drawn = sample(problem.space, 20_000, np.random.default_rng(1))
    share = problem.screen(drawn).feasible.mean()  # builds the tables of costs, as the forecast of a search does
    print(f"tables of costs: {time.perf_counter() - start:.1f} s, once; {share:.0%} of the space is feasible")
    moments: list[Progress] = []
    strategy = Timed(propose=clock.timed("propose (sample, screen, novelty)", RandomSearch().propose))
    timed_problem = SearchProblem(
        space=problem.space, objectives=problem.objectives, screen=clock.timed("screen, all calls", problem.screen)
    )
    options = LoopOptions(
        num_candidates=given.candidates,
        fidelity=Fidelity(epochs=1),
        seed=0,
        reference={f"latency_ms.{DEVICE}": LIMIT_MS},
        progress=moments.append,
    )
    runner = RayRunner(workers=given.workers) if given.runner == "ray" else SerialRunner()
    with tempfile.TemporaryDirectory() as folder, runner.start() as workers, workers.open(nothing) as session:
        for index in range(workers.num_slots):  # starting processes and importing is not what is measured
            session.submit(_warm_up(problem, index))
        while session.in_flight:
            session.wait()
        history = History()
        store = Timed(append=clock.timed("append (write, fsync)", HistoryFile(Path(folder) / "history.jsonl").append))
        start = time.perf_counter()
        search_loop(timed_problem, strategy, session, history, store, options=options)
        wall = time.perf_counter() - start
        size = (Path(folder) / "history.jsonl").stat().st_size
    _print(clock, moments, history, wall=wall, size=size, workers=workers.description)


def _warm_up(problem: SearchProblem, index: int) -> Candidate:
    row = sample(problem.space, 1, np.random.default_rng(index))[0]
    return Candidate(index=index, architecture=problem.space.architecture(row), fidelity=Fidelity(epochs=1), seed=index)


def _print(clock: Clock, moments: list[Progress], history: History, *, wall: float, size: int, workers: str) -> None:
    count = len(history)
    ends = np.array([moment.seconds for moment in moments])
    tenth = max(1, count // 10)
    print(
        f"{workers}; load average {os.getloadavg()[0]:.1f}; {count} candidates, {int((~history.complete).sum())} failed"
    )
    print(f"| part | ms a candidate |\n|---|---|\n| **whole loop, wall** | **{1e3 * wall / count:.2f}** |")
    for name, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1]):
        print(f"| {name} | {1e3 * seconds / count:.2f} |")
    print(f"| first tenth of the run, wall | {1e3 * (ends[tenth] - ends[0]) / tenth:.2f} |")
    print(f"| last tenth of the run, wall | {1e3 * (ends[-1] - ends[-1 - tenth]) / tenth:.2f} |")
    print(f"\nhistory.jsonl: {size / count:.0f} bytes a candidate; hypervolume {moments[-1].hypervolume:.3f}")


if __name__ == "__main__":
    main()
