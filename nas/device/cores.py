"""The core that a thread is bound to while it times something.

Responsible for binding and for undoing it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from nas.errors import UserError


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
def bound_core(threads: int = 1, cores: Collection[int] = ()) -> Iterator[BoundCore]:
    """Binds the calling thread to one of its cores, and gives its former cores back at the end.

    Nothing is bound where the system cannot do it. A model of several threads gets all of ``cores`` and stays on them.

    Args:
        threads: of the models that are timed.
        cores: that may be used, empty: all.

    Raises:
        UserError: one of ``cores`` is not there, or cores were named where none can be bound.
    """
    if platform.system() != "Linux":
        if cores:
            raise UserError("where.cores", f"can be bound on Linux only, this is {platform.system()}", "leave them out")
        yield BoundCore(())
        return
    allowed = os.sched_getaffinity(0)
    missing = sorted(set(cores) - allowed)
    if missing:
        problem = f"must be processors that may be used there, {_listed(missing)} may not"
        raise UserError("where.cores", problem, f"these may: {_listed(sorted(allowed))}")
    usable = set(cores) or allowed
    if threads > 1 and not cores:
        yield BoundCore(())
        return
    try:
        os.sched_setaffinity(0, {min(usable)} if threads == 1 else usable)
    except OSError:
        yield BoundCore(())
        return
    try:
        yield BoundCore(tuple(sorted(usable)) if threads == 1 else ())
    finally:
        os.sched_setaffinity(0, allowed)


def _listed(cores: Collection[int]) -> str:
    return ", ".join(map(str, cores))
