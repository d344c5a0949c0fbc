"""Costs of networks: multiply-accumulates, parameters, bytes of a file, bytes of activations.

Responsible for turning a layer table into `Costs`, of a stage or of a whole network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from nas.model.build import build
from nas.model.features import FEATURE_NAMES, add_features
from nas.model.fusion import CONVOLUTIONS, Kernel, fuse, peak_bytes
from nas.model.layer_table import LayerTable
from nas.model.shapes import InputShape, input_shape_of
from nas.model.trace import trace
from nas.space.network import Network

FILE_BYTES = 300
"""Of an exported file besides its operations: header, names of inputs and outputs."""

OPERATION_BYTES = 200
"""Of one operation in an exported file: type, attributes, names; 120 to 220 were seen, longer for deeper names."""

QUANTISED_BYTES = 700
"""Further bytes of a quantised convolution or linear layer: the nodes around it that quantise and dequantise."""

QUANTISED_CHANNEL_BYTES = 13
"""Of an output channel of a quantised layer: scale and zero point of weights (5), scale and zero point of bias (8)."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a network costs wherever it runs. Additive over stages but for the peak, which is their maximum.

    Attributes:
        macs: multiply-accumulates of one image: convolutions and linear layers, biases not counted.
        parameters: numbers that training may change, before folding.
        size_bytes: precision (``float32``, ``float16``, ``int8``) -> bytes of the exported file. Weights are exact
            (normalisation folded); what the graph around them takes is an estimate of some 200 bytes an operation.
        peak_activation_bytes: most float32 activations alive at once for one image, on the fused graph;
            see `nas.model.fusion.peak_bytes`.
    """

    macs: int
    parameters: int
    size_bytes: Mapping[str, int]
    peak_activation_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Costs of a part of a network at one input shape, and its features.

    Attributes:
        out_shape: that the next part gets.
        costs: ``size_bytes`` without the constant part of a file.
        features: ``(F,)`` in the order of `FEATURE_NAMES`.
    """

    out_shape: tuple[int, ...]
    costs: Costs
    features: Sequence[float] = field(repr=False)


def figures_of(table: LayerTable, parameters: int) -> Figures:
    """Costs and features of a traced part with that many parameters."""
    kernels, output = fuse(table)
    features = [0.0] * len(FEATURE_NAMES)
    add_features(kernels, table, features)
    costs = Costs(
        macs=table.macs,
        parameters=parameters,
        size_bytes=_size_bytes(kernels),
        peak_activation_bytes=peak_bytes(table, kernels, output),
    )
    return Figures(out_shape=table.out_shape, costs=costs, features=features)


def module_costs(module: nn.Module, input_shape: InputShape) -> Costs:
    """Costs of any module that takes ``(n, *input_shape)`` and returns one tensor.

    Raises:
        UserError: it cannot take the shape.
    """
    figures = figures_of(trace(module, input_shape), sum(p.numel() for p in module.parameters()))
    sizes = {precision: size + FILE_BYTES for precision, size in figures.costs.size_bytes.items()}
    return Costs(
        macs=figures.costs.macs,
        parameters=figures.costs.parameters,
        size_bytes=sizes,
        peak_activation_bytes=figures.costs.peak_activation_bytes,
    )


def network_costs(network: Network, *, input_shape: InputShape, num_classes: int, allow: Sequence[str] = ()) -> Costs:
    """Costs of a network for data of a shape; builds it without allocating weights.

    Args:
        network: without holes.
        input_shape: channels, height, width of the data.
        num_classes: of the classifier.
        allow: packages that custom operators may come from.

    Raises:
        UserError: it cannot be built.
    """
    with torch.device("meta"):
        module = build(network, input_shape=input_shape, num_classes=num_classes, allow=allow)
    return module_costs(module, input_shape_of(network, input_shape))


def _size_bytes(kernels: Sequence[Kernel]) -> dict[str, int]:
    operations = OPERATION_BYTES * sum(kernel.num_operations for kernel in kernels)
    stored = sum(kernel.stored for kernel in kernels)
    int8 = operations
    for kernel in kernels:
        kind = kernel.row.kind
        if kind in CONVOLUTIONS or kind == "linear":
            channels = kernel.row.out_shape[0]
            weights = kernel.row.stored - (channels if kernel.row.has_bias else 0)
            biases = kernel.stored - weights
            int8 += weights + 4 * biases + QUANTISED_CHANNEL_BYTES * channels + QUANTISED_BYTES
        else:
            int8 += 4 * kernel.stored
    return {"float32": 4 * stored + operations, "float16": 2 * stored + operations, "int8": int8}
