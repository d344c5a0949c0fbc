"""Signs of life of a candidate: whether its work still does something.

Responsible for running the work beside the thread that tells of it, and for what counts as life: processor time of the
work's own thread or of processes that it has started. A process that only exists, or whose background threads run,
shows nothing by that. Work that waits for longer than the limit without computing is taken for hung.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from nas.problem.evaluation import Candidate, Evaluation
from nas.run.runner import Work, judge

LEAST_SECONDS = 0.01  # of processor time between two signs; the clock of the kernel ticks as often


@dataclass(frozen=True, kw_only=True)
class Beat:
    """A sign of life.

    Attributes:
        busy_seconds: processor time that the work has taken so far, on all its threads that are known here.
    """

    busy_seconds: float


def beats(work: Work, candidate: Candidate, *, worker: str, every: float) -> Iterator[Beat | Evaluation]:
    """Judges a candidate in a thread of its own; a `Beat` after each interval in which it did something, then the end.

    Args:
        work: what to call; it never runs in this thread.
        candidate: with what.
        worker: where, for the record.
        every: seconds between looks.
    """
    thread = _Judgement(work, candidate, worker)
    thread.start()
    told = 0.0
    while not thread.done.wait(every):
        busy = thread.busy_seconds()
        if busy - told >= LEAST_SECONDS:
            told = busy
            yield Beat(busy_seconds=busy)
    thread.join()
    yield thread.evaluation()


class _Judgement(threading.Thread):
    """One call of the work. A daemon: a worker that is told to go does not wait for it."""

    def __init__(self, work: Work, candidate: Candidate, worker: str) -> None:
        super().__init__(name=f"candidate-{candidate.index}", daemon=True)
        self.done = threading.Event()
        self._call: Callable[[], Evaluation] = lambda: judge(work, candidate, worker=worker)
        self._found: Evaluation | BaseException | None = None

    def run(self) -> None:
        try:
            self._found = self._call()
        except BaseException as error:  # an interrupt belongs to the thread that waits
            self._found = error
        finally:
            self.done.set()

    def evaluation(self) -> Evaluation:
        assert self._found is not None, "asked for before the end"
        if isinstance(self._found, BaseException):
            raise self._found
        return self._found

    def busy_seconds(self) -> float:
        """Processor time of this thread, and of the children of the process."""
        own = 0.0
        if self.ident is not None and not self.done.is_set():
            try:
                own = time.clock_gettime(time.pthread_getcpuclockid(self.ident))
            except (OSError, AttributeError):  # it has just ended, or the system has no such clock
                own = time.process_time()
        return own + sum(_processor_seconds(child) for child in psutil.Process().children(recursive=True))


def _processor_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it has ended
        return 0.0
    return float(times.user + times.system)
