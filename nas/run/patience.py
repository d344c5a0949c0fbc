"""Waiting for storage that cannot be written for a while: a full disk, a server that is away.

Responsible for how long, how often, and what is said meanwhile. The search pauses; nothing that has ended is forgotten.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nas.errors import UserError
from nas.units import format_seconds

_FIRST, _LONGEST = 1.0, 30.0  # seconds between two tries, doubled each time
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for storage.

    Attributes:
        seconds: after which the search ends with the error; 0 for at once.
        tell: is told that it waits, and that it goes on.
        sleep: waits; it may be interrupted.
        clock: seconds that only go forward.
    """

    seconds: float = 3600.0
    tell: Callable[[str], None] = _log.warning
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


@dataclass
class Outage:
    """One time in which nothing can be written."""

    patience: Patience
    began: float | None = None
    pause: float = field(default=_FIRST)

    def wait(self, error: UserError) -> None:
        """Waits for a while; raises ``error`` where that is of no use any more, or is not about storage."""
        if not isinstance(error.__cause__, OSError):
            raise error
        moment = self.patience.clock()
        if self.began is None:
            self.began = moment
            if self.patience.seconds > 0:
                limit = format_seconds(self.patience.seconds)
                self.patience.tell(f"{error.where}: {error.problem}; the search waits for it, {limit} at most")
        if moment - self.began >= self.patience.seconds:
            raise error
        self.patience.sleep(min(self.pause, self.patience.seconds))
        self.pause = min(2 * self.pause, _LONGEST)

    def over(self) -> None:
        """It can be written again."""
        if self.began is not None:
            seconds = format_seconds(self.patience.clock() - self.began)
            self.patience.tell(f"it can be written again after {seconds}; the search goes on, nothing is lost")
