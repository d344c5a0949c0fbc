"""Costs of networks: multiply-accumulates, parameters, bytes of a file, bytes of activations.

Responsible for turning a layer table into `Costs`, of a stage or of a whole network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from nas.model.build import build
from nas.model.features import FEATURE_NAMES, add_features
from nas.model.file_costs import FILE_BYTES, FileCosts, file_costs
from nas.model.fusion import fuse, peak_bytes
from nas.model.layer_table import LayerTable
from nas.model.shapes import InputShape, input_shape_of
from nas.model.trace import trace
from nas.space.network import Network


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a network costs wherever it runs. Additive over stages but for the peak, which is their maximum.

    Attributes:
        macs: multiply-accumulates of one image: convolutions and linear layers, biases not counted.
        parameters: numbers that training may change, before folding.
        size_bytes: precision (one of `nas.space.deployment.PRECISIONS`) -> bytes of the exported file. Weights are
            exact (normalisation folded); what the graph around them takes is an estimate of some 200 bytes an
            operation.
        peak_activation_bytes: most float32 activations alive at once for one image, on the fused graph;
            see `nas.model.fusion.peak_bytes`.
        files: precision -> figures of its file.
    """

    macs: int
    parameters: int
    size_bytes: Mapping[str, int]
    peak_activation_bytes: int
    files: Mapping[str, FileCosts] = field(default_factory=dict, repr=False)


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
    peak = peak_bytes(table, kernels, output)
    files = file_costs(kernels, peak)
    costs = Costs(
        macs=table.macs,
        parameters=parameters,
        size_bytes={precision: file.size_bytes for precision, file in files.items()},
        peak_activation_bytes=peak,
        files=files,
    )
    return Figures(out_shape=table.out_shape, costs=costs, features=features)


def module_costs(module: nn.Module, input_shape: InputShape) -> Costs:
    """Costs of any module that takes ``(n, *input_shape)`` and returns one tensor.

    Raises:
        UserError: it cannot take the shape.
    """
    figures = figures_of(trace(module, input_shape), sum(p.numel() for p in module.parameters()))
    files = {
        precision: replace(file, size_bytes=file.size_bytes + FILE_BYTES)
        for precision, file in figures.costs.files.items()
    }
    return Costs(
        macs=figures.costs.macs,
        parameters=figures.costs.parameters,
        size_bytes={precision: file.size_bytes for precision, file in files.items()},
        peak_activation_bytes=figures.costs.peak_activation_bytes,
        files=files,
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
