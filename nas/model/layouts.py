"""In which layout values lie in memory, and where a runtime has to change it.

Responsible for the rules by which onnxruntime on x86 (seen in its optimised graphs) keeps maps in *blocked* form,
sixteen channels of a pixel side by side and the last block filled up, or in *plain* form, a map a channel. Blocked
kernels are much faster, and each change between the forms is a kernel of its own.

A stage is taken to begin with a blocked map, which is what stages end with, or with a plain one if it has the few
channels of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

from nas.model.fusion import Kernel
from nas.model.layer_table import LayerTable

BLOCK = 16
"""Channels that are computed together (AVX-512); the rest of the last block is computed for nothing."""

_ALIGNMENT = 4
_POOLINGS = frozenset({"max_pool", "avg_pool", "global_pool"})
_MAX_IMAGE_CHANNELS = 4


def reads_plain(kernel: Kernel) -> bool:
    """Whether a convolution reads a plain map and makes a blocked one: it has fewer input channels than a block."""
    row = kernel.row
    return row.kind in ("conv", "pointwise") and row.in_shape[0] < BLOCK


def is_blocked(kernel: Kernel) -> bool:
    """Whether a convolution makes a blocked map; a pooling does so of a blocked map only."""
    row = kernel.row
    if row.kind in ("conv", "pointwise"):
        return row.in_shape[0] < BLOCK or row.in_shape[0] % _ALIGNMENT == 0
    if row.kind == "depthwise":
        return row.in_shape[0] % _ALIGNMENT == 0
    if row.kind == "grouped":
        return row.in_shape[0] // row.groups % BLOCK == 0 and row.out_shape[0] // row.groups % BLOCK == 0
    if row.kind in _POOLINGS:
        return row.in_shape[0] % BLOCK == 0
    return False


def reordered_values(table: LayerTable, kernels: Sequence[Kernel]) -> list[int]:
    """Values whose layout changes on the way to a reader, each once for each layout that it is changed to."""
    made: dict[int, bool] = {}
    changed: dict[tuple[int, bool, str], None] = {}
    for kernel in kernels:
        stage = table.stage[kernel.output]
        has = [
            made[value] if value >= 0 and table.stage[value] == stage else _begins_blocked(table.shape_of(value))
            for value in kernel.inputs
        ]
        wants, made[kernel.output] = _layouts(kernel, has)
        for value, blocked, wanted in zip(kernel.inputs, has, wants, strict=True):
            if blocked != wanted and len(table.shape_of(value)) == 3:
                changed[value, wanted, stage] = None
    return [value for value, _, _ in changed]


def _begins_blocked(shape: tuple[int, ...]) -> bool:
    """Whether a stage gets a map blocked."""
    return len(shape) == 3 and shape[0] > _MAX_IMAGE_CHANNELS


def _layouts(kernel: Kernel, has: Sequence[bool]) -> tuple[list[bool], bool]:
    """Whether a kernel wants each of its inputs blocked, and makes a blocked map, given how the inputs are."""
    kind = kernel.row.kind
    if kind in ("add", "norm", "zeros") or kind.startswith("activation:"):
        # These compute in either layout; terms of a sum must agree.
        return [all(has)] * len(has), all(has)
    if kind in _POOLINGS:
        blocked = is_blocked(kernel) and has[0]
        return [blocked], blocked
    blocked = is_blocked(kernel)
    return [blocked and not reads_plain(kernel), *[blocked] * (len(has) - 1)], blocked
