"""How many candidates to have in flight while nodes come and go and others use the same cluster.

Responsible for three numbers: how many candidates the nodes of now can hold, how many may wait in a queue, and how
many are wanted there. A candidate in a queue was proposed from an older history than it could have been, so that no
more wait than are likely to begin soon: the queue is cut to one when something in it is stuck, and doubles as long as
what is submitted begins at once, as in congestion control [Jacobson1988].

Where candidates are short, a worker that has to be found first is idle for a good part of the time. So many are then
submitted ahead as end while one is handed over: the workers times the share of a candidate that a handover takes, by
Little's law, and a margin.

References:
    [Halfin1981] S. Halfin, W. Whitt. Heavy-Traffic Limits for Queues with Many Exponential Servers. Oper. Res., 1981.
    [Jacobson1988] V. Jacobson. Congestion Avoidance and Control. SIGCOMM 1988.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

STUCK_AFTER = 15.0  # seconds in the queue after which there is no room for more; a worker process starts in under 10
SOON = 5.0  # seconds in which what is submitted should begin
LOOK_EVERY = 2.0  # seconds between looks at the nodes
HANDOVER = 0.2  # seconds at most until a worker of another node is found: nodes tell one another every 0.1 what is free
KEPT_SECONDS = 20.0  # for which a worker goes on with queued candidates; with longer ones a handover is no loss
_RECENT = 64  # candidates whose durations are looked at


class Slots:
    """The number of candidates that may be in flight.

    Args:
        capacity: asks the cluster how many candidates fit on its nodes as a whole; None where it does not answer.
        most: more than which are never wanted; None: as many as fit.
        clock: seconds that only go forward, e.g. `time.monotonic`.
    """

    def __init__(self, capacity: Callable[[], int | None], *, most: int | None, clock: Callable[[], float]) -> None:
        self._capacity = capacity
        self._most = most
        self._clock = clock
        self._fitting = 1
        self._fitting = self._wanted()
        self._looked = clock()
        self._queue = self._fitting
        self._seconds: deque[float] = deque(maxlen=_RECENT)

    @property
    def fitting(self) -> int:
        """Candidates that the nodes hold, at least 1: with none, one waits for a node to come."""
        return self._fitting

    def look(self) -> None:
        """Asks the cluster again, if the last look is `LOOK_EVERY` seconds ago. One that is silent keeps its size."""
        moment = self._clock()
        if moment - self._looked < LOOK_EVERY:
            return
        self._looked = moment
        before, self._fitting = self._fitting, self._wanted()
        if self._fitting > before:
            self._queue += self._fitting - before

    def began(self, waited: float) -> None:
        """A candidate has begun, ``waited`` seconds after it was submitted."""
        if waited <= SOON:
            self._queue = min(2 * self._queue, self._fitting)

    def ended(self, seconds: float) -> None:
        """A candidate has ended, ``seconds`` after it began."""
        self._seconds.append(seconds)

    def stuck(self, longest_wait: float) -> None:
        """The longest wait of what is still in the queue, in seconds."""
        if longest_wait > STUCK_AFTER:
            self._queue = 1

    def allowed(self, begun: int) -> int:
        """How many may be in flight, when ``begun`` of them are running: at least 1."""
        return max(1, min(self._fitting, begun + max(1, self._queue)))

    @property
    def ahead(self) -> int:
        """How many more than `allowed` are wanted, so that a worker that becomes free goes on at once.

        None where there is one worker, whose history then follows from the seed alone, where candidates take long, and
        where others hold the nodes.
        """
        if self._fitting == 1 or self._queue < self._fitting or not self._seconds:
            return 0
        mean = max(sum(self._seconds) / len(self._seconds), 1e-9)
        ending = self._fitting * HANDOVER / mean
        # Twice the root on top of the mean: candidates do not end evenly. Square-root staffing [Halfin1981].
        return 0 if mean >= KEPT_SECONDS else min(self._fitting, math.ceil(ending + 2 * math.sqrt(ending)))

    def _wanted(self) -> int:
        fitting = self._capacity()
        if fitting is None:
            return self._fitting
        return max(1, fitting if self._most is None else min(self._most, fitting))
