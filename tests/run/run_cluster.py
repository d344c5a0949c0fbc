"""A cluster of two nodes on this machine: one is lost while a search's candidates run on both, and another one joins.

`run_cluster.py FOLDER`: a module is written there that only this process can import; for a process of its own. Prints
one JSON object.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from ray.cluster_utils import Cluster
from run_workloads import candidate_of

from nas.errors import UserError
from nas.problem.evaluation import Evaluation
from nas.run.ray_runner import RayRunner
from nas.run.runner import Work

LONGEST = 100.0  # seconds

SHIPPED = """
import os, time
from nas.problem.evaluation import Evaluation

def work(candidate):
    time.sleep(0.3)
    return Evaluation(candidate=candidate, status="complete", metrics={"process": float(os.getpid())})
"""


def work_that_is_shipped(folder: Path) -> Work:
    (folder / "shipped_work.py").write_text(SHIPPED)
    sys.path.insert(0, str(folder))
    import shipped_work  # type: ignore[import-not-found]

    work: Work = shipped_work.work
    return work


def lose(node: object) -> None:
    for _, info in node.live_processes():  # type: ignore[attr-defined]
        os.kill(info.pid, signal.SIGKILL)


def main(folder: Path) -> dict[str, object]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100_000_000})
    second = cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    third = None
    cluster.wait_for_nodes()
    work = work_that_is_shipped(folder)
    evaluations: list[Evaluation] = []
    seen: list[int] = []
    submitted = 0
    with (
        RayRunner(address=cluster.address).start(modules=["shipped_work"]) as workers,
        workers.open(work) as session,
    ):
        until = time.monotonic() + LONGEST
        # As a search does: what is in flight follows the nodes that there are.
        while (len(evaluations) < 10 or seen != [2, 1, 2]) and time.monotonic() < until:
            seen += [session.num_slots] if seen[-1:] != [session.num_slots] else []
            while session.room > 0:
                session.submit(candidate_of(submitted))
                submitted += 1
            evaluations += session.wait()
            if len(evaluations) >= 4 and second is not None:
                lose(second)
                second = None
            if seen == [2, 1] and third is None:
                third = cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
        while session.in_flight:
            evaluations += session.wait()
    refused = ""
    try:
        RayRunner(address=cluster.address, gpus=1).start()
    except UserError as error:
        refused = str(error)
    cluster.shutdown()
    return {
        "num_slots": seen,
        "submitted": submitted,
        "statuses": [evaluation.status for evaluation in evaluations],
        "indices": sorted(evaluation.candidate.index for evaluation in evaluations),
        "processes": len({evaluation.metrics.get("process") for evaluation in evaluations}),
        "refused": refused,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))) + "\n")
