"""A cluster that is only imagined: a session in which time passes by itself, for the loop, strategies and history.

The driver's own work takes the time that it takes here: while it proposes and records, candidates go on and end, and
the slots that they leave stay empty until it comes back. So a driver that is too slow for its workers shows.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from nas.problem.evaluation import Candidate, Evaluation

Seconds = Callable[[Candidate], float]
Result = Callable[[Candidate], Evaluation]


class SimulatedSession:
    """See `nas.run.runner.Session`.

    Args:
        num_slots: workers.
        seconds: how long a candidate takes.
        result: what comes of it.
        clock: of the driver's own work. `time.process_time` leaves out what others do on this machine, and the disk.
    """

    def __init__(
        self, *, num_slots: int, seconds: Seconds, result: Result, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.num_slots = num_slots
        self._seconds = seconds
        self._result = result
        self._clock = clock
        self._running: list[tuple[float, int, float]] = []  # end, index, duration
        self._candidates: dict[int, Candidate] = {}
        self._left = self._clock()
        self.now = 0.0
        self.busy_seconds = 0.0  # of all workers, in what has ended
        self.driver_seconds = 0.0
        self.last_full = 0.0
        self._beyond = 0.0  # of the busy seconds, those behind that moment

    @property
    def room(self) -> int:
        return self.num_slots - len(self._candidates)

    @property
    def in_flight(self) -> tuple[Candidate, ...]:
        return tuple(self._candidates.values())

    def submit(self, candidate: Candidate) -> None:
        assert len(self._candidates) < self.num_slots, "no queue is wanted"
        start = self._moment()
        duration = self._seconds(candidate)
        heapq.heappush(self._running, (start + duration, candidate.index, duration))
        self._candidates[candidate.index] = candidate
        if len(self._candidates) == self.num_slots:
            self.last_full, self._beyond = start, 0.0

    def wait(self, timeout: float | None = None) -> list[Evaluation]:
        self.now = self._moment()
        self.driver_seconds += self._clock() - self._left
        if self._running:
            self.now = max(self.now, self._running[0][0])
        ended = []
        while self._running and self._running[0][0] <= self.now:
            end, index, duration = heapq.heappop(self._running)
            self.busy_seconds += duration
            self._beyond += max(0.0, end - max(self.last_full, end - duration))
            ended.append(self._result(self._candidates.pop(index)))
        self._left = self._clock()
        return ended

    def busy_share(self) -> float:
        """Of the workers, from the start to the moment at which all of them last had work."""
        return (self.busy_seconds - self._beyond) / (self.num_slots * self.last_full)

    def close(self) -> None:
        self._running.clear()
        self._candidates.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _moment(self) -> float:
        return self.now + self._clock() - self._left
