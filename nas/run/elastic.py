"""How many candidates to have in flight while nodes come and go and others use the same cluster.

Responsible for two numbers: how many candidates the nodes of now can hold, and how many may wait in a queue. A
candidate in a queue was proposed from an older history than it could have been, so that no more wait than are likely to
begin soon: the queue is cut to one when something in it is stuck, and doubles as long as what is submitted begins at
once, as in congestion control [Jacobson1988].

References:
    [Jacobson1988] V. Jacobson. Congestion Avoidance and Control. SIGCOMM 1988.
"""

from __future__ import annotations

from collections.abc import Callable

STUCK_AFTER = 15.0  # seconds in the queue after which there is no room for more; a worker process starts in under 10
SOON = 5.0  # seconds in which what is submitted should begin
LOOK_EVERY = 2.0  # seconds between looks at the nodes


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

    def stuck(self, longest_wait: float) -> None:
        """The longest wait of what is still in the queue, in seconds."""
        if longest_wait > STUCK_AFTER:
            self._queue = 1

    def allowed(self, begun: int) -> int:
        """How many may be in flight, when ``begun`` of them are running: at least 1."""
        return max(1, min(self._fitting, begun + max(1, self._queue)))

    def _wanted(self) -> int:
        fitting = self._capacity()
        if fitting is None:
            return self._fitting
        return max(1, fitting if self._most is None else min(self._most, fitting))
