"""Evaluations one after the other in this thread: for tests, for debugging, and for machines without Ray."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from nas.problem.evaluation import Candidate, Evaluation
from nas.run.runner import Work, judge, this_worker

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SerialRunner:
    """Runs candidates in the calling thread. A candidate that hangs or kills its process takes the search along."""

    @property
    def torch_device(self) -> str:
        """See `nas.run.runner.Runner`."""
        return "cpu"

    @property
    def time_limit_seconds(self) -> float | None:
        """See `nas.run.runner.Runner`."""
        return None

    def check(self) -> None:
        """See `nas.run.runner.Runner`. This process is here."""

    def expected_slots(self, workers: int | None = None) -> int:
        """See `nas.run.runner.Runner`."""
        return 1

    def start(self, *, workers: int | None = None, modules: Sequence[str] = ()) -> SerialWorkers:
        """See `nas.run.runner.Runner`. ``modules`` are importable here already."""
        if workers is not None and workers > 1:
            _log.warning("the serial runner has one worker; run.workers=%d has no effect", workers)
        return SerialWorkers()


class SerialWorkers:
    """The calling thread as the one worker."""

    num_slots = 1
    description = "this process, one candidate at a time"

    def open(self, work: Work, *, time_factor: float = 1.0) -> SerialSession:
        """See `nas.run.runner.Workers`. There is no time limit here."""
        return SerialSession(work)

    def close(self) -> None:
        """Nothing to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SerialSession:
    """Candidates in a queue; `wait` evaluates the first of them."""

    num_slots = 1

    def __init__(self, work: Work) -> None:
        self._work = work
        self._queue: deque[Candidate] = deque()

    @property
    def room(self) -> int:
        """See `nas.run.runner.Session`."""
        return self.num_slots - len(self._queue)

    @property
    def in_flight(self) -> tuple[Candidate, ...]:
        """See `nas.run.runner.Session`."""
        return tuple(self._queue)

    def submit(self, candidate: Candidate) -> None:
        """See `nas.run.runner.Session`."""
        self._queue.append(candidate)

    def wait(self, timeout: float | None = None) -> list[Evaluation]:
        """See `nas.run.runner.Session`. With a timeout of 0 nothing is begun; another one does not break off work."""
        if not self._queue or timeout == 0:
            return []
        evaluation = judge(self._work, self._queue[0], worker=this_worker())
        self._queue.popleft()
        return [evaluation]

    def close(self) -> None:
        """See `nas.run.runner.Session`."""
        self._queue.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
