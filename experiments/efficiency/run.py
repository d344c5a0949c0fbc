"""How busy workers are when candidates take a second: local nodes, sleeping candidates, everything else real.

Usage: python experiments/efficiency/run.py [--nodes 2 4 8] [--each 30] [--seconds 1.0] [--report-ms 100]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
from ray.cluster_utils import Cluster

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "run"))
from run_problem import FIDELITY, small_problem

from nas.problem.evaluation import Candidate, Evaluation
from nas.problem.history import History
from nas.run.guarded_file import GuardedFile
from nas.run.loop import LoopOptions, search_loop
from nas.run.ray_runner import RayRunner
from nas.strategy.random_search import RandomSearch


class Sleep:
    """Takes its time and no processor."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, candidate: Candidate) -> Evaluation:
        time.sleep(self.seconds)
        return Evaluation(candidate=candidate, status="complete", metrics={"accuracy": 0.5})


def busy_share(history: History, slots: int) -> float:
    """From the moment at which all workers had begun to the last beginning."""
    ends = np.array([datetime.fromisoformat(evaluation.finished).timestamp() for evaluation in history])
    begins = ends - np.array([evaluation.seconds for evaluation in history])
    first, last = np.sort(begins)[slots - 1], begins.max()
    overlap = np.clip(np.minimum(ends, last) - np.maximum(begins, first), 0, None)
    return float(overlap.sum() / (slots * (last - first)))


def measure(nodes: int, each: int, seconds: float, report_ms: int) -> None:
    system = {"raylet_report_resources_period_milliseconds": report_ms}
    head = {"num_cpus": 0, "object_store_memory": 80_000_000, "_system_config": system}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(nodes):
        cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    cluster.wait_for_nodes()
    history = History()
    options = LoopOptions(num_candidates=each * nodes, fidelity=FIDELITY, seed=0)
    # The work's class is of this script, which the workers are sent.
    with (
        tempfile.TemporaryDirectory() as folder,
        RayRunner(address=cluster.address).start(modules=["run_problem"]) as workers,
        workers.open(Sleep(seconds)) as session,
    ):
        store = GuardedFile(Path(folder) / "h")
        spent = time.process_time()  # from here on: starting Ray is not what a candidate costs
        search_loop(small_problem(5), RandomSearch(), session, history, store, options=options)
        spent = time.process_time() - spent
    cluster.shutdown()
    share, load = busy_share(history, nodes), os.getloadavg()[0]
    print(f"| {nodes} | {len(history)} | {share:.1%} | {1e3 * spent / len(history):.1f} | {load:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--each", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--report-ms", type=int, default=100, help="between reports of free resources; 100 is Ray's")
    given = parser.parse_args()
    print("| nodes | candidates | busy | driver, CPU ms a candidate | load |\n|---|---|---|---|---|")
    for nodes in given.nodes:
        measure(nodes, given.each, given.seconds, given.report_ms)


if __name__ == "__main__":
    if "RAY_AUTH_TOKEN" not in os.environ:  # Ray reads it when it is imported
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid4().hex * 2, "RAY_USAGE_STATS_ENABLED": "0"}
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **token})
    main()
