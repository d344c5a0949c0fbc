"""A search in a process of its own, to be killed: `run_driver.py HISTORY TOTAL SECONDS ADDRESS`.

Prints ``index N`` once evaluation N is recorded, and at last ``done`` or what an interrupt says.
"""

from __future__ import annotations

import sys
from pathlib import Path

from run_problem import FIDELITY, Judge, small_problem

from nas.problem.evaluation import Evaluation
from nas.problem.history import HistoryFile, read_history
from nas.run.loop import LoopOptions, Stopped, search_loop
from nas.run.ray_runner import RayRunner
from nas.strategy.random_search import RandomSearch


class TellingFile(HistoryFile):
    def append(self, evaluation: Evaluation) -> None:
        super().append(evaluation)
        sys.stdout.write(f"index {evaluation.candidate.index}\n")


def main(path: str, total: str, seconds: str) -> None:
    history, _ = read_history(Path(path))
    options = LoopOptions(num_candidates=int(total), fidelity=FIDELITY, seed=1)
    with RayRunner(workers=2).start() as workers, workers.open(Judge(seconds=float(seconds))) as session:
        store = TellingFile(path)
        search_loop(small_problem(5), RandomSearch(), session, history, store, options=options)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Stopped as stopped:
        sys.stdout.write(f"{stopped}\n")
        sys.exit(130)
