"""How kernels go through a map, and what that costs.

Responsible for the arithmetic behind the figures of convolutions and poolings. The inner loop of onnxruntime's blocked
kernels on x86 takes six pixels of a row at once, then two, then one, for up to four blocks of output channels; pixels
whose window reaches over the border are taken one by one, without the taps outside. Each tap of each input channel
multiplies and adds once for each pixel and block that is taken at once, and no faster than the next one may begin.
"""

from __future__ import annotations

from dataclasses import dataclass

from nas.model.fusion import Kernel
from nas.model.layer_table import volume
from nas.model.layouts import BLOCK, reads_plain

_TOGETHER = (6, 2, 1)
"""Pixels that are taken at once, as many as still fit."""

_SETS = 4
"""Blocks of output channels that are computed at once."""

_LATENCY = 4
"""Multiply-adds that must be under way for the next one not to wait."""

_CHANNELS_AT_ONCE = 128
"""Input channels of one call, for a 1x1 window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Of one kernel.

    Attributes:
        steps: vector multiply-adds, those included that a short loop waits for.
        loads: vectors of weights that are read for them.
        calls: of the inner loop.
    """

    steps: float
    loads: float
    calls: float


def work_of(kernel: Kernel) -> Work:
    """The work of a convolution or pooling over maps that runs on blocks of channels."""
    row = kernel.row
    height, width = row.out_shape[1:]
    if row.kind == "pointwise" and row.stride == (1, 1) and not reads_plain(kernel):
        # Without windows to cut, the whole map is one row.
        lines, down, across = 1, 1.0, [(1, count) for count in _split(height * width)]
    else:
        cut, whole = _cut(row.in_shape[1], height, row.kernel[0], row.stride[0])
        lines, down = height, float(sum(cut) + whole * row.kernel[0])
        across = _passes(row.in_shape[2], width, row.kernel[1], row.stride[1])
    out_blocks = blocks(row.out_shape[0])
    loads = out_blocks * sum(taps for taps, _ in across)
    if row.kind in ("depthwise", "max_pool", "avg_pool"):
        steps = out_blocks * sum(taps * max(_LATENCY, count) for taps, count in across)
        return Work(steps=down * steps, loads=down * loads, calls=lines * out_blocks)
    sets = [_SETS] * (out_blocks // _SETS) + ([out_blocks % _SETS] if out_blocks % _SETS else [])
    steps = sum(taps * max(_LATENCY, count * size) for taps, count in across for size in sets)
    channels, calls = _channels(kernel)
    return Work(steps=down * channels * steps, loads=down * channels * loads, calls=lines * calls * len(sets))


def _channels(kernel: Kernel) -> tuple[int, int]:
    """Input channels of a group, padded as they are read, and in how many calls they are gone through."""
    channels = kernel.row.in_shape[0] // kernel.row.groups
    if reads_plain(kernel):
        return channels, 1
    if kernel.row.kind == "pointwise":
        return BLOCK * blocks(channels), -(-channels // _CHANNELS_AT_ONCE)
    return BLOCK * blocks(channels), blocks(channels)


def blocks(channels: int) -> int:
    """Blocks that so many channels fill."""
    return -(-channels // BLOCK)


def _passes(size: int, out_size: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Taps inside the map, and pixels, of each thing that the inner loop takes at once along a row."""
    cut, whole = _cut(size, out_size, window, stride)
    return [(taps, 1) for taps in cut] + [(window, count) for count in _split(whole)]


def _cut(size: int, out_size: int, window: int, stride: int) -> tuple[list[int], int]:
    """Taps inside the map of each window that its border cuts, and how many windows lie inside."""
    padding = max(0, -(-((out_size - 1) * stride + window - size) // 2))
    starts = [place * stride - padding for place in range(out_size)]
    inside = [max(0, min(size, start + window) - max(0, start)) for start in starts]
    return [taps for taps in inside if taps < window], sum(taps == window for taps in inside)


def _split(count: int) -> list[int]:
    """So many pixels as the inner loop takes them."""
    taken: list[int] = []
    for together in _TOGETHER:
        taken += [together] * (count // together)
        count %= together
    return taken


def padded_macs(kernel: Kernel) -> float:
    """Multiply-accumulates on what is inside the map, with channels rounded up to blocks."""
    row = kernel.row
    if len(row.out_shape) != 3:
        return float(row.macs)
    pixels = row.out_shape[1] * row.out_shape[2]
    taps = 1.0
    for side in (0, 1):
        size, out_size, window = row.in_shape[side + 1], row.out_shape[side + 1], row.kernel[side]
        cut, whole = _cut(size, out_size, window, row.stride[side])
        taps *= (sum(cut) + whole * window) / out_size
    if row.kind in ("conv", "pointwise"):
        # Fewer input channels than a block are read as they are, without padding.
        width = row.in_shape[0] if row.in_shape[0] < BLOCK else BLOCK * blocks(row.in_shape[0])
        return float(pixels * taps * width * BLOCK * blocks(row.out_shape[0]))
    if row.kind == "depthwise":
        return float(pixels * taps * BLOCK * blocks(row.out_shape[0]))
    return float(row.macs)


def gathered(kernel: Kernel) -> float:
    """Values that a kernel without such loops reads: each input once for each window that it lies in."""
    row = kernel.row
    if len(row.out_shape) != 3:
        return float(volume(row.in_shape))
    return float(volume(row.out_shape[1:]) * row.kernel[0] * row.kernel[1] * row.in_shape[0])
