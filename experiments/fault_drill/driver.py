"""The search of the drill, in a process of its own: `driver.py FOLDER ADDRESS SECONDS`.

Prints ``index N`` once evaluation N is on the disk, and ``done`` at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

from drill_problem import COUNT, FIDELITY, Work, problem

from nas.problem.evaluation import Evaluation
from nas.problem.history import read_history
from nas.run.folder import RunFolder
from nas.run.guarded_file import GuardedFile
from nas.run.loop import LoopOptions, search_loop
from nas.run.ray_runner import RayRunner
from nas.strategy.random_search import RandomSearch


class Telling(GuardedFile):
    def append(self, evaluation: Evaluation) -> None:
        super().append(evaluation)
        sys.stdout.write(f"index {evaluation.candidate.index}\n")
        sys.stdout.flush()


def main(path: str, address: str, seconds: str) -> None:
    folder = RunFolder(path=Path(path))
    if not folder.manifest_file.exists():
        folder = RunFolder.create(path, {"space": {"digest": "drill"}, "data": {"digest": "drill"}})
    marks = Path(path).parent / "marks"
    marks.mkdir(exist_ok=True)
    runner = RayRunner(
        address=address, heartbeat="3 s", time_limit="60 s", memory="500 MB", retries=6, wait_for_nodes="2 min"
    )  # fmt: skip
    with folder.locked():
        history, note = read_history(folder.history_file)
        sys.stdout.write(f"begun with {len(history)} {note}\n")
        sys.stdout.flush()
        options = LoopOptions(num_candidates=COUNT, fidelity=FIDELITY, seed=1)
        work = Work(seconds=float(seconds), folder=marks)
        with runner.start(modules=["drill_problem"]) as workers, workers.open(work) as session:
            store = Telling(folder.history_file)
            search_loop(problem(), RandomSearch(), session, history, store, options=options)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
