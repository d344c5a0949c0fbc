"""What an operator does, and how many multiply-accumulates that is.

Responsible for rules by ONNX operator, on the shapes of the file's own graph: channels that the runtime adds to fill a
block are not work that anybody asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from onnx import GraphProto, NodeProto, ValueInfoProto

from nas.deploy.profiling.records import Family, Shape

Shapes = Mapping[str, Shape]
_Rule = Callable[[NodeProto, Shapes], int | None]

_QUANTISING = frozenset({"QuantizeLinear", "DequantizeLinear"})
# Where these take their weights.
_CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
CONVERTING = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "Transpose", "ReorderInput"}
    | {"ReorderOutput", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Concat", "Split", "Slice", "Pad"}
    | {"Expand", "Constant", "ConstantOfShape", "Shape", "Dropout"}
)
"""Operators that compute nothing: they change layout or type, cut or join."""
_POOLING = frozenset(
    {"AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "QLinearAveragePool", "QLinearGlobalAveragePool"}
    | {"ReduceMean", "QLinearReduceMean"}
)
_NORMALISATION = frozenset(
    {"BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "GroupNorm"}
    | {"SkipLayerNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"}
    | {"RMSNormalization", "LpNormalization", "LRN"}
)
_ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp", "Neg", "Abs", "Max", "Min", "Sum", "Where", "Erf", "Clip"}
    | {"Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Mish"}
    | {"Gelu", "FastGelu", "BiasGelu", "QuickGelu", "Swish", "Softmax", "LogSoftmax", "QLinearAdd", "QLinearMul"}
    | {"QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"}
)
# Multiply-accumulates of these depend on more than shapes that are at hand, or are counted differently by everyone.
_UNKNOWN = frozenset(
    {"Attention", "MultiHeadAttention", "QAttention", "GroupQueryAttention", "LSTM", "GRU", "RNN", "Einsum"}
    | {"DynamicQuantizeLSTM", "MatMulNBits", "If", "Loop", "Scan", "DeformConv"}
)


def shapes_of(graph: GraphProto) -> dict[str, Shape]:
    """Shapes of all values of a graph that are known in full; a quantised constant's also under its float name."""
    shapes = {value.name: shape for value in _values(graph) if (shape := _shape(value)) is not None}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in _QUANTISING and node.input[0] in shapes:
            shapes.setdefault(node.output[0], shapes[node.input[0]])
    return shapes


def node_macs(node: NodeProto, shapes: Shapes) -> int | None:
    """Multiply-accumulates of an operator: of convolutions and matrix products; 0 for all others, None if unknown."""
    if node.op_type in _UNKNOWN:
        return None
    rule = _RULES.get(node.op_type)
    return 0 if rule is None else rule(node, shapes)


def family_of(node: NodeProto, shapes: Shapes) -> Family:
    """What kind of work an operator is."""
    kind = node.op_type
    if kind in _CONVOLUTIONS or kind == "ConvTranspose":
        return _kind_of_convolution(node, shapes)
    if kind in _RULES or kind in ("MatMulNBits", "FusedMatMul"):
        return "linear"
    for family, kinds in _FAMILIES.items():
        if kind in kinds:
            return family
    return "other"


_FAMILIES: dict[Family, frozenset[str]] = {
    "convert": CONVERTING,
    "pool": _POOLING,
    "normalisation": _NORMALISATION,
    "elementwise": _ELEMENTWISE,
}


def _kind_of_convolution(node: NodeProto, shapes: Shapes) -> Family:
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    weight = shapes.get(node.input[_CONVOLUTIONS.get(node.op_type, 1)])
    if groups > 1:
        return "depthwise" if weight is not None and weight[1] == 1 and weight[0] == groups else "grouped"
    return "pointwise" if weight is not None and math.prod(weight[2:]) == 1 else "conv"


def _convolution(node: NodeProto, shapes: Shapes) -> int | None:
    weight, out = shapes.get(node.input[_CONVOLUTIONS[node.op_type]]), shapes.get(node.output[0])
    return None if weight is None or out is None else math.prod(out) * math.prod(weight[1:])


def _transposed(node: NodeProto, shapes: Shapes) -> int | None:
    weight, into = shapes.get(node.input[1]), shapes.get(node.input[0])
    return None if weight is None or into is None else math.prod(into) * math.prod(weight[1:])


def _gemm(node: NodeProto, shapes: Shapes) -> int | None:
    a, out = shapes.get(node.input[0]), shapes.get(node.output[0])
    if a is None or out is None:
        return None
    transposed = any(attribute.i for attribute in node.attribute if attribute.name == "transA")
    return math.prod(out) * a[0 if transposed else 1]


def _matmul(node: NodeProto, shapes: Shapes) -> int | None:
    a, out = shapes.get(node.input[0]), shapes.get(node.output[0])
    return None if not a or out is None else math.prod(out) * a[-1]


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "QGemm": _gemm,
    "FusedGemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
}

HEAVY = frozenset({*_RULES, "FusedMatMul", "MatMulNBits"})
"""Operators that are most of the work of any kernel that they are part of."""

LIGHT = _ELEMENTWISE | _NORMALISATION
"""Operators that a runtime may compute along with the kernel before them."""


def _values(graph: GraphProto) -> list[ValueInfoProto]:
    return [*graph.input, *graph.value_info, *graph.output]


def _shape(value: ValueInfoProto) -> Shape | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]
    return None if min(sizes, default=0) < 0 else tuple(sizes)
