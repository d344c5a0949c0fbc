"""Files of onnxruntime and of OpenVINO, ready to be timed side by side by the protocol of `nas.device.timing`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.deploy.judge import session
from nas.deploy.targets.openvino import pinned_session
from nas.device.session import Stopwatch


@dataclass(frozen=True)
class Clock:
    """A run that is timed from outside; the process's time, as a runtime may use a thread of its own."""

    run: Callable[[], object]

    def block(self, warmups: int, runs: int) -> tuple[np.ndarray, np.ndarray]:
        for _ in range(warmups):
            self.run()
        wall, cpu = np.zeros(runs), np.zeros(runs)
        for index in range(runs):
            cpu_start = time.process_time_ns()
            start = time.perf_counter_ns()
            self.run()
            wall[index] = time.perf_counter_ns() - start
            cpu[index] = time.process_time_ns() - cpu_start
        return wall / 1e6, wall / np.maximum(cpu, 1.0)


def clocks(path: Path) -> Stopwatch:
    """The file on one thread, for one image; both runtimes are given the same array each time."""
    rng = np.random.default_rng(0)
    if path.suffix == ".xml":
        compiled = pinned_session(path)
        image = rng.standard_normal(list(compiled.input(0).shape), dtype=np.float32)
        request = compiled.create_infer_request()
        return Clock(lambda: request.infer({0: image}, share_inputs=True))
    loaded = session(path)
    entry = loaded.get_inputs()[0]
    image = rng.standard_normal([1, *entry.shape[1:]], dtype=np.float32)
    return Clock(lambda: loaded.run(None, {entry.name: image}))
