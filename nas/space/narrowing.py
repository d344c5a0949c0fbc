"""Width: the same network with a share of its channels.

Responsible for how many channels a layer keeps.
"""

from __future__ import annotations

import math

from nas.space.network import Cell, Edge, Layer

STEP = 8
"""Channels of a narrower layer are a multiple of this: vector units and accelerators work on as many at once."""


def narrowed_channels(channels: int, width: float) -> int:
    """The channels that are left of ``channels``: the multiple of 8 nearest to the share, halves up, and at least 8.

    Never more than there were: a layer of 6 channels keeps 6, and one of 12 has 8 at every width from 0.5 on that is
    below 1. Multiples of 16 are what widths in quarters tell apart: 16, 32 and 48 give 8, 16, 24 at 0.5 and 16, 24, 40
    at 0.75.
    """
    if width == 1:
        return channels
    return min(channels, max(STEP, STEP * math.floor(channels * width / STEP + 0.5)))


def narrowed(stage: Layer | Cell, width: float) -> Layer | Cell:
    """A stage with a share of its channels; the same object where nothing changes.

    The parameter ``channels`` of every operator is scaled, custom ones included. What follows from it (hidden channels
    of a block, an operator that keeps its input's channels) follows. The hidden layer of a classifier stays.
    """
    if width == 1:
        return stage
    if isinstance(stage, Layer):
        return _layer(stage, width)
    layers = [_layer(edge.layer, width) for edge in stage.edges]
    if all(new is edge.layer for new, edge in zip(layers, stage.edges, strict=True)):
        return stage
    edges = tuple(
        Edge(source=edge.source, target=edge.target, layer=layer)
        for edge, layer in zip(stage.edges, layers, strict=True)
    )
    return Cell(num_nodes=stage.num_nodes, edges=edges, where=stage.where)


def _layer(layer: Layer, width: float) -> Layer:
    channels = layer.parameters.get("channels")
    if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
        return layer  # none of its own, or one that the operator will refuse
    kept = narrowed_channels(channels, width)
    if kept == channels:
        return layer
    return Layer(op=layer.op, parameters={**layer.parameters, "channels": kept}, where=layer.where)
