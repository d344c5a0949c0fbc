"""A search on a cluster that is only imagined: real loop, strategy, screen and history; candidates only pass time.

Usage: python experiments/simulated_cluster/run.py [--workers 1000] [--candidates 5000] [--strategy random]
           [--seconds 60] [--sigma 0.5] [--ladder] [--clock wall|cpu] [--windows 1000 2000 5000 9000]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "run"))
from run_simulated import SimulatedSession

from nas.locate import resource_folder
from nas.model.population_costs import PopulationCosts
from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.goals import budgets_from, objectives_from
from nas.problem.history import History
from nas.run.guarded_file import GuardedFile
from nas.run.loop import LoopOptions, search_loop
from nas.space.load import load_space
from nas.space.moves import sample
from nas.strategy.fidelities import fitted_to
from nas.strategy.halving import Halving
from nas.strategy.nsga2 import NSGA2
from nas.strategy.problem import Population, SearchProblem, SearchStrategy
from nas.strategy.random_search import RandomSearch
from nas.strategy.regularised_evolution import RegularisedEvolution
from nas.strategy.screening import Screen
from nas.strategy.surrogate.strategy import Surrogate
from nas.strategy.tpe import TPE

STRATEGIES: dict[str, Callable[[], SearchStrategy]] = {
    "random": RandomSearch,
    "evolution": RegularisedEvolution,
    "nsga2": NSGA2,
    "surrogate": Surrogate,
    "tpe": TPE,
}
KEY, LIMIT_MS = "latency_ms.nowhere", 0.4


@dataclass(frozen=True)
class LinearLatency:
    """What a fitted predictor computes, with invented weights."""

    costs: PopulationCosts
    weights: NDArray[np.float64]

    def predict_ms(self, population: Population) -> NDArray[np.float64]:
        return self.costs.weighted(population, self.weights)

    def upper_ms(self, population: Population, confidence: float) -> NDArray[np.float64]:
        return 1.08 * self.predict_ms(population)


@dataclass
class Timed:
    """Calls of one function: when, and how long."""

    function: Callable[..., Any]
    clock: Callable[[], float]
    seconds: list[float] = field(default_factory=list)

    def __call__(self, *arguments: Any) -> Any:
        start = self.clock()
        try:
            return self.function(*arguments)
        finally:
            self.seconds.append(self.clock() - start)


@dataclass(frozen=True)
class Parts:
    """A strategy or a store."""

    propose: Callable[..., Any] = lambda *_: None
    append: Callable[..., Any] = lambda *_: None


def problem() -> SearchProblem:
    space = load_space(resource_folder("search_spaces") / "mobilenet-tiny.yaml")
    costs = PopulationCosts(space, input_shape=(1, 8, 8), num_classes=10)
    scale = costs.features(sample(space, 100, np.random.default_rng(0))).sum(axis=1).mean()
    weights = np.full(len(costs.feature_names), 0.8 * LIMIT_MS / scale)
    budgets = budgets_from({"latency": f"{LIMIT_MS} ms"}, device="nowhere", confidence=0.95)
    screen = Screen(costs=costs, predictors={KEY: LinearLatency(costs, weights)}, budgets=budgets)
    found = SearchProblem(
        space=space, objectives=objectives_from(["accuracy", "latency"], device="nowhere"), screen=screen
    )
    found.screen(sample(space, 20_000, np.random.default_rng(1)))  # fills the tables of costs, as a forecast does
    return found


def result(candidate: Candidate) -> Evaluation:
    """An accuracy that grows with what is known and wavers; one in fifty fails."""
    rng = np.random.default_rng(candidate.seed)
    if rng.random() < 0.02:
        return Evaluation(candidate=candidate, status="failed", error="RuntimeError: loss became NaN")
    latency = candidate.predicted[KEY]
    accuracy = 0.9 - 0.1 / (1 + 10 * latency) + 0.02 * float(rng.standard_normal())
    return Evaluation(candidate=candidate, status="complete", metrics={"accuracy": accuracy, "loss": 0.3}, seconds=60.0)


def _around(moments: Sequence[float], middle: int, *, full: int) -> str:
    """Milliseconds a candidate over the 500 evaluations around ``middle``; only while all workers had work."""
    low, high = middle - 250, middle + 250
    return f"{1e3 * (moments[high] - moments[low]) / (high - low):.1f}" if low >= 0 and high < full else "-"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--candidates", type=int, default=5000)
    parser.add_argument("--strategy", choices=STRATEGIES, default="random")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sigma", type=float, default=0.5)
    parser.add_argument("--ladder", action="store_true")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="what the driver's time is")
    parser.add_argument("--windows", type=int, nargs="*", default=[1000, 2000, 5000, 9000], help="cost around these")
    given = parser.parse_args()
    clock = time.perf_counter if given.clock == "wall" else time.process_time
    base = given.seconds / np.exp(given.sigma**2 / 2)  # so that the mean is what was asked for

    def seconds(candidate: Candidate) -> float:
        rng = np.random.default_rng([candidate.seed, candidate.fidelity.epochs])
        return float(base * rng.lognormal(0.0, given.sigma)) * candidate.fidelity.epochs

    rungs = tuple(Fidelity(epochs=epochs) for epochs in ((1, 3, 9) if given.ladder else (1,)))
    search = problem()
    propose = Timed(fitted_to(STRATEGIES[given.strategy](), search, rungs).propose, clock)
    process = psutil.Process()
    before, cpu = process.memory_info().rss, time.process_time()
    moments: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.jsonl"
        append = Timed(GuardedFile(path).append, clock)
        session = SimulatedSession(num_slots=given.workers, seconds=seconds, result=result, clock=clock)
        options = LoopOptions(
            num_candidates=given.candidates,
            fidelity=rungs[0],
            seed=0,
            reference={KEY: LIMIT_MS},
            halving=Halving(rungs=rungs) if given.ladder else None,
            progress=lambda _: moments.append(session.driver_seconds),
        )
        history = History()
        search_loop(search, Parts(propose=propose), session, history, Parts(append=append), options=options)
        size = path.stat().st_size
    count = len(history)
    fields = {
        "strategy": given.strategy + (" on a ladder" if given.ladder else ""),
        "workers": given.workers,
        "evaluations": count,
        "busy": f"{session.busy_share():.1%}",
        "hours": f"{session.now / 3600:.1f}",
        "driver_ms_each": f"{1e3 * session.driver_seconds / count:.1f}",
        **{f"ms_at_{middle}": _around(moments, middle, full=count - given.workers) for middle in given.windows},
        "propose_ms_each": f"{1e3 * sum(propose.seconds) / count:.1f}",
        "append_ms_each": f"{1e3 * sum(append.seconds) / count:.2f}",
        "driver_busy": f"{session.driver_seconds / session.now:.0%}",
        "cpu_s": f"{time.process_time() - cpu:.0f}",
        "grown_MB": f"{(process.memory_info().rss - before) / 1e6:.0f}",
        "rss_MB": f"{process.memory_info().rss / 1e6:.0f}",
        "history_MB": f"{size / 1e6:.1f}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }
    print("  ".join(f"{key}={value}" for key, value in fields.items()), flush=True)


if __name__ == "__main__":
    main()
