"""A search of 200 candidates on a cluster of three nodes while everything fails, and what is left of it.

Usage: python experiments/fault_drill/run.py [--kills 20] [--seconds 0.3] [--every 15] [--seed 0]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psutil
from drill_problem import COUNT, FIDELITY, Work, problem
from ray.cluster_utils import Cluster

from nas.problem.front import cost_matrix, non_dominated
from nas.problem.history import History, HistoryFile, read_history
from nas.run.loop import LoopOptions, search_loop
from nas.run.serial import SerialSession
from nas.strategy.random_search import RandomSearch

HERE = Path(__file__).resolve().parent
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100_000_000, "memory": 2_000_000_000}


class Trouble:
    """Kills workers and nodes, and adds nodes, each few seconds; in the main thread, because Ray wants it so."""

    def __init__(self, cluster: Cluster, rng: random.Random, every: float) -> None:
        self.done: Counter[str] = Counter()
        self._every = every
        self._cluster = cluster
        self._nodes = [cluster.add_node(**NODE) for _ in range(3)]
        self._rng = rng
        self._next = time.monotonic() + every

    def step(self) -> None:
        """Makes trouble, if it is time."""
        if time.monotonic() < self._next:
            return
        if self._rng.random() < 0.6:
            self._kill_worker()
        else:
            self._kill_node()
        self._next = time.monotonic() + self._every * self._rng.uniform(0.5, 1.5)

    def _kill_worker(self) -> None:
        busy = []
        for node in self._nodes:
            for _, info in node.live_processes():
                with contextlib.suppress(psutil.Error):
                    children = psutil.Process(info.pid).children()
                    busy += [child for child in children if "ray::" in " ".join(child.cmdline()[:1])]
        if busy:
            self._rng.choice(busy).kill()
            self.done["workers killed"] += 1

    def _kill_node(self) -> None:
        node = self._nodes.pop(self._rng.randrange(len(self._nodes)))
        for _, info in node.live_processes():
            os.kill(info.pid, signal.SIGKILL)
        self.done["nodes killed"] += 1
        self._nodes.append(self._cluster.add_node(**NODE))
        self.done["nodes added"] += 1


def drive(folder: Path, address: str, seconds: float) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    return subprocess.Popen(
        [sys.executable, str(HERE / "driver.py"), str(folder), address, str(seconds)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def follow(driver: subprocess.Popen[str], told: list[int], lines: list[str]) -> None:
    assert driver.stdout is not None
    for line in driver.stdout:
        lines.append(line.strip())
        if line.startswith("index ") and line.endswith("\n"):
            told.append(int(line.split()[1]))


def undisturbed() -> History:
    history = History()
    options = LoopOptions(num_candidates=COUNT, fidelity=FIDELITY, seed=1)
    with SerialSession(Work(seconds=0.0)) as session, tempfile.TemporaryDirectory() as folder:
        search_loop(problem(), RandomSearch(), session, history, HistoryFile(Path(folder) / "h"), options=options)
    return history


def outcome(history: History) -> dict[tuple[int, ...], tuple[str, float]]:
    return {e.candidate.architecture.row: (e.status, e.metrics.get("accuracy", -1.0)) for e in history}


def front(history: History) -> set[tuple[int, ...]]:
    costs = cost_matrix(history, problem().objectives)
    return {history[int(place)].candidate.architecture.row for place in np.flatnonzero(non_dominated(costs))}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--every", type=float, default=15.0, help="mean seconds between kills of workers and nodes")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, mark = random.Random(given.seed), os.environ["DRILL"]
    began = time.monotonic()
    base = Path(tempfile.mkdtemp(prefix="drill-"))
    folder, told, lines = base / "run", [], []
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100_000_000})
    trouble = Trouble(cluster, rng, given.every)
    kills = 0
    while True:
        driver = drive(folder, cluster.address, given.seconds)
        reader = threading.Thread(target=follow, args=(driver, told, lines))
        reader.start()
        if kills < given.kills:
            before, wait = len(told), rng.uniform(0, 2.5)
            until = time.monotonic() + 60
            # At least one more evaluation each time, so that it comes to an end.
            while len(told) == before and time.monotonic() < until and driver.poll() is None:
                trouble.step()
                time.sleep(0.02)
            time.sleep(wait)
            driver.kill()
            kills += 1
        while driver.poll() is None:
            trouble.step()
            time.sleep(0.05)
        reader.join()
        if lines[-1] == "done":
            break
        assert len(lines) < 10_000
    cluster.shutdown()
    history, note = read_history(folder / "history.jsonl")
    report(history, note, told, folder, kills=kills, trouble=trouble.done, mark=mark, seconds=time.monotonic() - began)


def report(
    history: History, note: str, told: list[int], folder: Path, *, kills: int, trouble: Counter[str], mark: str,
    seconds: float,
) -> None:  # fmt: skip
    expected = undisturbed()
    indices = [evaluation.candidate.index for evaluation in history]
    time.sleep(20)  # Ray's own agents notice last that nobody is left
    rows: dict[str, object] = {
        "seconds": round(seconds),
        "drivers killed": kills,
        **trouble,
        "evaluations": len(indices),
        "distinct indices": len(set(indices)),
        "distinct architectures": len(outcome(history)),
        "acknowledged and missing": len(set(told) - set(indices)),
        "acknowledged twice": len(told) - len(set(told)),
        "outcomes that differ": sum(outcome(history)[row] != value for row, value in outcome(expected).items()),
        "same front": front(history) == front(expected),
        "hung at first, then run again": sum(1 for _ in (folder.parent / "marks").iterdir()),
        "statuses": dict(Counter(evaluation.status for evaluation in history)),
        "note": note or "none",
        "files left": sorted(path.name for path in folder.iterdir()),
        "processes left": [p.name() for p in psutil.process_iter() if _is_ours(p, mark)],
    }
    for key, value in rows.items():
        print(f"| {key} | {value} |")


def _is_ours(process: psutil.Process, mark: str) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get("DRILL") == mark
    except psutil.Error:
        return False


if __name__ == "__main__":
    if "DRILL" not in os.environ:
        # All processes are known by a variable. Ray reads its own when it is imported, so that this one begins anew.
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid4().hex * 2, "RAY_USAGE_STATS_ENABLED": "0"}
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **token, "DRILL": uuid4().hex})
    main()
