"""The core that a thread is bound to while it times something.

Responsible for binding and for undoing it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager


class BoundCore:
    """A binding of the calling thread to one core at a time. A live handle: make it with `bound_core`."""

    def __init__(self, cores: tuple[int, ...]) -> None:
        self._cores = cores
        self._index = 0

    @property
    def cores(self) -> tuple[int, ...]:
        """All cores that the thread may be bound to; empty where nothing can be bound."""
        return self._cores

    @property
    def current(self) -> int | None:
        """The core that the thread is bound to; None where nothing is."""
        return self._cores[self._index] if self._cores else None

    def move(self) -> None:
        """Binds to the next core; nothing where there is no other."""
        if len(self._cores) > 1:
            self._index = (self._index + 1) % len(self._cores)
            os.sched_setaffinity(0, {self._cores[self._index]})


@contextmanager
def bound_core(threads: int = 1) -> Iterator[BoundCore]:
    """Binds the calling thread to one of its cores, and gives its former cores back at the end.

    Nothing is bound where the system cannot do it or where a model may use several threads.
    """
    if threads > 1 or platform.system() != "Linux":
        yield BoundCore(())
        return
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
    except OSError:
        yield BoundCore(())
        return
    try:
        yield BoundCore(tuple(sorted(allowed)))
    finally:
        os.sched_setaffinity(0, allowed)
