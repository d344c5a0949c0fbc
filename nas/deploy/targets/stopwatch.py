"""How long a run takes in a runtime that `nas.device` does not time.

Responsible for one figure that tells a slow file from a fast one while files are verified. It is no measurement by the
protocol of `nas.device.timing`: no core is bound and nobody waits until the machine is quiet.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_WARMUPS, _RUNS, _SECONDS = 3, 60, 0.3


def least_ms(run: Callable[[], object]) -> float:
    """Milliseconds of the quickest of some runs: at most 60 of them, and about 0.3 s in all."""
    for _ in range(_WARMUPS):
        run()
    least, end = float("inf"), time.perf_counter() + _SECONDS
    for _ in range(_RUNS):
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        least = min(least, now - start)
        if now > end:
            break
    return least * 1e3
