"""Who runs evaluations: the border between a search and the processes, cores or machines that do the work.

Responsible for the protocols, and for what becomes of a candidate whose work raises: the same on every runner.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from nas.errors import one_line
from nas.problem.evaluation import Candidate, Evaluation, Status

Work = Callable[[Candidate], Evaluation]

_IMPORT_ERROR = re.compile(r"(?:ModuleNotFoundError|ImportError): [^;\n]*")


class Session(Protocol):
    """Evaluations of one kind of work. A context manager; leaving it gives up what still runs."""

    @property
    def num_slots(self) -> int:
        """How many candidates may run at a time. It changes as nodes join and leave."""
        ...

    @property
    def room(self) -> int:
        """How many more candidates should be submitted now, so that no worker has to wait for one."""
        ...

    @property
    def in_flight(self) -> tuple[Candidate, ...]:
        """Candidates that were submitted and that `wait` has not given back."""
        ...

    def submit(self, candidate: Candidate) -> None:
        """Hands a candidate over. Returns at once."""
        ...

    def wait(self, timeout: float | None = None) -> list[Evaluation]:
        """Finished evaluations, in the order in which they ended; blocks until there is one.

        Whatever goes wrong with a candidate is an evaluation with status ``failed`` or ``timeout``.

        Args:
            timeout: seconds after which [] is given; None for no limit; 0 gives what has finished already. Where the
                work is done in this thread, it cannot be broken off.

        Returns:
            At least one evaluation; [] after the timeout, at once if nothing is in flight, and when there is room for
            a candidate where there was none.
        """
        ...

    def close(self) -> None:
        """Gives up all candidates in flight. May be called again."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Workers(Protocol):
    """Started workers, on which sessions are opened one after the other. A context manager; leaving it ends them."""

    @property
    def num_slots(self) -> int:
        """How many candidates run at a time."""
        ...

    @property
    def description(self) -> str:
        """For a person, e.g. ``2 workers on this machine (Ray 2.60.0)``."""
        ...

    def open(self, work: Work, *, time_factor: float = 1.0) -> Session:
        """Makes ``work`` known to the workers, once for all candidates.

        Args:
            work: what is called with each candidate; must be picklable where workers are processes.
            time_factor: multiple of the runner's time limit that holds here, for work that costs more than a
                search's evaluation.
        """
        ...

    def close(self) -> None:
        """Ends the workers; nothing is left running. May be called again."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Runner(Protocol):
    """A frozen record of where and how to run."""

    @property
    def torch_device(self) -> str:
        """Where candidates are trained: ``cuda`` where they get a GPU or a share of one, else ``cpu``."""
        ...

    @property
    def time_limit_seconds(self) -> float | None:
        """That a candidate may take; None for no limit. Work that watches it ends with a better word than a kill."""
        ...

    def check(self) -> None:
        """Finds out, within seconds and before anything is spent, whether workers can be started at all.

        Raises:
            UserError: they cannot, as configured.
        """
        ...

    def expected_slots(self, workers: int | None = None) -> int:
        """How many candidates will run at a time, as far as that is known before the start; for a forecast."""
        ...

    def start(self, *, workers: int | None = None, modules: Sequence[str] = ()) -> Workers:
        """Starts the workers.

        Args:
            workers: candidates at a time; None: as the runner is configured.
            modules: import names of the user's own packages, which workers elsewhere have to be sent.

        Raises:
            UserError: it cannot be started as configured.
        """
        ...


def judge(work: Work, candidate: Candidate, *, worker: str) -> Evaluation:
    """The evaluation of a candidate; work that raises gives a failed one. Only an interrupt passes.

    Args:
        work: what to call.
        candidate: with what.
        worker: where this happens, for the record.
    """
    start = time.monotonic()
    try:
        evaluation = work(candidate)
        if not isinstance(evaluation, Evaluation) or evaluation.candidate.index != candidate.index:
            raise TypeError(f"the work must give the evaluation of its candidate, got {type(evaluation).__name__}")
    except (Exception, SystemExit) as error:  # whatever a user's operator does must not end the search
        return failure(candidate, one_line(error), worker=worker, seconds=time.monotonic() - start)
    return replace(evaluation, seconds=time.monotonic() - start, worker=worker, finished=now())


def failure(
    candidate: Candidate, error: str, *, status: Status = "failed", worker: str = "", seconds: float = 0.0
) -> Evaluation:
    """The evaluation of a candidate that gave no metrics."""
    return Evaluation(candidate=candidate, status=status, error=error, worker=worker, seconds=seconds, finished=now())


def import_error_in(text: str) -> str:
    """The last import error that a text tells of, e.g. ``ModuleNotFoundError: No module named 'mine'``; "" if none."""
    found = _IMPORT_ERROR.findall(text)
    return found[-1].strip() if found else ""


def this_worker() -> str:
    """Host and process, e.g. ``node7:4711``."""
    return f"{socket.gethostname()}:{os.getpid()}"


def now() -> str:
    """This moment as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
