"""Operators of a quantised file that onnxruntime computes in floats after all.

Responsible for reading that off the graph that onnxruntime really runs. A quantised file only says where numbers are
rounded to 8 bits: the runtime then looks for integer kernels, and where it has none it converts to floats and back,
which costs more than the operator itself (a hard sigmoid between two convolutions, say).
"""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from onnx import GraphProto, NodeProto, TensorProto

from nas.deploy.profiling.graphs import read_graphs
from nas.deploy.profiling.labels import label_operators
from nas.deploy.profiling.mapping import origins
from nas.deploy.profiling.work import HEAVY

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})
_EIGHT_BITS = frozenset({TensorProto.INT8, TensorProto.UINT8})
_CONVERTING = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "DynamicQuantizeLinear"})
# They move numbers about, or work on sizes.
_MOVING = frozenset(
    {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape", "Gather", "Slice", "Concat"}
    | {"Split", "ReorderInput", "ReorderOutput", "Expand", "Constant", "ConstantOfShape"}
)
_INTEGER = ("QLinear", "QGemm", "QAttention", "ConvInteger", "MatMulInteger", "DynamicQuantize", "MatMulNBits")


def float_operators(path: Path, *, heavy_only: bool = False) -> tuple[tuple[str, str], ...]:
    """Operators that run in floats, as (ONNX type, module path joined by ``/``), in the order of the runtime's graph.

    Args:
        path: a quantised ONNX file.
        heavy_only: convolutions and matrix products only, which is what weight-only precisions are about.

    Raises:
        UserError: onnxruntime cannot load the file.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    graphs = read_graphs(path, options, batch=1)
    kernels = list(graphs.runtime.graph.node)
    labels = label_operators(graphs.source.graph)
    found = []
    for node, kind, origin in zip(kernels, _input_kinds(graphs.runtime.graph), origins(graphs), strict=True):
        if kind not in _FLOATS or node.op_type in _CONVERTING | _MOVING or node.op_type.startswith(_INTEGER):
            continue
        if heavy_only and node.op_type.removeprefix("Fused") not in HEAVY:
            continue
        place = labels[origin.operator] if origin.operator is not None else ()
        found.append((node.op_type.removeprefix("Fused"), "/".join(place)))
    return tuple(dict.fromkeys(found))


def _input_kinds(graph: GraphProto) -> list[int]:
    """Element type of each operator's first input; 0 where nothing tells."""
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    kinds |= {value.name: value.type.tensor_type.elem_type for value in graph.input}
    makers = {name: node for node in graph.node for name in node.output if name}
    return [_kind(node.input[0], kinds, makers) if node.input else 0 for node in graph.node]


def _kind(name: str, kinds: dict[str, int], makers: dict[str, NodeProto]) -> int:
    """Element type of a value, from what makes it; follows operators that hand types on, without recursion."""
    trail = []
    while name not in kinds:
        node = makers.get(name)
        trail.append(name)
        if node is None or len(trail) > len(makers):
            kinds[name] = 0
        elif (known := _made(node, kinds)) is not None:
            kinds[name] = known
        elif node.input:
            name = node.input[0]
        else:
            kinds[name] = 0
    for passed in trail:
        kinds[passed] = kinds[name]
    return kinds[name]


def _made(node: NodeProto, kinds: dict[str, int]) -> int | None:
    """Element type of an operator's output where its type alone tells; None where it is that of its input."""
    if node.op_type == "QuantizeLinear":
        return int(kinds.get(node.input[2], TensorProto.UINT8) if len(node.input) > 2 else TensorProto.UINT8)
    if node.op_type == "Cast":
        return int(next(entry.i for entry in node.attribute if entry.name == "to"))
    if node.op_type in ("ConvInteger", "MatMulInteger"):
        return int(TensorProto.INT32)
    if node.op_type == "DynamicQuantizeLinear":
        return int(TensorProto.UINT8)
    if node.op_type in ("DequantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits"):
        return int(TensorProto.FLOAT)
    if node.op_type == "QGemm":
        return int(TensorProto.UINT8 if len(node.input) > 8 else TensorProto.FLOAT)
    if node.op_type.startswith("QLinear"):
        return int(TensorProto.UINT8)
    return None
