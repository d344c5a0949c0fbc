"""Weights of matrix products in 4 bits.

Responsible for MatMul and Gemm operators with constant weights: blocks of weights along the inner dimension share a
scale, activations stay as they are. The form is ONNX's own (DequantizeLinear by blocks, opset 21), which onnxruntime
fuses with the product into one kernel; the weights are never unpacked in memory.

A scale is chosen among several for the least squared error of its block [Lin2024]: a narrower range clips the largest
weight and represents the others better.

References:
    [Lin2024] Lin et al., AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration, MLSys 2024
        (the search for a clipping range).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper, version_converter

PRODUCTS = ("MatMul", "Gemm")
OPSET = 21
_IR_VERSION = 10
_LEAST, _MOST = -8, 7
_RANGES = np.linspace(0.6, 1.15, 23)
"""Tried as the largest weight that is represented, relative to the largest one that is there."""


def constant_products(model: ModelProto) -> tuple[str, ...]:
    """Names of the operators that `to_int4` takes: products whose second factor is a constant matrix."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    return tuple(node.name for node in model.graph.node if _is_product(node, constants))


def to_int4(model: ModelProto, operators: Collection[str], *, block: int) -> ModelProto:
    """The model with the weights of these operators in 4 bits; changed in place, and returned.

    Ensures: operators keep their names and values; a Gemm becomes a MatMul of its name and an Add. Opset and IR version
    are raised to what the form needs.

    Args:
        model: float, or with other operators quantised already.
        operators: among `constant_products`.
        block: weights that share a scale.
    """
    model = _raised(model)
    products_of_gemms(model, operators)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    packed: dict[str, str] = {}
    for node in graph.node:
        if node.name in operators and _is_product(node, constants):
            name = node.input[1]
            if name not in packed:
                packed[name] = f"{name}_float"
                weight = numpy_helper.to_array(constants[name]).astype(np.float32)
                nodes.append(_dequantise(graph, name, weight, block))
            node.input[1] = packed[name]
        nodes.append(node)
    replace_nodes(graph, nodes)
    return model


def quantise_blocks(weight: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Integers ``(k, n)`` from -8 to 7 and scales ``(ceil(k / block), n)`` float32 > 0 for weights ``(k, n)``.

    ``integers * scale`` of each block is as near as one of the tried scales makes it, by the sum of squares.
    """
    inner, outer = weight.shape
    num_blocks = -(-inner // block)
    padded = np.zeros((num_blocks * block, outer), np.float32)
    padded[:inner] = weight
    blocks = padded.reshape(num_blocks, block, outer)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    best = np.full((num_blocks, 1, outer), np.inf, np.float32)
    scale = np.ones_like(best)
    # The range is not symmetric: its larger end goes to the side of the largest weight.
    for end in (_MOST, _LEAST):
        for share in _RANGES:
            tried = np.where(largest > 0, largest * share / abs(end), 1.0).astype(np.float32)
            error = np.square(_rounded(blocks, tried) * tried - blocks).sum(axis=1, keepdims=True)
            scale, best = np.where(error < best, tried, scale), np.minimum(error, best)
    integers = _rounded(blocks, scale).reshape(num_blocks * block, outer)[:inner]
    return integers.astype(np.int8), scale[:, 0, :].astype(np.float32)


def products_of_gemms(model: ModelProto, operators: Collection[str]) -> None:
    """Makes each of these Gemms with constant weights a MatMul of its name and an Add; in place."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type != "Gemm" or node.name not in operators or not _is_product(node, constants):
            nodes.append(node)
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        name = f"{node.input[1]}_transposed" if _flag(node, "transB") else node.input[1]
        if name not in constants:
            constants[name] = numpy_helper.from_array(np.ascontiguousarray(weight.T), name)
            graph.initializer.append(constants[name])
        biased = len(node.input) > 2 and bool(node.input[2])
        output = f"{node.output[0]}_product" if biased else node.output[0]
        nodes.append(helper.make_node("MatMul", [node.input[0], name], [output], name=node.name))
        if biased:
            nodes.append(helper.make_node("Add", [output, node.input[2]], [node.output[0]], name=f"{node.name}_Add"))
    replace_nodes(graph, nodes)


def replace_nodes(graph: GraphProto, nodes: list[NodeProto]) -> None:
    """Puts other nodes into a graph; they may be its own."""
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def _raised(model: ModelProto) -> ModelProto:
    entry = next(entry for entry in model.opset_import if not entry.domain)
    if entry.version < OPSET - 1:
        model = version_converter.convert_version(model, OPSET)
    elif entry.version < OPSET:
        entry.version = OPSET  # it only admits more types
    model.ir_version = max(model.ir_version, _IR_VERSION)
    return model


def _is_product(node: NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type not in PRODUCTS:
        return False
    weight = constants.get(node.input[1])
    if weight is None or len(weight.dims) != 2 or weight.data_type != onnx.TensorProto.FLOAT:
        return False
    if node.op_type == "MatMul":
        return True
    factors = [entry.f for entry in node.attribute if entry.name in ("alpha", "beta")]
    return not _flag(node, "transA") and all(factor == 1 for factor in factors)


def _flag(node: NodeProto, name: str) -> bool:
    return any(entry.i for entry in node.attribute if entry.name == name)


def _dequantise(graph: GraphProto, name: str, weight: np.ndarray, block: int) -> NodeProto:
    """A node that gives the weights back; adds what it reads to the graph."""
    integers, scale = quantise_blocks(weight, block)
    graph.initializer.append(_packed(integers, f"{name}_int4"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    inputs = [f"{name}_int4", f"{name}_scale"]
    return helper.make_node("DequantizeLinear", inputs, [f"{name}_float"], axis=0, block_size=block)


def _packed(integers: np.ndarray, name: str) -> onnx.TensorProto:
    """Two integers a byte, the first in the lower half, as ONNX wants them."""
    nibbles = integers.ravel().astype(np.uint8) & 0xF
    pairs = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8)).reshape(-1, 2)
    content = (pairs[:, 0] | (pairs[:, 1] << 4)).astype(np.uint8).tobytes()
    return onnx.TensorProto(name=name, data_type=onnx.TensorProto.INT4, dims=integers.shape, raw_data=content)


def _rounded(blocks: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(np.rint(blocks / scale), _LEAST, _MOST))
