"""Weights in 8 bits, activations quantised while the network runs.

Responsible for the form that needs no calibration: a range is taken from each activation as it comes. onnxruntime's
kernels for it are fast for matrix products with int8 weights, and slower than float32 for convolutions, whose weights
are stored unsigned as its kernel for signed ones is four times slower again: for convolutional networks the file is
smaller and not faster (`experiments/quantisation`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path

import onnx
from onnx import ModelProto
from onnxruntime import quantization

from nas.deploy.precision.int4 import constant_products, products_of_gemms


def dynamic_operators(model: ModelProto) -> tuple[str, ...]:
    """Names of the operators that `to_dynamic` takes: convolutions and matrix products with constant weights."""
    return (*convolutions(model), *constant_products(model))


def convolutions(model: ModelProto) -> tuple[str, ...]:
    """Names of the convolutions with constant weights."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return tuple(node.name for node in model.graph.node if node.op_type == "Conv" and node.input[1] in constants)


def to_dynamic(model: ModelProto, operators: Collection[str]) -> ModelProto:
    """A model with these operators quantised at run time.

    Args:
        model: float, or with other operators quantised already; its Gemms among ``operators`` become MatMuls, in place.
        operators: among `dynamic_operators`.
    """
    products_of_gemms(model, operators)
    kinds = {
        "Conv": ([name for name in convolutions(model) if name in operators], quantization.QuantType.QUInt8),
        "MatMul": ([name for name in constant_products(model) if name in operators], quantization.QuantType.QInt8),
    }
    with tempfile.TemporaryDirectory(prefix="nas-dynamic-") as folder:
        path = Path(folder) / "dynamic.onnx"
        for kind, (names, weights) in kinds.items():
            if names:
                quantization.quantize_dynamic(
                    model,
                    path,
                    op_types_to_quantize=[kind],
                    per_channel=True,
                    weight_type=weights,
                    nodes_to_quantize=names,
                )
                model = onnx.load(path)
    return model
