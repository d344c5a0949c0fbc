"""Small runs with a run folder and an observer, for the tests of what others see; a driver when called as a program.

`status_run.py FOLDER CANDIDATES SECONDS`: a search that prints ``told`` whenever its observer was told.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from run_problem import FIDELITY, KEY, Judge, small_problem

from nas.problem.evaluation import Evaluation
from nas.problem.history import History, HistoryFile, read_history
from nas.run.callbacks.callback import Callback
from nas.run.folder import RunFolder
from nas.run.identity import space_record
from nas.run.loop import LoopOptions, search_loop
from nas.run.observer import Observer
from nas.run.runner import Work
from nas.run.serial import SerialSession
from nas.strategy.random_search import RandomSearch

DATA = {"name": "digits", "digest": "d1", "num_train": 9, "classes": ["a", "b"]}
PROBLEM = small_problem(4)


def manifest_of(**sections: object) -> dict[str, object]:
    return {
        "space": space_record(PROBLEM.space),
        "data": DATA,
        "objectives": ["accuracy", KEY],
        "budgets": [{"key": KEY, "limit": 0.8, "confidence": 0.95, "text": "latency <= 0.8 ms"}],
        "devices": [{"name": "d", "card": {}}],
        "forecast": {"ranges": {KEY: {"min": 0.1, "max": 1.3}}},
        "seed": 0,
        "overrides": [],
        "config": {"run": {"candidates": 12}, "recipe": {"epochs": 1}},
        "finished": None,
        **sections,
    }


def make_run(path: Path, **sections: object) -> RunFolder:
    return RunFolder.create(path, manifest_of(**sections))


def search(
    folder: RunFolder,
    *,
    total: int = 12,
    seed: int = 0,
    work: Work | None = None,
    callbacks: Sequence[Callback] = (),
    note: Callable[[str], None] = lambda _: None,
    each: Callable[[Observer], None] = lambda _: None,
    keep_logs: int = 1000,
) -> History:
    """Searches in this process, as a command does."""
    history, _ = read_history(folder.history_file)
    observer = Observer(
        folder.path, manifest=folder.manifest(), objectives=["accuracy", KEY], callbacks=callbacks, note=note,
        keep_logs=keep_logs, interval=0.05,
    )  # fmt: skip

    def told(progress: object) -> None:
        observer.told(progress)  # type: ignore[arg-type]
        each(observer)

    with ExitStack() as stack:
        stack.enter_context(folder.locked())
        stack.enter_context(observer)
        session = observer.watched(SerialSession(observer.logged(work or Judge())))
        observer.begin("search", total=total)
        options = LoopOptions(
            num_candidates=total, fidelity=FIDELITY, seed=seed, reference={KEY: 0.8}, progress=told
        )  # fmt: skip
        search_loop(PROBLEM, RandomSearch(), session, history, HistoryFile(folder.history_file), options=options)
    return history


def by_index(history: History) -> dict[int, Evaluation]:
    return {evaluation.candidate.index: evaluation for evaluation in history}


def tell() -> None:
    sys.stdout.write("told\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run = make_run(Path(sys.argv[1]))
    search(
        run,
        total=int(sys.argv[2]),
        work=Judge(seconds=float(sys.argv[3])),
        each=lambda _: tell(),
    )
