"""Memory for activations: what a file needs beside its weights while it runs on one sample.

Responsible for the liveness of tensors on the graph that onnxruntime really runs. The graph is the one it optimises for
this machine's processor (level "all"): activations are fused into convolutions there, and on x86 channels are padded to
blocks of 8 or 16. At lower levels a hard-swish would count two tensors that never exist. Shapes and element types
are read off a run of that graph with every value exposed, as its blocked operators have no shape inference.

Counted: the input, the output and every value in between, for as long as a later operator reads it. An operator writes
over an input where onnxruntime may do so (element-wise operators and fused sums, if nobody else reads that input
later and the size is equal). Not counted: weights, and the scratch memory within an operator.

References:
    [Pisarchyk2020] Pisarchyk, Lee, Efficient Memory Management for Deep Neural Net Inference, MLSys workshop 2020.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto

from nas.errors import UserError, first_line

# Operators whose output is their first input's memory, seen differently.
_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
# Operators that may write over one of their inputs.
_ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Clip", "Relu", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "HardSigmoid", "HardSwish"}
    | {"Tanh", "Softplus", "Gelu", "QuickGelu"}
)
# Convolutions take the tensor that is to be added to their result as fourth input, and add to it in place.
_FUSED_SUM = {"FusedConv": 3, "Conv": 3}
_NCHWC = "com.microsoft.nchwc"


@dataclass(frozen=True, kw_only=True)
class ActivationMemory:
    """Memory for one sample.

    Attributes:
        peak_bytes: sum of the tensors alive at the worst moment: a lower bound on any allocation.
        arena_bytes: of one block with an offset a tensor, largest tensor first ([Pisarchyk2020], greedy by size):
            what a static allocator reaches. At least ``peak_bytes``.
        num_tensors: values that have memory of their own.
    """

    peak_bytes: int
    arena_bytes: int
    num_tensors: int


@dataclass(kw_only=True)
class _Buffer:
    """Memory of one or several values: its size, and the first and last step at which it is alive."""

    size: int
    first: int
    last: int


def peak_activation_bytes(path: Path) -> int:
    """Bytes of activations alive at the worst moment of a run on one sample; see `activation_memory`."""
    return activation_memory(path).peak_bytes


def activation_memory(path: Path) -> ActivationMemory:
    """Memory for activations that a file needs on this machine, for a batch of one.

    Raises:
        UserError: the file is missing, or is none that onnxruntime can load and run.
    """
    if not path.is_file():
        raise UserError(str(path), "must be an ONNX file, there is none", "export the model again")
    try:
        model = _optimised(path)
        sizes = _value_bytes(model)
    except Exception as error:  # errors of onnx and onnxruntime share no public base class
        raise UserError(str(path), f"cannot be analysed, {first_line(error)}", "export the model again") from error
    buffers = _buffers(model.graph, sizes)
    steps = range(len(model.graph.node))
    live = [sum(buffer.size for buffer in buffers if buffer.first <= step <= buffer.last) for step in steps]
    return ActivationMemory(
        peak_bytes=max(live, default=0), arena_bytes=_arena_bytes(buffers), num_tensors=len(buffers)
    )


def _optimised(path: Path) -> ModelProto:
    """The graph that onnxruntime runs, with every free dimension set to 1."""
    free = {
        dim.dim_param
        for value in onnx.load(path, load_external_data=False).graph.input
        for dim in value.type.tensor_type.shape.dim
        if dim.dim_param
    }
    with tempfile.TemporaryDirectory(prefix="nas-memory-") as folder:
        target = Path(folder) / "optimised.onnx"
        options = _options(onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
        options.optimized_model_filepath = str(target)
        for name in free:
            options.add_free_dimension_override_by_name(name, 1)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(target)


def _value_bytes(model: ModelProto) -> dict[str, int]:
    """Bytes of every value that is no constant, from a run with all of them as outputs."""
    exposed = ModelProto.FromString(model.SerializeToString())
    outputs = {value.name for value in model.graph.output}
    extra = [name for node in model.graph.node for name in node.output if name and name not in outputs]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra)
    options = _options(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {entry.name: _zeros(value) for entry, value in zip(session.get_inputs(), model.graph.input, strict=True)}
    names = [entry.name for entry in session.get_outputs()]
    found = dict(zip(names, session.run(names, feeds), strict=True))
    return {name: np.asarray(value).nbytes for name, value in (*feeds.items(), *found.items())}


def _zeros(value: onnx.ValueInfoProto) -> np.ndarray:
    kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return np.zeros([dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim], dtype=kind)


def _options(level: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # it warns that a graph for this processor is written, which is meant
    return options


def _in_order(graph: GraphProto) -> list[NodeProto]:
    """The operators in an order in which each has its inputs: depth first from the outputs, inputs as they are listed.

    onnxruntime runs them depth first as well, but the order in a file that it writes is not the same each time.
    """
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    ordered: list[NodeProto] = []
    done: set[int] = set()
    todo = [maker[value.name] for value in reversed(graph.output) if value.name in maker]
    while todo:
        index = todo[-1]
        needed = [maker[name] for name in graph.node[index].input if name in maker and maker[name] not in done]
        if needed and index not in done:
            todo.extend(reversed(needed))
            continue
        todo.pop()
        if index not in done:
            done.add(index)
            ordered.append(graph.node[index])
    return ordered


def _buffers(graph: GraphProto, sizes: dict[str, int]) -> list[_Buffer]:
    """The memory of the graph's values, shared where an operator writes over its input."""
    nodes = _in_order(graph)
    last_read = {name: step for step, node in enumerate(nodes) for name in node.input}
    end = len(nodes) - 1
    last_read |= {value.name: end for value in graph.output}
    inputs = [value.name for value in graph.input]
    of = {name: _Buffer(size=sizes[name], first=0, last=last_read.get(name, 0)) for name in inputs}
    buffers = list(of.values())
    protected = {id(buffer) for buffer in buffers}  # an input is the caller's memory
    for step, node in enumerate(nodes):
        for name in filter(None, node.output):
            until = last_read.get(name, step)
            shared = _overwritten(node, step, sizes[name], of, protected)
            if shared is None:
                of[name] = _Buffer(size=sizes[name], first=step, last=until)
                buffers.append(of[name])
            else:
                shared.last = max(shared.last, until)
                of[name] = shared
    return buffers


def _overwritten(node: NodeProto, step: int, size: int, of: dict[str, _Buffer], protected: set[int]) -> _Buffer | None:
    """The memory that the operator's output takes over; None where it needs its own."""
    if node.op_type in _VIEWS:
        return of.get(node.input[0])
    candidates: Iterable[str] = ()
    if node.op_type in _ELEMENTWISE:
        candidates = node.input
    elif node.op_type in _FUSED_SUM and (node.domain == _NCHWC or node.op_type == "FusedConv"):
        candidates = node.input[_FUSED_SUM[node.op_type] :][:1]
    for name in candidates:
        buffer = of.get(name)
        if buffer is not None and buffer.last == step and buffer.size == size and id(buffer) not in protected:
            return buffer
    return None


def _arena_bytes(buffers: list[_Buffer]) -> int:
    """Size of a block in which every buffer has an offset for its life: the largest first, each as low as it fits."""
    placed: list[tuple[int, _Buffer]] = []
    for buffer in sorted(buffers, key=lambda entry: (-entry.size, entry.first)):
        offset = 0
        for start, other in sorted(placed, key=lambda entry: entry[0]):
            together = other.first <= buffer.last and buffer.first <= other.last
            if together and start < offset + buffer.size:
                offset = max(offset, start + other.size)
        placed.append((offset, buffer))
    return max((offset + buffer.size for offset, buffer in placed), default=0)
