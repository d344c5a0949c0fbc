"""Figures of kernels that the time of a network is linear in.

Responsible for the names and the meaning of the features that latency models are fitted on. Time on one thread of a
CPU is close to a sum over kernels of: a cost a call, multiply-accumulates at a rate that depends on the kind, bytes
moved, and short inner loops. All features are sums over kernels and at least 0, so that a non-negative linear model
can be read as rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas.model.fusion import CONVOLUTIONS, Kernel
from nas.model.layer_table import BYTES_PER_VALUE, LayerTable, volume

BLOCK = 16
"""Channels are computed in blocks of this many (AVX-512); the rest of a block is computed for nothing."""

_CONVOLUTION = ("kernels", "padded_macs", "loads", "rows", "activation_bytes", "weight_bytes")
_ELEMENTWISE = ("kernels", "activation_bytes")
FIGURES: dict[str, tuple[str, ...]] = {
    "conv": _CONVOLUTION,
    "conv_narrow": _CONVOLUTION,
    "pointwise": _CONVOLUTION,
    "pointwise_narrow": _CONVOLUTION,
    "gate": ("kernels", "weight_bytes"),
    "depthwise3": _CONVOLUTION,
    "depthwise5": _CONVOLUTION,
    "grouped": _CONVOLUTION,
    "linear": ("kernels", "weight_bytes"),
    "norm": _ELEMENTWISE,
    "pool": ("kernels", "padded_macs", "activation_bytes"),
    "global_pool": _ELEMENTWISE,
    "add": _ELEMENTWISE,
    "mul": _ELEMENTWISE,
    "scale": _ELEMENTWISE,
    "activation": _ELEMENTWISE,
    "silu": _ELEMENTWISE,
    "gelu": _ELEMENTWISE,
    "fused_hardswish": _ELEMENTWISE,
    "fused_gate": _ELEMENTWISE,
    "fused_sum": _ELEMENTWISE,
    "other": ("kernels", "padded_macs", "activation_bytes", "weight_bytes"),
}
"""Kind of kernel -> its figures.

Kinds: ``conv`` and ``pointwise`` read blocked channels, their ``_narrow`` forms fewer than a block, which a runtime
has to reorder first; ``gate`` is a 1x1 convolution of a single pixel; ``depthwise5`` has a window larger than 3x3;
``pool`` is over windows; ``scale`` multiplies each channel by a number, ``mul`` maps of equal shape; ``activation``
counts those that stay kernels, hard swish twice. The ``fused_`` kinds count what went into a convolution and is not
free there: hard swish, sigmoids, sums; quantised files run each of these as kernels of their own, between conversions.

Figures: ``kernels`` is their number; ``padded_macs`` multiply-accumulates on what is inside the image, with channels
rounded up to blocks; ``loads`` the inputs read for them, one for up to four blocks of output channels at once;
``rows`` the calls of an inner loop: output rows times blocks of input channels times groups of four blocks of output
channels; ``activation_bytes`` inputs plus output, of the ``fused_`` kinds the output; ``weight_bytes`` weights and
biases; bytes are of float32.
"""

FEATURE_NAMES: tuple[str, ...] = tuple(f"{kind}.{figure}" for kind, figures in FIGURES.items() for figure in figures)
_START = {kind: FEATURE_NAMES.index(f"{kind}.kernels") for kind in FIGURES}

_KINDS: dict[str, str] = {
    "grouped": "grouped",
    "linear": "linear",
    "norm": "norm",
    "max_pool": "pool",
    "avg_pool": "pool",
    "global_pool": "global_pool",
    "add": "add",
    "mul": "mul",
    "scale": "scale",
    "activation:silu": "silu",
    "activation:gelu": "gelu",
    "zeros": "activation",
}

_FUSED: dict[str, str] = {
    "activation:hardswish": "fused_hardswish",
    "activation:hardsigmoid": "fused_gate",
    "activation:sigmoid": "fused_gate",
}


def feature_kind(kernel: Kernel) -> str:
    """The kind, of `FIGURES`, that a kernel's time belongs to."""
    row = kernel.row
    if row.kind in ("conv", "pointwise"):
        if row.kind == "pointwise" and volume(row.out_shape[1:]) == 1:
            return "gate"
        return row.kind if row.in_shape[0] >= BLOCK else f"{row.kind}_narrow"
    if row.kind == "depthwise":
        return "depthwise3" if max(row.kernel) <= 3 else "depthwise5"
    if row.kind.startswith("activation:"):
        return _KINDS.get(row.kind, "activation")
    return _KINDS.get(row.kind, "other")


def add_features(kernels: Sequence[Kernel], table: LayerTable, out: list[float]) -> None:
    """Adds the features of kernels to ``out`` ``(F,)``, in the order of `FEATURE_NAMES`."""
    for kernel in kernels:
        kind = feature_kind(kernel)
        start = _START[kind]
        moved = sum(volume(table.shape_of(value)) for value in kernel.inputs) + volume(kernel.row.out_shape)
        times = 2 if kernel.row.kind == "activation:hardswish" else 1
        for k, figure in enumerate(FIGURES[kind]):
            if figure == "kernels":
                out[start + k] += times
            elif figure == "activation_bytes":
                out[start + k] += BYTES_PER_VALUE * moved * times
            elif figure == "weight_bytes":
                out[start + k] += BYTES_PER_VALUE * kernel.stored
            elif figure == "padded_macs":
                out[start + k] += _padded_macs(kernel)
            elif figure == "loads":
                out[start + k] += _loads(kernel)
            else:
                out[start + k] += _rows(kernel)
        for kind in _fused_kinds(kernel):
            out[_START[kind]] += 1
            out[_START[kind] + 1] += BYTES_PER_VALUE * volume(kernel.row.out_shape)


def _fused_kinds(kernel: Kernel) -> list[str]:
    """Kinds that count what went into a kernel."""
    kinds = [_FUSED[kernel.activation]] if kernel.activation in _FUSED else []
    if kernel.row.kind in CONVOLUTIONS and len(kernel.inputs) > 1:
        kinds.append("fused_sum")
    return kinds


def _blocks(channels: int) -> int:
    return -(-channels // BLOCK)


def _padded_macs(kernel: Kernel) -> float:
    row = kernel.row
    if len(row.out_shape) != 3:
        return row.macs
    pixels = row.out_shape[1] * row.out_shape[2]
    taps = math.prod(
        _taps_inside(row.in_shape[side + 1], row.out_shape[side + 1], row.kernel[side], row.stride[side])
        for side in (0, 1)
    )
    if row.kind in ("conv", "pointwise"):
        # Fewer input channels than a block are read as they are, without padding.
        width = row.in_shape[0] if row.in_shape[0] < BLOCK else BLOCK * _blocks(row.in_shape[0])
        return float(pixels * taps * width * BLOCK * _blocks(row.out_shape[0]))
    if row.kind in ("depthwise", "max_pool", "avg_pool"):
        return float(pixels * taps * BLOCK * _blocks(row.out_shape[0]))
    return float(row.macs)


def _taps_inside(size: int, out_size: int, window: int, stride: int) -> float:
    """Taps of a window of a padded convolution that lie inside the image, in one direction, on average.

    On maps of a few pixels most do not, and kernels leave these out.
    """
    padding = max(0, -(-((out_size - 1) * stride + window - size) // 2))
    starts = [place * stride - padding for place in range(out_size)]
    return sum(max(0, min(size, start + window) - max(0, start)) for start in starts) / out_size


def _loads(kernel: Kernel) -> float:
    if kernel.row.kind not in ("conv", "pointwise"):
        return 0.0
    blocks = _blocks(kernel.row.out_shape[0])
    return _padded_macs(kernel) / (BLOCK * blocks) * -(-blocks // 4)


def _rows(kernel: Kernel) -> float:
    row = kernel.row
    lines = row.out_shape[1] if len(row.out_shape) == 3 else 1
    if row.kind == "depthwise":
        return float(lines * _blocks(row.out_shape[0]))
    if row.kind == "grouped":
        return float(lines * row.groups)
    return float(lines * _blocks(row.in_shape[0]) * -(-_blocks(row.out_shape[0]) // 4))
