"""Candidates as Ray core tasks: submitting, waiting, retrying lost ones and ending those that hang.

Responsible for turning everything that can happen to a task into an evaluation. Retries are counted here and not by
Ray, because Ray repeats tasks that ran out of memory without bound, and each attempt needs a clock of its own.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import ray
from ray import exceptions

from nas.errors import UserError, one_line
from nas.problem.evaluation import Candidate, Evaluation, Status
from nas.run.attempt import Bounds
from nas.run.elastic import Slots
from nas.run.interrupts import interrupts_deferred
from nas.run.pulse import Beat
from nas.run.runner import failure, import_error_in

_log = logging.getLogger(__name__)
_LOST = (
    exceptions.WorkerCrashedError,
    exceptions.OutOfMemoryError,
    exceptions.NodeDiedError,
    exceptions.ObjectLostError,
    exceptions.LocalRayletDiedError,
    exceptions.OutOfDiskError,
)
_LONGEST_WAIT = 1.0  # seconds in one call of Ray, so that an interrupt is seen soon
_NO_WORKER_AFTER = 60.0  # seconds until a candidate that has not begun is worth a warning


@dataclass
class _Flight:
    """A candidate on its way; ``items`` is Ray's generator of what `nas.run.attempt.attempt` yields."""

    candidate: Candidate
    items: Any
    attempts: int
    submitted: float
    began: float = math.inf
    alive: float = math.inf  # when it last showed that it does something
    worker: str = ""
    warned: bool = False


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When an attempt is ended, and what then.

    Attributes:
        retries: how often a candidate is run again after it lost its worker or fell silent.
        seconds: for one attempt, from its beginning; infinite for none.
        grace_seconds: how much longer the work has to end by itself.
        silence_seconds: without a sign of life after which an attempt is taken for hung; infinite for never.
    """

    retries: int
    seconds: float
    grace_seconds: float
    silence_seconds: float = math.inf


class RaySession:
    """See `nas.run.runner.Session`. Made by `nas.run.ray_workers.RayWorkers.open`.

    Args:
        task: the remote function made of `nas.run.attempt.attempt`.
        work: reference to the work in the object store.
        slots: how many candidates may be in flight.
        limits: of an attempt.
        bounds: within which an attempt keeps itself.
    """

    def __init__(self, task: Any, work: Any, *, slots: Slots, limits: Limits, bounds: Bounds) -> None:
        self._task = task
        self._work = work
        self._slots = slots
        self._limits = limits
        self._bounds = bounds
        self._flights: dict[Any, _Flight] = {}
        self._num_begun = 0
        self._finished: list[Evaluation] = []  # not given back yet; an interrupt must not lose them

    @property
    def num_slots(self) -> int:
        """See `nas.run.runner.Session`. It follows the nodes of the cluster, and what else runs there."""
        return self._slots.allowed(self._num_begun)

    @property
    def room(self) -> int:
        """See `nas.run.runner.Session`. Short candidates are queued ahead, see `nas.run.elastic`."""
        return max(0, self.num_slots + self._slots.ahead - len(self._flights))

    @property
    def in_flight(self) -> tuple[Candidate, ...]:
        """See `nas.run.runner.Session`."""
        return tuple(flight.candidate for flight in self._flights.values())

    def submit(self, candidate: Candidate) -> None:
        """See `nas.run.runner.Session`."""
        self._launch(candidate, attempts=1)

    def wait(self, timeout: float | None = None) -> list[Evaluation]:
        """See `nas.run.runner.Session`."""
        until = math.inf if timeout is None else time.monotonic() + timeout
        had_room = self.room > 0
        while self._flights and not self._finished:
            self._poll(until)
            self._end_overdue()
            self._slots.look()
            if time.monotonic() >= until or (self.room > 0 and not had_room):
                break
        finished, self._finished = self._finished, []
        return finished

    def close(self) -> None:
        """See `nas.run.runner.Session`. Kills the workers that are busy."""
        flights, self._flights, self._num_begun = self._flights, {}, 0
        for flight in flights.values():
            _cancel(flight)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _launch(self, candidate: Candidate, *, attempts: int) -> None:
        items = self._task.remote([self._work], candidate, self._bounds)
        self._flights[items] = _Flight(candidate=candidate, items=items, attempts=attempts, submitted=time.monotonic())

    def _poll(self, until: float) -> None:
        """Waits for news of any flight, but not beyond the next limit, and takes them in."""
        ends = (self._end_of(flight) for flight in self._flights.values())
        patience = min(max(0.0, min(until, *ends) - time.monotonic()), _LONGEST_WAIT)
        ready, waiting = ray.wait(list(self._flights), num_returns=1, timeout=patience)
        if ready and waiting:  # whatever else is there costs no further wait
            more, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
            ready += more
        with interrupts_deferred():
            for items in ready:
                self._advance(self._flights[items])

    def _advance(self, flight: _Flight) -> None:
        """Takes in the next item of a flight: it has begun, or ended, or begins again."""
        try:
            item = ray.get(next(flight.items))
        except _LOST as error:
            self._lose(flight, error)
        except exceptions.RuntimeEnvSetupError as error:  # no candidate can run at all
            problem = f"workers cannot be set up: {one_line(error)}"
            raise UserError("runner", problem, "check the packages in allow") from error
        except (exceptions.RayError, StopIteration) as error:
            cause = getattr(error, "cause", None) or error
            self._fail(flight, import_error_in(str(error)) or one_line(cause))
        else:
            if isinstance(item, Evaluation):
                self._slots.ended(time.monotonic() - flight.began)
                self._end(flight, item)
            elif isinstance(item, Beat):
                flight.alive = time.monotonic()
            else:
                flight.began = flight.alive = time.monotonic()
                flight.worker = str(item)
                self._num_begun += 1
                self._slots.began(flight.began - flight.submitted)

    def _lose(self, flight: _Flight, error: Exception) -> None:
        self._retry(flight, _REASONS.get(type(error), one_line(error)))

    def _retry(self, flight: _Flight, reason: str) -> None:
        """Tries again, or gives up: the candidate may be what kills its workers."""
        if flight.attempts <= self._limits.retries:
            _log.info("candidate %d: %s; attempt %d", flight.candidate.index, reason, flight.attempts + 1)
            self._forget(flight)
            self._launch(flight.candidate, attempts=flight.attempts + 1)
        else:
            self._fail(flight, reason + (f" in each of {flight.attempts} attempts" if flight.attempts > 1 else ""))

    def _end_of(self, flight: _Flight) -> float:
        """When a flight is overdue if nothing more is heard of it."""
        limits = self._limits
        return min(flight.began + limits.seconds + limits.grace_seconds, flight.alive + limits.silence_seconds)

    def _end_overdue(self) -> None:
        """Ends the flights that are past their limit and grace, or silent for too long."""
        moment, limits, longest = time.monotonic(), self._limits, 0.0
        for flight in list(self._flights.values()):
            if flight.worker and moment > self._end_of(flight) and _has_news(flight):
                continue  # this process was held up, not the candidate
            if moment - flight.began > limits.seconds + limits.grace_seconds:
                _cancel(flight)
                error = f"took longer than {_limit_text(limits.seconds)} and did not end by itself"
                self._fail(flight, error, status="timeout")
            elif moment - flight.alive > limits.silence_seconds:
                _cancel(flight)
                self._retry(flight, f"it hung: no sign of life for {_limit_text(limits.silence_seconds)}")
            elif not flight.worker:
                longest = max(longest, moment - flight.submitted)
                if not flight.warned and moment - flight.submitted > _NO_WORKER_AFTER:
                    flight.warned = True
                    _log.warning("candidate %d has waited a minute for a free worker", flight.candidate.index)
        self._slots.stuck(longest)

    def _fail(self, flight: _Flight, error: str, *, status: Status = "failed") -> None:
        seconds = time.monotonic() - (flight.began if flight.worker else flight.submitted)
        self._end(flight, failure(flight.candidate, error, status=status, worker=flight.worker, seconds=seconds))

    def _end(self, flight: _Flight, evaluation: Evaluation) -> None:
        self._forget(flight)
        self._finished.append(evaluation)

    def _forget(self, flight: _Flight) -> None:
        del self._flights[flight.items]
        self._num_begun -= bool(flight.worker)


_REASONS: dict[type[Exception], str] = {
    exceptions.WorkerCrashedError: "its worker process died (killed, crashed, or out of memory)",
    exceptions.OutOfMemoryError: "its node ran out of memory and Ray killed the worker",
    exceptions.NodeDiedError: "its node was lost",
    exceptions.LocalRayletDiedError: "its node was lost",
    exceptions.OutOfDiskError: "its node ran out of disk space",
}


def _has_news(flight: _Flight) -> bool:
    ready, _ = ray.wait([flight.items], timeout=0)
    return bool(ready)


def _cancel(flight: _Flight) -> None:
    """Kills the worker that runs it. Does nothing where Ray is gone, or the task has ended meanwhile."""
    with contextlib.suppress(exceptions.RayError, RuntimeError, ValueError):
        ray.cancel(flight.items, force=True)


def _limit_text(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"
