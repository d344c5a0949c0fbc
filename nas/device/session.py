"""Files made ready to run: a session, with inputs and outputs bound once.

Responsible for how a file is run when it is timed: threads, optimisation level, inputs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from nas.device.protocol import TimedDevice
from nas.errors import UserError, first_line

_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_INTEGERS = {"tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(int32)": np.int32, "tensor(int64)": np.int64}


class Stopwatch(Protocol):
    """A file that is ready to be timed."""

    def block(self, warmups: int, runs: int) -> tuple[np.ndarray, np.ndarray]:
        """After ``warmups`` untimed runs, of each run ``(runs,)``: wall time in ms, wall time over processor time."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadyModel:
    """A file that can be run over and over on the same inputs.

    Inputs and outputs are bound once, so that a run is the runtime's own work and not the conversion of arrays.
    """

    path: Path
    session: Any
    binding: Any

    def block(self, warmups: int, runs: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Stopwatch`."""
        self.warm_up(warmups)
        return self.timed_runs(runs)

    def warm_up(self, runs: int) -> None:
        for _ in range(runs):
            self.session.run_with_iobinding(self.binding)

    def timed_runs(self, runs: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each run ``(runs,)``: wall time in ms, and wall time over the thread's processor time."""
        run, binding, wall, cpu = (
            self.session.run_with_iobinding,
            self.binding,
            time.perf_counter_ns,
            time.thread_time_ns,
        )
        # Read the processor time outside of what is timed: reading it takes half a microsecond.
        wall_ns, cpu_ns = [0] * runs, [0] * runs
        for index in range(runs):
            cpu_start = cpu()
            start = wall()
            run(binding)
            wall_ns[index] = wall() - start
            cpu_ns[index] = cpu() - cpu_start
        times_ns = np.array(wall_ns, dtype=np.float64)
        return times_ns / 1e6, times_ns / np.maximum(np.array(cpu_ns, dtype=np.float64), 1.0)


def ready(path: Path, device: TimedDevice, *, content: bytes | None = None) -> ReadyModel:
    """The file at ``path``, loaded for ``device`` and bound to random inputs that depend on their shapes only.

    Args:
        path: of the file.
        device: threads and batch to use.
        content: what is in the file, where it is no file of its own; None: it is read.

    Raises:
        UserError: the file is missing, onnxruntime cannot load or run it, or it does not take the device's batch.
    """
    if content is None and not path.is_file():
        raise UserError(str(path), "must be an ONNX file, there is none", "export the model again")
    source = str(path) if content is None else content
    try:
        session = onnxruntime.InferenceSession(source, _options(device), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public base class
        advice = "export the model again, or update onnxruntime"
        raise UserError(str(path), f"cannot be loaded by onnxruntime, {first_line(error)}", advice) from error
    binding = session.io_binding()
    rng = np.random.default_rng(0)
    for entry in session.get_inputs():
        shape = _concrete_shape(path, entry.name, entry.shape, device.batch)
        binding.bind_cpu_input(entry.name, _random_input(path, entry.name, entry.type, shape, rng))
    for entry in session.get_outputs():
        binding.bind_output(entry.name, "cpu")
    model = ReadyModel(path=path, session=session, binding=binding)
    try:
        model.warm_up(1)
    except Exception as error:  # as above
        raise UserError(str(path), f"cannot be run by onnxruntime, {first_line(error)}") from error
    return model


def _options(device: TimedDevice) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = device.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    # Threads that spin while they wait would take the core from what is timed next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _concrete_shape(path: Path, name: str, shape: list[int | str | None], batch: int) -> tuple[int, ...]:
    """The shape with the device's batch where the file leaves its first dimension open."""
    sizes: list[int] = []
    for position, size in enumerate(shape):
        if isinstance(size, int) and size > 0:
            if position == 0 and len(shape) > 1 and size != batch:
                raise UserError(str(path), f"must take the device's batch of {batch}, its input '{name}' takes {size}")
            sizes.append(size)
        elif position == 0:
            sizes.append(batch)
        else:
            problem = f"must have fixed sizes but for the batch, its input '{name}' has {shape}"
            raise UserError(str(path), problem, "export it with its own resolution")
    return tuple(sizes)


def _random_input(path: Path, name: str, kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if kind in _FLOATS:
        return np.asarray(rng.standard_normal(shape), dtype=_FLOATS[kind])
    if kind in _INTEGERS:
        return np.asarray(rng.integers(0, 2, shape), dtype=_INTEGERS[kind])
    known = ", ".join((*_FLOATS, *_INTEGERS))
    raise UserError(str(path), f"must take numbers ({known}), its input '{name}' is {kind}")
