"""Events on their way to callbacks, each on a thread of its own.

Responsible for keeping a search apart from who is told of it: nothing that a callback does, or does not do, holds the
search up, and what goes wrong is told once.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Sequence

from nas.errors import UserError, one_line
from nas.run.callbacks.callback import Callback, Ended, Evaluated, Listener, Started

_LONGEST_QUEUE = 10_000  # events; further ones are left out
_CLOSING_SECONDS = 30.0  # that all callbacks have together to close
_LEAST_SECONDS = 0.2  # that each of them has


class Deliveries:
    """The callbacks of a run. Errors are told where the search runs, not on the threads.

    Args:
        callbacks: to be told.
        started: what they are told first.
    """

    def __init__(self, callbacks: Sequence[Callback], started: Started) -> None:
        self._each = [_Delivery(callback, started) for callback in callbacks]

    def put(self, event: Evaluated | Ended) -> None:
        """Has all callbacks told, and returns at once."""
        for delivery in self._each:
            delivery.put(event)

    def notes(self) -> list[str]:
        """What went wrong since the last call, one line each."""
        return [note for delivery in self._each for note in delivery.take_notes()]

    def close(self, *, seconds: float = _CLOSING_SECONDS) -> None:
        """Waits until all events are told, but no longer than ``seconds``; what hangs is left behind, and told."""
        for delivery in self._each:
            delivery.finish()
        until = time.monotonic() + seconds
        for delivery in self._each:
            # One that hangs must not take the time of those behind it.
            delivery.join(max(_LEAST_SECONDS, until - time.monotonic()))


class _Delivery:
    """One callback with its thread and its queue."""

    def __init__(self, callback: Callback, started: Started) -> None:
        self._callback = callback
        self._started = started
        self._queue: queue.Queue[Evaluated | Ended | None] = queue.Queue(_LONGEST_QUEUE)
        self._notes: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._missed = 0
        self._failed = 0
        # A daemon: one that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"nas-callback-{callback.name}", daemon=True)
        self._thread.start()

    def put(self, event: Evaluated | Ended) -> None:
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._missed += 1
            if self._missed == 1:
                self._notes.put(f"callbacks.{self._callback.name} is too slow: events are left out")

    def take_notes(self) -> list[str]:
        notes = []
        while not self._notes.empty():
            notes.append(self._notes.get())
        return notes

    def finish(self) -> None:
        """Has it end after what is in its queue; a queue that is full is one of a callback that hangs."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)

    def join(self, seconds: float) -> None:
        """Waits for its end."""
        self._thread.join(seconds)
        name = self._callback.name
        if self._thread.is_alive():
            self._notes.put(f"callbacks.{name} did not end in time and was left behind")
        if self._failed > 1 or self._missed:
            self._notes.put(f"callbacks.{name}: {self._failed} events failed and {self._missed} were left out")

    def _run(self) -> None:
        listener: Listener | None = None
        with self._guarded():
            listener = self._callback.open(self._started)
        while (event := self._queue.get()) is not None:
            if listener is not None:
                with self._guarded():
                    listener(event)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """What is raised within it is told the first time, and goes no further."""
        try:
            yield
        except BaseException as error:  # a callback may raise anything, SystemExit included
            self._failed += 1
            if self._failed == 1:
                text = str(error) if isinstance(error, UserError) else one_line(error)
                self._notes.put(f"callbacks.{self._callback.name} failed, the search goes on: {text}")
