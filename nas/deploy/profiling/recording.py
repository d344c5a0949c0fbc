"""Runs under onnxruntime's profiler.

Responsible for the record of one graph: the mean time of each operator over undisturbed runs, and the gauge beside it.

The profiler rounds each time down to a microsecond and spends two to four of them on an operator that does nothing, in
which a small operator drowns. A few such operators run along as gauges, so that this price is known for the very runs
it was paid in.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from onnx import ModelProto, helper, numpy_helper

from nas.deploy.profiling.records import Shape
from nas.device.card import Device
from nas.device.cores import bound_core
from nas.device.where.places import Local, Place
from nas.errors import UserError

_GAUGE = "nas_gauge"
_NUM_GAUGES = 8
_SUFFIX = "_kernel_time"
_LEAST_RUNS, _MOST_RUNS, _MOST_EVENTS, _BUDGET_MS = 20, 400, 60_000, 4_000.0


@dataclass(frozen=True, kw_only=True)
class KernelRecord:
    """What the profiler says of one operator.

    Attributes:
        time_us: mean over the runs that count.
        in_shape, out_shape: of its first input and output.
        dtype: element type of the output.
        activation_bytes, output_bytes: of its inputs that are no constants, and of its outputs.
    """

    time_us: float
    in_shape: Shape
    out_shape: Shape
    dtype: str
    activation_bytes: int
    output_bytes: int


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Runs of a graph under the profiler.

    Attributes:
        kernels: operator's name -> its record, in the order in which they ran.
        run_ms: mean of a whole run, over the runs that count.
        runs: that count.
        gauge_us: what is recorded for an operator that does next to nothing.
    """

    kernels: Mapping[str, KernelRecord]
    run_ms: float
    runs: int
    gauge_us: float


class Recorder(Protocol):
    """Runs a graph under the profiler at some place."""

    def record(self, model: ModelProto, options: Any, device: Device, *, latency_ms: float) -> Recording:
        """Args: the runtime's own graph, the session options that files are timed with, threads and batch, and about
        how long an unprofiled run takes."""
        ...


@dataclass(frozen=True, kw_only=True)
class LocalRecorder:
    """On the machine that runs the command, bound to the core that files are timed on."""

    cores: tuple[int, ...] = ()

    def record(self, model: ModelProto, options: Any, device: Device, *, latency_ms: float) -> Recording:
        """See `Recorder`."""
        runs = _num_runs(latency_ms, len(model.graph.node))
        with tempfile.TemporaryDirectory(prefix="nas-profile-") as folder, bound_core(device.threads, self.cores):
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is optimised
            options.optimized_model_filepath = ""
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            content = _with_gauges(model).SerializeToString()
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            binding = session.io_binding()
            for name, array in _feeds(model, device.batch).items():
                binding.bind_cpu_input(name, array)
            for entry in session.get_outputs():
                binding.bind_output(entry.name, "cpu")
            for _ in range(runs):
                session.run_with_iobinding(binding)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return read_events(events)


def recorder_at(place: Place, *, device: str) -> Recorder:
    """The recorder for a place.

    Raises:
        UserError: operators cannot be recorded there.
    """
    if isinstance(place, Local):
        return LocalRecorder(cores=place.cores)
    problem = f"must be this machine to profile operators, {device} is elsewhere ({place})"
    raise UserError("device", problem, "profile with device=this-machine; latencies there: nas calibrate")


def read_events(events: Sequence[Mapping[str, Any]]) -> Recording:
    """The record in a list of events as onnxruntime's profiler writes them.

    The first tenth of the runs warms up; of the others the faster half counts.
    """
    runs: list[tuple[float, dict[str, float]]] = []
    seen: dict[str, Mapping[str, Any]] = {}
    current: dict[str, float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            name = event["name"].removesuffix(_SUFFIX)
            current[name] = current.get(name, 0.0) + event["dur"]
            seen.setdefault(name, event["args"])
        elif event.get("name") == "model_run":
            runs.append((event["dur"], current))
            current = {}
    assert runs, "the profiler recorded no run"
    later = sorted(runs[len(runs) // 10 :], key=lambda run: run[0])
    counted = later[: max(1, len(later) // 2)]
    mean = {name: float(np.mean([times.get(name, 0.0) for _, times in counted])) for name in seen}
    gauges = [time for name, time in mean.items() if name.startswith(_GAUGE)]
    return Recording(
        kernels={name: _kernel(mean[name], args) for name, args in seen.items() if not name.startswith(_GAUGE)},
        run_ms=float(np.mean([time for time, _ in counted])) / 1e3,
        runs=len(counted),
        gauge_us=float(np.median(gauges)) if gauges else 0.0,
    )


def _kernel(time_us: float, args: Mapping[str, Any]) -> KernelRecord:
    inputs, outputs = args.get("input_type_shape") or [], args.get("output_type_shape") or []
    dtype, out_shape = next(iter(outputs[0].items())) if outputs else ("", ())
    return KernelRecord(
        time_us=time_us,
        in_shape=tuple(next(iter(inputs[0].values()))) if inputs else (),
        out_shape=tuple(out_shape),
        dtype=dtype,
        activation_bytes=int(args.get("activation_size") or 0),
        output_bytes=int(args.get("output_size") or 0),
    )


def _num_runs(latency_ms: float, num_operators: int) -> int:
    """As many runs as time allows; the record must neither fill the memory nor the profiler's own buffer."""
    most = min(_MOST_RUNS, _MOST_EVENTS // max(num_operators + _NUM_GAUGES, 1))
    return max(_LEAST_RUNS, min(most, int(_BUDGET_MS / max(latency_ms, 1e-3))))


def _with_gauges(model: ModelProto) -> ModelProto:
    """The graph with operators beside it that copy one number."""
    gauged = ModelProto.FromString(model.SerializeToString())
    gauged.graph.initializer.append(numpy_helper.from_array(np.zeros(1, dtype=np.float32), _GAUGE))
    last = _GAUGE
    for index in range(_NUM_GAUGES):
        name = f"{_GAUGE}{index}"
        gauged.graph.node.append(helper.make_node("Identity", [last], [name], name=name))
        last = name
    return gauged


def _feeds(model: ModelProto, batch: int) -> dict[str, np.ndarray]:
    """Random inputs; open dimensions are the batch."""
    rng = np.random.default_rng(0)
    constants = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name not in constants:
            kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            shape = [dim.dim_value or batch for dim in value.type.tensor_type.shape.dim]
            floats = np.issubdtype(kind, np.floating)
            feeds[value.name] = np.asarray(rng.standard_normal(shape) if floats else rng.integers(0, 2, shape), kind)
    return feeds
