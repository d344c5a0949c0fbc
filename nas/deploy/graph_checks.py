"""What a quantised ONNX file holds: types, scales and zero points of its Q/DQ nodes.

Responsible for facts about a graph that decide where it runs in integers: TensorRT, XNNPACK, Core ML and most NPUs take
only signed 8-bit values whose zero points are all 0, and biases that stay float. It changes nothing and runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_SIGNED = frozenset({"INT4", "INT8", "INT16"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantiser:
    """One QuantizeLinear or DequantizeLinear node.

    Attributes:
        op_type: which of the two.
        value: name of the float value: what is quantised, or what comes out of dequantising.
        kind: of the integers, as ONNX calls it: ``INT8``, ``UINT8``, ``INT4``, ``INT32``...; ``""`` where the graph
            does not tell.
        scale: scalar, ``(channels,)`` or one a block; empty where it is computed at run time.
        zero_point: of the scale's shape, int64; empty where it is computed at run time; zeros where the node has none.
        stored: whether it dequantises a constant of the file: a weight or a bias.
    """

    op_type: str
    value: str
    kind: str
    scale: np.ndarray
    zero_point: np.ndarray
    stored: bool


def quantisers(model: ModelProto) -> tuple[Quantiser, ...]:
    """The Q/DQ nodes of a model in the order of its graph; empty for a float model or one of integer operators."""
    constants = _constants(model.graph)
    kinds = _kinds(model.graph, constants)
    return tuple(_quantiser(node, constants, kinds) for node in model.graph.node if node.op_type in _PAIR)


def zero_points(model: ModelProto) -> dict[str, np.ndarray]:
    """Value (see `Quantiser.value`) -> zero point, int64; of QuantizeLinear where a value has both nodes."""
    found: dict[str, np.ndarray] = {}
    for entry in quantisers(model):
        if entry.op_type == "QuantizeLinear" or entry.value not in found:
            found[entry.value] = entry.zero_point
    return found


def asymmetries(model: ModelProto) -> tuple[str, ...]:
    """Why a runtime that wants signed, symmetric values would not take the file; one line a finding, empty if it would.

    Findings: a Q/DQ pair of unsigned values, a zero point that is not 0 or not known before it runs, a bias kept as 32
    bit integers.
    """
    return tuple(dict.fromkeys(line for entry in quantisers(model) for line in _findings(entry)))


def is_symmetric(model: ModelProto) -> bool:
    """Whether the model has Q/DQ nodes, and all of them are signed with zero points of 0, and no bias is quantised.

    A float model is not symmetric: there is nothing that a runtime could run in integers.
    """
    return bool(quantisers(model)) and not asymmetries(model)


def integer_kinds(model: ModelProto) -> dict[str, int]:
    """Kind of integers -> values that are quantised to it, weights included: ``{"INT8": 40, "INT32": 9}``."""
    counts: dict[str, set[str]] = {}
    for entry in quantisers(model):
        counts.setdefault(entry.kind, set()).add(entry.value)
    return {kind: len(values) for kind, values in sorted(counts.items())}


def _findings(entry: Quantiser) -> Iterator[str]:
    if entry.kind == "INT32":
        yield f"{entry.value} is a bias in 32 bit integers"
        return
    if entry.kind not in _SIGNED:
        yield f"{entry.value} is quantised to {entry.kind or 'an unknown type'}, not to signed integers"
    if not entry.zero_point.size:
        yield f"{entry.value} has a zero point that is computed at run time"
    elif entry.zero_point.any():
        worst = int(entry.zero_point.ravel()[np.abs(entry.zero_point.ravel()).argmax()])
        yield f"{entry.value} has a zero point of {worst}"


def _quantiser(node: NodeProto, constants: Mapping[str, TensorProto], kinds: Mapping[str, str]) -> Quantiser:
    quantises = node.op_type == "QuantizeLinear"
    integers = node.output[0] if quantises else node.input[0]
    scale = constants.get(node.input[1])
    known_scale = np.zeros(0) if scale is None else numpy_helper.to_array(scale).astype(np.float64)
    return Quantiser(
        op_type=node.op_type,
        value=node.input[0] if quantises else node.output[0],
        kind=kinds.get(integers, ""),
        scale=known_scale,
        zero_point=_zero_point(node, constants, known_scale.shape),
        stored=not quantises and integers in constants,
    )


def _zero_point(node: NodeProto, constants: Mapping[str, TensorProto], shape: tuple[int, ...]) -> np.ndarray:
    if len(node.input) < 3 or not node.input[2]:
        return np.zeros(shape, np.int64)
    known = constants.get(node.input[2])
    return np.zeros(0, np.int64) if known is None else numpy_helper.to_array(known).astype(np.int64)


def _constants(graph: GraphProto) -> dict[str, TensorProto]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], entry.t) for entry in node.attribute if entry.name == "value")
    return found


def _kinds(graph: GraphProto, constants: Mapping[str, TensorProto]) -> dict[str, str]:
    """Integer value -> its type, from constants and from what QuantizeLinear is told to make."""
    found = {name: TensorProto.DataType.Name(tensor.data_type) for name, tensor in constants.items()}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            told = {entry.name: entry.i for entry in node.attribute}.get("output_dtype", 0)
            if told:
                found[node.output[0]] = TensorProto.DataType.Name(told)
            else:
                found[node.output[0]] = found.get(node.input[2], "") if len(node.input) > 2 else "UINT8"
        elif node.op_type in ("Transpose", "Reshape", "Identity") and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found
