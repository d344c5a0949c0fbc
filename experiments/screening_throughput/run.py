"""How long do a million architectures take to be drawn, encoded and screened on one core?

Each repetition is a process of its own: a first pass with empty tables (cold), then one with other architectures
(warm). What is repeated is the pass; imports, data and reading the latency model are not timed.

Usage: python experiments/screening_throughput/run.py [--number 1000000] [--repetitions 5] [--samples 28] [--breakdown]

With ``--breakdown``: what a first pass spends its time on, instead.

The latency model is the one stored in ./latency_models for the digits; if there is none, it is measured first.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from nas.commands.display import Display, Silent
from nas.commands.latency import latency_models
from nas.commands.settings import CalibrationOptions, SearchSettings
from nas.commands.setup import prepare
from nas.deploy.options import DeployOptions
from nas.device.host import host_facts
from nas.device.predictor import CostPredictor
from nas.model import stage_figures
from nas.model.population_costs import PopulationCosts
from nas.problem.goals import budgets_from
from nas.space.encodings import one_hot
from nas.space.moves import sample
from nas.strategy.screening import Screen

Result = TypeVar("Result")
Record = Mapping[str, Any]
Times = dict[str, tuple[float, float]]

SAMPLE, ENCODE, BOUND, SCREEN = "sample", "encode (one-hot)", "screen: latency bound", "screen: bound and all costs"
ASKED = (SAMPLE, ENCODE, BOUND)
CONFIDENCE = 0.95
TARGET_SECONDS = 3.0


class Printed(Silent):
    """Facts and notes of a calibration."""

    def say(self, topic: str, text: str) -> None:
        print(f"{topic}: {text}", flush=True)

    def note(self, text: str) -> None:
        self.say("note", text)


def predictor_of(display: Display, *, samples: int) -> CostPredictor:
    """The latency model of this machine for `mobilenet-tiny` on the digits, with empty tables of costs."""
    settings = SearchSettings(
        deploy=DeployOptions(precisions=("float32",)), calibration=CalibrationOptions(samples=samples)
    )
    setup = prepare(settings, Silent())
    model = latency_models(setup, display)[0].calibrated["float32"]
    assert isinstance(model.predictor, CostPredictor)
    shape, classes = setup.task.input_shape, setup.task.num_classes
    fresh = PopulationCosts(setup.space, input_shape=shape, num_classes=classes)
    return replace(model.predictor, costs=fresh)


def one_pass(predictor: CostPredictor, number: int, *, limit_ms: float, seed: int) -> tuple[Times, float]:
    """Wall and CPU seconds of each part, and the share that is kept."""
    space, times = predictor.scope.space, Times()
    budgets = budgets_from({"latency": f"{limit_ms} ms"}, device="this-machine", confidence=CONFIDENCE)
    screen = Screen(costs=predictor.costs, predictors={budgets[0].key: predictor}, budgets=budgets)
    rng = np.random.default_rng(seed)
    population = timed(times, SAMPLE, lambda: sample(space, number, rng))
    encoded = timed(times, ENCODE, lambda: one_hot(space, population))
    assert len(encoded) == number
    kept = timed(times, BOUND, lambda: predictor.upper_ms(population, CONFIDENCE) <= limit_ms)
    screening = timed(times, SCREEN, lambda: screen(population))
    assert (screening.feasible == kept).all()
    return times, float(kept.mean())


def timed(times: Times, name: str, function: Callable[[], Result]) -> Result:
    """What ``function`` gives; its wall and CPU seconds go into ``times``."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    times[name] = (time.perf_counter() - wall, time.process_time() - cpu)
    return result


def repetition(number: int, *, samples: int, seed: int) -> None:
    """A cold and a warm pass in this process, on one core; prints one JSON object."""
    predictor = predictor_of(Silent(), samples=samples)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    limit_ms = float(np.median(predictor.calibration.latency_ms))
    cold, _ = one_pass(predictor, number, limit_ms=limit_ms, seed=seed)
    warm, kept = one_pass(predictor, number, limit_ms=limit_ms, seed=seed + 1000)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"cold": cold, "warm": warm, "kept": kept, "limit_ms": limit_ms, "peak_gib": peak}))


def breakdown(number: int, *, samples: int) -> None:
    """Prints what filling the tables of costs takes, by step, with the garbage collector and without."""
    predictor = predictor_of(Printed(), samples=samples)
    population = sample(predictor.scope.space, number, np.random.default_rng(0))
    before = resource.getrusage(resource.RUSAGE_SELF)
    one_hot(predictor.scope.space, population)
    after = resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    print(f"first {ENCODE}: {user:.2f} s in user mode, {system:.2f} s in the kernel")
    steps: dict[str, float] = defaultdict(float)
    for name in ("build_layer", "figures_of"):
        setattr(stage_figures, name, counted(steps, name, getattr(stage_figures, name)))
    for collector in (True, False):
        steps.clear()
        fresh = replace(predictor, costs=predictor_of(Silent(), samples=samples).costs)
        if not collector:
            gc.disable()
        started = time.process_time()
        fresh.predict_ms(population)
        total = time.process_time() - started
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in steps.items())
        print(f"CPU seconds with{'' if collector else 'out'} garbage collection: {total:.1f}, of it {parts}")


def counted(steps: dict[str, float], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, with its CPU seconds added to ``steps[name]``."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        started = time.process_time()
        try:
            return function(*arguments, **keywords)
        finally:
            steps[name] += time.process_time() - started

    return call


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--number", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--samples", type=int, default=28, help="architectures to measure if no model is stored")
    parser.add_argument("--breakdown", action="store_true", help="what a first pass spends its time on, instead")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        repetition(given.number, samples=given.samples, seed=given.one)
        return
    if given.breakdown:
        breakdown(given.number, samples=given.samples)
        return
    predictor = predictor_of(Printed(), samples=given.samples)
    print(f"{predictor.scope.space.name}: {predictor.scope.space.num_choices} choices, formula '{predictor.fit}'")
    results: list[Record] = []
    loads: list[float] = []
    for seed in range(given.repetitions):
        command = [sys.executable, __file__, "--one", str(seed), "--number", str(given.number)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        results.append(json.loads(done.stdout.splitlines()[-1]))
        loads.append(os.getloadavg()[0])
    _print(results, loads, number=given.number)


def _print(results: list[Record], loads: list[float], *, number: int) -> None:
    print(f"{host_facts().cpu}, {os.cpu_count()} cores; Python {platform.python_version()}, numpy {np.__version__}")
    print(f"load average {min(loads):.1f} to {max(loads):.1f}; {number:,} architectures; {len(results)} repetitions")
    first = results[0]
    print(f"limit {first['limit_ms']:.3g} ms keeps {first['kept']:.0%}; {first['peak_gib']:.2f} GiB at most")
    print("\n| seconds, median | cold, CPU | cold, wall | warm, CPU | warm, wall |\n|---|---|---|---|---|")
    for name in (SAMPLE, ENCODE, BOUND):
        print(f"| {name} | {_row(results, (name,))} |")
    print(f"| **the three together** | {_row(results, ASKED)} |")
    # It comes after the bound, so that its tables are never empty.
    for name, parts in ((SCREEN, (SCREEN,)), ("sample, encode and that", (SAMPLE, ENCODE, SCREEN))):
        print(f"| {name} | - | - | {_row(results, parts, ('warm',))} |")
    verdict = "under" if np.median(_totals(results, ASKED, "warm", 0)) < TARGET_SECONDS else "NOT under"
    print(f"\nwarm, wall: {verdict} {TARGET_SECONDS:g} s")


def _row(results: list[Record], parts: tuple[str, ...], passes: tuple[str, ...] = ("cold", "warm")) -> str:
    columns = [(passed, clock) for passed in passes for clock in (1, 0)]
    return " | ".join(f"{np.median(_totals(results, parts, passed, clock)):.2f}" for passed, clock in columns)


def _totals(results: list[Record], parts: tuple[str, ...], passed: str, clock: int) -> list[float]:
    return [sum(result[passed][part][clock] for part in parts) for result in results]


if __name__ == "__main__":
    main()
