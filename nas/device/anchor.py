"""The anchor: a small model of known behaviour that tells whether the machine is undisturbed right now.

On a shared machine a neighbour on the same physical core slows small models by half for a tenth of a second or for
minutes, and neither load average nor processor time shows it. The anchor's latency does: it has two levels, far apart.
Responsible for knowing the undisturbed level and for waiting for it.
"""

from __future__ import annotations

import math
import time
from bisect import insort
from pathlib import Path
from pkgutil import get_data

from nas.device.cores import BoundCore
from nas.device.protocol import TimingProtocol
from nas.device.session import ReadyModel, Stopwatch, ready

ANCHOR = Path(__file__).with_name("anchor.onnx")
_PROBES = 30
_PAUSE_S = 0.005
_LOW_QUANTILE = 0.05


class _OneThread:
    """How the anchor is run, whatever the device."""

    name, threads, batch = "anchor", 1, 1


def anchor_model() -> ReadyModel:
    """The anchor in this machine's onnxruntime; also where this package is imported from a zip file."""
    content = get_data("nas.device", ANCHOR.name)
    assert content is not None
    return ready(ANCHOR, _OneThread(), content=content)


class Anchor:
    """The anchor model with all latencies that it has shown. A live handle of one call of `measure`."""

    def __init__(
        self, model: Stopwatch, protocol: TimingProtocol, core: BoundCore, *, reference_ms: float | None = None
    ) -> None:
        """Args: reference_ms: its undisturbed latency as known from before; None: it is found out here."""
        self._model = model
        self._protocol = protocol
        self._core = core
        self._known_ms = math.inf if reference_ms is None else reference_ms
        self._seen_ms: list[float] = []
        self._wait_left_s = protocol.max_wait_s
        for _ in range(_PROBES):
            for _ in core.cores or (0,):
                self.time()
                core.move()
            time.sleep(_PAUSE_S)

    @property
    def has_reference(self) -> bool:
        """Whether its undisturbed latency was known from before."""
        return math.isfinite(self._known_ms)

    @property
    def level_ms(self) -> float:
        """Its undisturbed latency: a low quantile of all that was seen, or the one from before where that is lower.

        Not the minimum, so that one lucky block does not make all others look disturbed.
        """
        return min(self._known_ms, self.seen_level_ms)

    @property
    def seen_level_ms(self) -> float:
        """The low quantile of what was seen in this session alone."""
        return self._seen_ms[max(2, int(_LOW_QUANTILE * len(self._seen_ms)))]

    def time(self) -> float:
        """Its latency now: the minimum of a block of runs, in ms."""
        times_ms, _ = self._model.block(self._protocol.warmups, self._protocol.runs)
        latency_ms = float(times_ms.min())
        insort(self._seen_ms, latency_ms)
        return latency_ms

    def is_quiet(self, latency_ms: float) -> bool:
        """Whether ``latency_ms`` is one of an undisturbed machine, after all that was seen so far."""
        return latency_ms <= self.level_ms * (1 + self._protocol.max_drift)

    def wait_until_quiet(self) -> float:
        """Its latency once it is undisturbed; or the last one, when the time for waiting is used up.

        Each time it is not, the thread moves to another core and pauses.
        """
        started = time.perf_counter()
        while True:
            latency_ms = self.time()
            waited_s = time.perf_counter() - started
            if self.is_quiet(latency_ms):
                break
            if waited_s >= self._wait_left_s:
                break
            self._core.move()
            time.sleep(_PAUSE_S)
        self._wait_left_s = max(0.0, self._wait_left_s - waited_s)
        return latency_ms
