"""Jobs in worker processes that are started once.

Responsible for the processes: each imports torch and the exporters once and then makes file after file. A converter
that takes its process down with it costs its own job only.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from nas.deploy.bundle.records import ExportJob, Outcome, all_missing

Done = Callable[[ExportJob, Outcome], None]
_CRASHED = "the process that made it ended, killed or by a crash in the converter or the runtime"


class ExportPool:
    """Processes that run jobs; use as ``with export_pool(n) as pool``.

    Args:
        workers: processes; 0: the jobs run here, one after the other.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._executor = _executor(workers) if workers else None
        # They begin with their imports now, while the caller loads its data.
        others = set(multiprocessing.active_children())
        for _ in range(workers):
            assert self._executor is not None
            self._executor.submit(_warm_up)
        self._processes = set(multiprocessing.active_children()) - others

    def run(self, jobs: Sequence[ExportJob], done: Done) -> None:
        """Runs all jobs, and calls ``done`` with each and its outcome as they end."""
        if self._executor is None:
            for job in jobs:
                done(job, _run(job))
            return
        left = dict(enumerate(jobs))
        try:
            futures: dict[Future[Outcome], int] = {self._executor.submit(_run, job): k for k, job in left.items()}
            for future in as_completed(futures):
                outcome = future.result()
                done(left.pop(futures[future]), outcome)
        except BrokenProcessPool:
            for job in left.values():  # which of them it was is not known: each in a process of its own
                done(job, _alone(job))

    def close(self, *, at_once: bool = False) -> None:
        """Ends the processes; jobs that have not begun are dropped, and with ``at_once`` those that have."""
        if self._executor is None:
            return
        if at_once:
            for process in self._processes:
                process.terminate()
        self._executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def export_pool(workers: int) -> Iterator[ExportPool]:
    """A pool for the time being."""
    pool = ExportPool(workers)
    try:
        yield pool
    except BaseException:  # an interrupt too: nobody waits for what is no longer wanted
        pool.close(at_once=True)
        raise
    pool.close()


def _executor(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare)


def _prepare() -> None:
    """In a new process: one torch thread, as the processes share the processor, and silence.

    Converters and runtimes write to the native streams, which belong to the display of the command.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    import torch

    torch.set_num_threads(1)


def _warm_up() -> None:
    """Imports what every job needs."""
    import nas.deploy.bundle.job  # noqa: F401


def _run(job: ExportJob) -> Outcome:
    # Imported where it runs: the caller's process may do without the exporters.
    from nas.deploy.bundle.job import run_job

    return run_job(job)


def _alone(job: ExportJob) -> Outcome:
    with _executor(1) as executor:
        try:
            return executor.submit(_run, job).result()
        except BrokenProcessPool:
            return all_missing(job, _CRASHED)
