"""What others see of a run while it goes on: the status file, the callbacks, the logs of candidates.

Responsible for the driver's side of all three. The search itself is not touched: a session is wrapped, and progress is
passed on. Writing happens on a thread of its own, at most once a second, and goes on while the search waits.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nas.errors import UserError, one_line
from nas.problem.evaluation import Candidate, Evaluation
from nas.run.callbacks.callback import Callback, Ended, Evaluated, Started
from nas.run.callbacks.delivery import Deliveries
from nas.run.candidate_log import LOGS, Logged, close_log
from nas.run.heartbeat import FORMAT, read_told, this_driver, write_status
from nas.run.progress import Progress
from nas.run.runner import Session, Work
from nas.run.summary import NO_RESULT, Record, Summary

_log = logging.getLogger(__name__)
_INTERVAL = 1.0  # seconds between two beats
_SHARE = 0.01  # of the time that beats may take: where they cost more, they become rarer,
_RAREST = 10.0  # but not by more than so many seconds
_SHOWN = 2000  # candidates in flight that are listed
SEARCH = "search"


@dataclass
class _Now:
    """What the beat tells beside the history; changed by the search, read by the thread."""

    phase: str = ""
    phase_done: int = 0
    phase_total: int = 0
    num_slots: int = 0
    flights: dict[int, tuple[Candidate, str]] = field(default_factory=dict)
    progress: Progress | None = None
    progress_at: float = 0.0


class Observer:
    """Has a run seen, from its beginning to its end for this process. A context manager.

    Args:
        folder: the run folder, which exists and is locked by this process.
        manifest: as it is there.
        objectives: metric keys.
        callbacks: who is told.
        note: is called on the thread of the search with what a callback, or writing the status, did wrong.
        keep_logs: of so many complete candidates the logs are kept, and of so many failed ones: the latest.
        interval: seconds between two beats.
    """

    def __init__(
        self,
        folder: Path,
        *,
        manifest: Mapping[str, object],
        objectives: Sequence[str],
        callbacks: Sequence[Callback] = (),
        note: Callable[[str], None] = lambda _: None,
        keep_logs: int = 1000,
        interval: float = _INTERVAL,
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._objectives = tuple(objectives)
        self._callbacks = tuple(callbacks)
        self._note = note
        self._interval = interval
        self._keep_logs = keep_logs
        self._logs: dict[bool, deque[int]] = {True: deque(), False: deque()}
        self._summary = Summary(objectives)
        self._now = _Now()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._beats, name="nas-status", daemon=True)
        self._slot_seconds, self._busy_before = 0.0, 0.0
        self._beaten = math.nan
        self._broken = ""
        self._position = 0
        self._deliveries: Deliveries | None = None

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):
            (self._folder / LOGS).mkdir(exist_ok=True)
        self._take_up()
        started = Started(
            folder=self._folder,
            name=self._folder.resolve().name,
            objectives=self._objectives,
            manifest=self._manifest,
            earlier=self._summary.total,
        )
        self._position = self._summary.total
        self._deliveries = Deliveries(self._callbacks, started)
        self._beat("running")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._wake.set()
        self._thread.join(5.0)
        state, reason = _end_of(error)
        self._now.phase, self._now.flights, self._now.num_slots = "", {}, 0
        self._beat(state, reason=reason)
        assert self._deliveries is not None, "it was entered"
        self._deliveries.put(Ended(state=state, reason=reason, progress=self._now.progress))
        self._deliveries.close()
        self._tell_notes()

    def begin(self, phase: str, *, total: int = 0) -> None:
        """A phase of the run begins: ``search``, ``baseline``, ``finish``, ``measure``."""
        with self._lock:
            self._count_slots()
            self._now.phase, self._now.phase_done, self._now.phase_total = phase, 0, total
            self._now.num_slots, self._now.flights = 0, {}
        self._wake.set()

    def logged(self, work: Work, *, phase: str = SEARCH) -> Work:
        """The work, with a log of each candidate."""
        return Logged(work=work, folder=self._folder.resolve() / LOGS, phase=phase)

    def watched(self, session: Session) -> Session:
        """The session, whose candidates in flight are seen, and whose failures point to their logs."""
        return _Watched(session, self)

    def told(self, progress: Progress) -> None:
        """How far the phase is. In the search, callbacks are told of the evaluation that it follows on."""
        with self._lock:
            is_search = self._now.phase == SEARCH
            self._now.phase_done, self._now.phase_total = progress.done, progress.total
            if is_search:
                self._now.progress, self._now.progress_at = progress, time.monotonic()
            queued = max(0, len(self._now.flights) - self._now.num_slots)
        if is_search and progress.latest is not None and self._deliveries is not None:
            self._position += 1
            self._deliveries.put(
                Evaluated(evaluation=progress.latest, progress=progress, queued=queued, position=self._position)
            )
        self._tell_notes()

    def submitted(self, candidate: Candidate, num_slots: int) -> None:
        """A candidate was handed over."""
        with self._lock:
            self._count_slots()
            self._now.flights[candidate.index] = candidate, _iso()
            self._now.num_slots = num_slots

    def ended(self, evaluations: Sequence[Evaluation], num_slots: int) -> list[Evaluation]:
        """Candidates ended: their evaluations, where those that failed say which log tells more."""
        with self._lock:
            self._count_slots()
            self._now.num_slots = num_slots
            self._now.phase_done += len(evaluations)
            for evaluation in evaluations:
                self._now.flights.pop(evaluation.candidate.index, None)
        return [self._with_log(evaluation) for evaluation in evaluations]

    def _with_log(self, evaluation: Evaluation) -> Evaluation:
        if evaluation.status not in ("failed", "timeout"):
            return evaluation
        log = close_log(self._folder, evaluation)
        return replace(evaluation, error=f"{evaluation.error}; log {log}") if log else evaluation

    def _count_slots(self) -> None:
        """Adds the time that the slots were there for the search; the lock is held."""
        moment = time.monotonic()
        if self._now.phase == SEARCH and math.isfinite(self._beaten):
            self._slot_seconds += self._now.num_slots * (moment - self._beaten)
        self._beaten = moment

    def _take_up(self) -> None:
        """Goes on with what an earlier process has told of this run."""
        self._follow()
        earlier = read_told(self._folder, [])
        slots, busy = earlier.get("slot_seconds"), earlier.get("busy_before")
        if isinstance(slots, int | float) and isinstance(busy, int | float) and slots > 0:
            self._slot_seconds, self._busy_before = float(slots), float(busy)
        else:
            self._busy_before = self._summary.busy_seconds

    def _beats(self) -> None:
        interval = self._interval
        while not self._ending.is_set():
            self._wake.wait(interval)
            self._wake.clear()
            if self._ending.is_set():
                return
            started = time.monotonic()
            self._beat("running")
            interval = min(max(self._interval, (time.monotonic() - started) / _SHARE), _RAREST)
            # Whoever wakes it, it does not beat more often than it may.
            self._ending.wait(self._interval)

    def _beat(self, state: str, *, reason: str = "") -> None:
        """Writes the status; what goes wrong is told once, for the search can do without."""
        try:
            self._follow()
            write_status(self._folder, self._record(state, reason))
        except Exception as error:  # a full disk, a folder that was taken away
            if not self._broken:
                self._broken = f"the status of the run cannot be told: {one_line(error)}"

    def _follow(self) -> None:
        with contextlib.suppress(OSError):
            self._summary.follow(self._folder / "history.jsonl", each=self._tidy)

    def _tidy(self, record: Record) -> None:
        """Removes the logs of candidates that are long past."""
        kept = self._logs[record.get("status") in NO_RESULT]
        kept.append(int(record["index"]))
        if len(kept) > self._keep_logs:
            with contextlib.suppress(OSError):
                (self._folder / LOGS / f"{kept.popleft()}.jsonl").unlink()

    def _record(self, state: str, reason: str) -> dict[str, Any]:
        with self._lock:
            self._count_slots()
            now = replace(self._now, flights=dict(self._now.flights))
        progress = now.progress
        record: dict[str, Any] = {
            "format": FORMAT,
            "state": state,
            "reason": reason,
            "beat": _iso(),
            **this_driver(),
            "phase": now.phase,
            "phase_done": now.phase_done,
            "phase_total": now.phase_total,
            "num_slots": now.num_slots,
            "slot_seconds": self._slot_seconds,
            "busy_before": self._busy_before,
            "running": [
                {
                    "index": candidate.index,
                    "digest": candidate.architecture.digest,
                    "epochs": candidate.fidelity.epochs,
                    "since": since,
                }
                for candidate, since in list(now.flights.values())[:_SHOWN]
            ],
            "summary": self._summary.to_record(),
        }
        if progress is not None:
            left = progress.seconds_left - (time.monotonic() - now.progress_at)
            record |= {
                "total": progress.total,
                "best": dict(progress.best),
                "hypervolume": progress.hypervolume if math.isfinite(progress.hypervolume) else None,
                "seconds_left": max(0.0, left) if math.isfinite(left) and now.phase == SEARCH else None,
            }
        return record

    def _tell_notes(self) -> None:
        notes = self._deliveries.notes() if self._deliveries is not None else []
        if self._broken and self._broken != "told":
            notes.append(self._broken)
            self._broken = "told"
        for text in notes:
            self._note(text)


class _Watched:
    """A session that is seen: see `nas.run.runner.Session`."""

    def __init__(self, session: Session, observer: Observer) -> None:
        self._session = session
        self._observer = observer

    @property
    def num_slots(self) -> int:
        return self._session.num_slots

    @property
    def room(self) -> int:
        return self._session.room

    @property
    def in_flight(self) -> tuple[Candidate, ...]:
        return self._session.in_flight

    def submit(self, candidate: Candidate) -> None:
        self._session.submit(candidate)
        self._observer.submitted(candidate, self._session.num_slots)

    def wait(self, timeout: float | None = None) -> list[Evaluation]:
        return self._observer.ended(self._session.wait(timeout), self._session.num_slots)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Self:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, trace)


def _end_of(error: BaseException | None) -> tuple[Any, str]:
    if error is None:
        return "finished", ""
    if isinstance(error, KeyboardInterrupt):
        return "stopped", ""
    return "failed", str(error) if isinstance(error, UserError) else one_line(error)


def _iso() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
