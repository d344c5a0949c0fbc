"""A search of 100,000 evaluations: the memory and time of its driver, of its resumption and of its report.

`nas search` as it is, but for the training of candidates, which is imagined: proposals, screening by a calibrated
latency model, history, status, report, and the finalists, which are trained, exported and timed.

Usage: python experiments/long_run/run.py [--folder long_run_run] [--stages 5000 100000] [--strategy nsga2]
       python experiments/long_run/run.py --folder long_run_run --report

Each stage is a process of its own that goes on with the run of the stage before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import psutil
import ray  # noqa: F401  # a driver has it in its memory

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "run"))
from run_simulated import SimulatedSession

from nas.commands.search import search
from nas.commands.settings import CalibrationOptions, RunOptions
from nas.problem.evaluation import Candidate, Evaluation
from nas.run.ray_runner import RayRunner
from nas.run.runner import Session, Work, Workers
from nas.strategy.nsga2 import NSGA2
from nas.strategy.problem import SearchStrategy
from nas.strategy.random_search import RandomSearch
from nas.strategy.regularised_evolution import RegularisedEvolution

STRATEGIES: dict[str, Callable[[], SearchStrategy]] = {
    "random": RandomSearch,
    "regularised-evolution": RegularisedEvolution,
    "nsga2": NSGA2,
}
STARTED = psutil.Process().create_time()  # imports are a part of what a user waits for
WORKERS = 1000
EPOCHS = 6
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
BEATS = 10.0  # seconds; candidates end together on these, so that many are proposed at once


class Watch:
    """What the driver took, told from a thread."""

    def __init__(self, history: Path) -> None:
        self.history = history
        self.first_submitted = self.explored = self.cpu_before = float("nan")
        self.searched = (float("nan"), 0)  # CPU seconds and bytes of memory at the end of the search itself
        self.peak = 0
        self.samples: list[tuple[float, int, int]] = []  # seconds, bytes of history, bytes of memory

    def follow(self) -> None:
        process, next_sample = psutil.Process(), 0.0
        while True:
            rss = process.memory_info().rss
            self.peak = max(self.peak, rss)
            seconds = time.time() - STARTED
            if seconds >= next_sample:
                size = self.history.stat().st_size if self.history.exists() else 0
                self.samples.append((round(seconds, 1), size, rss))
                next_sample = seconds + 5.0
            time.sleep(0.1)


@dataclass
class Imagined:
    """A runner whose candidates of the search only pass time, on many workers; a worker of Ray trains the finalists."""

    watch: Watch
    torch_device: str = "cpu"
    time_limit_seconds: float | None = None

    def check(self) -> None:
        pass

    def expected_slots(self, workers: int | None = None) -> int:
        return WORKERS

    def start(self, *, workers: int | None = None, modules: Sequence[str] = ()) -> ImaginedWorkers:
        return ImaginedWorkers(self.watch)


@dataclass
class ImaginedWorkers:
    """Sessions: the first one is that of the search, the second one that of the finalists."""

    watch: Watch
    num_slots: int = WORKERS
    description: str = f"{WORKERS} workers that are imagined"
    opened: int = 0
    trainers: Workers | None = None

    def open(self, work: Work, *, time_factor: float = 1.0) -> Session:
        self.opened += 1
        if self.opened > 1:
            self.watch.explored = time.time() - STARTED
            self.watch.searched = (time.process_time() - self.watch.cpu_before, psutil.Process().memory_info().rss)
            self.trainers = RayRunner(workers=1).start()
            return self.trainers.open(work, time_factor=time_factor)
        return ImaginedSession(self.watch)

    def close(self) -> None:
        if self.trainers is not None:
            self.trainers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ImaginedSession(SimulatedSession):
    """Notes when the first candidate was handed over. The driver takes no time in it: that is measured from outside."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(num_slots=WORKERS, seconds=lasting, result=self._judged, clock=lambda: 0.0)
        self._watch = watch

    def submit(self, candidate: Candidate) -> None:
        if np.isnan(self._watch.first_submitted):
            self._watch.first_submitted, self._watch.cpu_before = time.time() - STARTED, time.process_time()
        super().submit(candidate)

    def _judged(self, candidate: Candidate) -> Evaluation:
        """An accuracy that grows with latency and wavers, a curve that rises to it; one in fifty fails."""
        rng = np.random.default_rng(candidate.seed)
        told = {
            "seconds": lasting(candidate),
            "worker": f"node{candidate.index % WORKERS // 4:03d}:{4000 + candidate.index % 4}",
            "finished": (BEGAN + timedelta(seconds=self.now + candidate.index // WORKERS)).isoformat(),
        }
        if rng.random() < 0.02:
            error = f"RuntimeError: loss became NaN after {rng.integers(500)} steps of epoch {rng.integers(EPOCHS)}"
            return Evaluation(candidate=candidate, status="failed", error=error, **told)
        latency = next(value for key, value in candidate.predicted.items() if key.startswith("latency_ms."))
        accuracy = 0.95 - 0.3 / (1 + 20 * latency) + 0.02 * float(rng.standard_normal())
        metrics = {"accuracy": accuracy, "loss": 0.3 + float(rng.random()), "train_accuracy": min(1.0, accuracy + 0.02)}
        curve = tuple(accuracy * (1 - 0.5 ** (epoch + 1)) for epoch in range(EPOCHS))
        return Evaluation(candidate=candidate, status="complete", metrics=metrics, curve=curve, **told)


def lasting(candidate: Candidate) -> float:
    """A minute on average, log-normal, in whole beats."""
    rng = np.random.default_rng([candidate.seed, 1])
    return BEATS * float(np.ceil(60.0 * rng.lognormal(-0.125, 0.5) / BEATS))


def stage(folder: Path, candidates: int, strategy: str) -> dict[str, object]:
    """Goes on with the run until it has so many evaluations."""
    is_new = not (folder / "manifest.json").exists()
    before = sum(1 for _ in (folder / "history.jsonl").open("rb")) if not is_new else 0
    watch = Watch(folder / "history.jsonl")
    threading.Thread(target=watch.follow, daemon=True).start()
    place = {"name": folder.name, "folder": str(folder.parent)} if is_new else {"resume": str(folder)}
    search(
        strategy=STRATEGIES[strategy](),
        runner=Imagined(watch),
        run=RunOptions(candidates=candidates, epochs=EPOCHS, final_epochs=2, front=4, **place),
        calibration=CalibrationOptions(samples=24, blocks=3),
    )
    new = candidates - before
    ended = time.time() - STARTED
    return {
        "evaluations": candidates,
        "first_candidate_s": round(watch.first_submitted, 1),
        "ms_each": round(1e3 * (watch.explored - watch.first_submitted) / max(new, 1), 2),
        "cpu_ms_each": round(1e3 * watch.searched[0] / max(new, 1), 2),
        "first_candidate_cpu_s": round(watch.cpu_before, 1),
        "rest_s": round(ended - watch.explored, 1),
        "searched_MB": round(watch.searched[1] / 1e6),
        "peak_MB": round(watch.peak / 1e6),
        "history_MB": round((folder / "history.jsonl").stat().st_size / 1e6, 1),
        "report_MB": round((folder / "report.html").stat().st_size / 1e6, 2),
        "load": round(os.getloadavg()[0], 1),
        "samples": [(seconds, round(size / 1e6, 1), round(rss / 1e6)) for seconds, size, rss in watch.samples],
    }


def report(folder: Path) -> dict[str, object]:
    """Writes the report anew, in a process that has done nothing else."""
    from nas.report.write import write_report

    watch = Watch(folder / "history.jsonl")
    threading.Thread(target=watch.follow, daemon=True).start()
    base = psutil.Process().memory_info().rss
    start = time.perf_counter()
    path = write_report(folder)
    return {
        "report_s": round(time.perf_counter() - start, 1),
        "report_MB": round(path.stat().st_size / 1e6, 2),
        "grown_MB": round((watch.peak - base) / 1e6),
        "load": round(os.getloadavg()[0], 1),
    }


def show(fields: Mapping[str, object]) -> None:
    print(json.dumps(fields), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("long_run_run"))
    parser.add_argument(
        "--stages", type=int, nargs="+", default=[5_000, 5_100, 25_000, 50_000, 75_000, 100_000, 100_100]
    )
    parser.add_argument("--strategy", choices=STRATEGIES, default="regularised-evolution")
    parser.add_argument("--stage", type=int, help="one stage, in this process")
    parser.add_argument("--report", action="store_true", help="only the report of what there is")
    given = parser.parse_args()
    if given.report:
        show(report(given.folder))
        return
    if given.stage is not None:
        show(stage(given.folder, given.stage, given.strategy))
        return
    for until in given.stages:
        told = ["--folder", str(given.folder), "--strategy", given.strategy, "--stage", str(until)]
        subprocess.run([sys.executable, __file__, *told], check=True)
    subprocess.run([sys.executable, __file__, "--folder", str(given.folder), "--report"], check=True)


if __name__ == "__main__":
    main()
