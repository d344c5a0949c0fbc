"""Profiles of files: where the time goes, operator by operator, in the terms of the network.

Responsible for putting together what the profiler, the timing protocol and the two graphs say. The profiler gives
shares only: it slows small networks down several times over. The total is the latency of the file itself by the timing
protocol, without any profiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import NodeProto

from nas.deploy.profiling.graphs import KERNEL_PREFIX, Graphs, read_graphs, read_source
from nas.deploy.profiling.labels import label_operators, stage_depth
from nas.deploy.profiling.mapping import Origin, origins
from nas.deploy.profiling.recording import KernelRecord, Recorder, Recording, recorder_at
from nas.deploy.profiling.records import FileProfile, OperatorProfile
from nas.deploy.profiling.work import Shapes, family_of, node_macs, shapes_of
from nas.device.card import Device
from nas.device.protocol import FULL, TimingProtocol
from nas.device.session import ready
from nas.device.timing import measure
from nas.device.where.places import Local
from nas.errors import UserError, first_line

# A kernel that the profiler cannot tell from an empty one still takes some time.
_LEAST_US = 0.1


def profile_file(
    path: Path,
    device: Device,
    *,
    protocol: TimingProtocol = FULL,
    recorder: Recorder | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FileProfile:
    """The profile of an ONNX file on ``device``.

    Args:
        path: with fixed input sizes but for the batch.
        device: threads and batch to use, and where.
        protocol: for the latency.
        recorder: of the operators; None: the one for the device's place.
        progress: called with (1, 1) when the latency is known, as `nas.device.timing.measure` does.

    Raises:
        UserError: no such file, not an ONNX file, one that onnxruntime cannot run with fixed sizes, or a device that
            is elsewhere.
    """
    recorder = recorder or recorder_at(device.where, device=device.name)
    read_source(path)  # says what is wrong with a file before anything is timed
    model = ready(path, device)
    cores = device.where.cores if isinstance(device.where, Local) else ()
    latency = measure([path], device=device, protocol=protocol, progress=progress, cores=cores)[0]
    options = model.session.get_session_options()  # those that it was timed with
    graphs = read_graphs(path, options, batch=device.batch)
    try:
        recording = recorder.record(graphs.runtime, options, device, latency_ms=latency.latency_ms)
    except UserError:
        raise
    except Exception as error:  # onnxruntime's errors share no public base class
        raise UserError(str(path), f"cannot be profiled, {first_line(error)}", "update onnxruntime") from error
    return FileProfile(
        file=path,
        device=device.name,
        threads=device.threads,
        batch=device.batch,
        latency=latency,
        profiled_ms=recording.run_ms,
        runs=recording.runs,
        gauge_us=recording.gauge_us,
        operators=operator_profiles(graphs, recording, latency_ms=latency.latency_ms),
    )


def operator_profiles(graphs: Graphs, recording: Recording, *, latency_ms: float) -> tuple[OperatorProfile, ...]:
    """The operators of a recording in the terms of the file, in the order in which they ran.

    Args:
        graphs: the file's graph and the one that was recorded.
        recording: of the runtime's graph.
        latency_ms: that the shares are shares of.
    """
    index_of = {f"{KERNEL_PREFIX}{index}": index for index in range(len(graphs.kernel_names))}
    ran = [(index_of[name], kernel) for name, kernel in recording.kernels.items() if name in index_of]
    own_us = [max(kernel.time_us - recording.gauge_us, _LEAST_US) for _, kernel in ran]
    total_us = sum(own_us)
    describe = _Describing(graphs)
    return tuple(
        describe.operator(index, kernel, share=time_us / total_us, latency_ms=latency_ms)
        for (index, kernel), time_us in zip(ran, own_us, strict=True)
    )


@dataclass(frozen=True, kw_only=True)
class _Place:
    stage: str
    layer: str


class _Describing:
    """What is known about the kernels of a graph beside their times."""

    def __init__(self, graphs: Graphs) -> None:
        self._source: Sequence[NodeProto] = list(graphs.source.graph.node)
        self._kernels: Sequence[NodeProto] = list(graphs.runtime.graph.node)
        self._shapes: Shapes = shapes_of(graphs.source.graph)
        self._origins = origins(graphs)
        self._paths = label_operators(graphs.source.graph)
        self._depth = stage_depth(self._paths)
        self._bytes = {
            tensor.name: math.prod(tensor.dims) * _element_bytes(tensor.data_type)
            for tensor in graphs.runtime.graph.initializer
        }

    def operator(self, index: int, kernel: KernelRecord, *, share: float, latency_ms: float) -> OperatorProfile:
        node, origin = self._kernels[index], self._origins[index]
        place = self._place(origin)
        macs = [node_macs(self._source[operator], self._shapes) for operator in origin.computes]
        main = self._main(node, origin)
        return OperatorProfile(
            kind=node.op_type,
            family=family_of(main, self._shapes),
            computes=tuple(self._source[operator].op_type for operator in origin.computes),
            stage=place.stage,
            layer=place.layer,
            mapped=origin.mapped if place.layer else "none",
            recorded_us=kernel.time_us,
            share=share,
            time_ms=share * latency_ms,
            in_shape=kernel.in_shape,
            out_shape=kernel.out_shape,
            dtype=kernel.dtype,
            activation_bytes=kernel.activation_bytes,
            parameter_bytes=sum(self._bytes.get(name, 0) for name in dict.fromkeys(node.input)),
            output_bytes=kernel.output_bytes,
            macs=None if None in macs else sum(number or 0 for number in macs),
        )

    def _main(self, node: NodeProto, origin: Origin) -> NodeProto:
        """The operator of the file that is most of a kernel's work; the kernel itself where it computes none."""
        if not origin.computes:
            return node
        return max(
            (self._source[operator] for operator in origin.computes),
            key=lambda operator: node_macs(operator, self._shapes) or 0,
        )

    def _place(self, origin: Origin) -> _Place:
        path = self._paths[origin.operator] if origin.operator is not None else ()
        return _Place(stage="/".join(path[: self._depth]), layer="/".join(path))


def _element_bytes(data_type: int) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)
