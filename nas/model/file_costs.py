"""Bytes of the files of a network in each precision, and of their activations while they run.

Responsible for estimates from kernels, before there is a file. Numbers of weights are exact; what the graph around them
takes is an average over exported files, and so are the maps that stay in float32 in an INT8 file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.model.fusion import CONVOLUTIONS, Kernel
from nas.model.layer_table import BYTES_PER_VALUE, volume
from nas.space.deployment import PRECISIONS

FILE_BYTES = 300
"""Of an exported file besides its operations: header, names of inputs and outputs."""

OPERATION_BYTES = 200
"""Of one operation in an exported file: type, attributes, names; 120 to 220 were seen, longer for deeper names."""

QUANTISED_BYTES = 700
"""Further bytes of a quantised convolution or linear layer: the nodes around it that quantise and dequantise."""

QUANTISED_CHANNEL_BYTES = 13
"""Of an output channel of a quantised layer: scale and zero point of weights (5), scale and zero point of bias (8)."""

DYNAMIC_CHANNEL_BYTES = 5
"""Of an output channel of a layer that is quantised at run time: scale and zero point of weights."""

BLOCK = 32
"""Weights that share a scale in an INT4 file."""

_FLOAT_ACTIVATIONS = ("activation:hardswish", "activation:silu", "activation:gelu")
"""That no kernel computes in 8 bits: what they read is widened to float32, and what they write is narrowed again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileCosts:
    """Figures of one part of a network in one precision.

    Attributes:
        size_bytes: in the file.
        number_bytes: of these, numbers: weights, biases, scales.
        prunable_bytes: of these, weights that sparsity can make zero.
        peak_bytes: most bytes of activations alive at once for one image, where the runtime has kernels for the
            precision: onnxruntime on x86 widens float16 to float32.
    """

    size_bytes: int
    number_bytes: int
    prunable_bytes: int
    peak_bytes: int


def file_costs(kernels: Sequence[Kernel], peak_bytes: int) -> dict[str, FileCosts]:
    """The figures by precision; ``peak_bytes`` is that of float32."""
    graph = OPERATION_BYTES * sum(kernel.num_operations for kernel in kernels)
    numbers, prunable = dict.fromkeys(PRECISIONS, 0), dict.fromkeys(PRECISIONS, 0)
    nodes = dict.fromkeys(PRECISIONS, graph)
    for kernel in kernels:
        weights, channels = _weights_of(kernel), kernel.row.out_shape[0]
        is_linear = kernel.row.kind == "linear"
        packed = _packed(weights, channels) if weights else {}
        for name in PRECISIONS:
            numbers[name] += _stored(kernel.stored, weights, channels, name, is_linear=is_linear)
            if weights and name.startswith("int") and not (name == "int4" and is_linear):
                nodes[name] += QUANTISED_BYTES
            if weights and kernel.row.kind != "depthwise":
                prunable[name] += packed["int8" if name == "int4" and not is_linear else name]
    peaks = _peaks(kernels, peak_bytes)
    return {
        name: FileCosts(
            size_bytes=nodes[name] + numbers[name],
            number_bytes=numbers[name],
            prunable_bytes=prunable[name],
            peak_bytes=peaks[name],
        )
        for name in PRECISIONS
    }


def _weights_of(kernel: Kernel) -> int:
    """Weights of a convolution or linear layer, without biases; 0 for any other kernel."""
    if kernel.row.kind not in CONVOLUTIONS and kernel.row.kind != "linear":
        return 0
    return kernel.row.stored - (kernel.row.out_shape[0] if kernel.row.has_bias else 0)


def _packed(weights: int, channels: int) -> dict[str, int]:
    """Bytes of the weights alone."""
    nibbles = channels * -(-(weights // channels) // 2)
    return {"float32": 4 * weights, "float16": 2 * weights, "int8": weights, "int8-dynamic": weights, "int4": nibbles}


def _stored(stored: int, weights: int, channels: int, precision: str, *, is_linear: bool) -> int:
    """Bytes of the numbers of a kernel in a file, with what quantising adds."""
    if precision == "float16":
        return 2 * stored
    if precision == "float32" or not weights:
        return 4 * stored
    biases = 4 * (stored - weights)
    if precision == "int4" and is_linear:
        blocks = channels * -(-(weights // channels) // BLOCK)
        return _packed(weights, channels)["int4"] + 4 * blocks + biases
    each = DYNAMIC_CHANNEL_BYTES if precision == "int8-dynamic" else QUANTISED_CHANNEL_BYTES
    return weights + biases + each * channels


def _peaks(kernels: Sequence[Kernel], peak_bytes: int) -> dict[str, int]:
    """An 8-bit map takes a quarter; a float activation has what it reads and what it writes beside each other."""
    wide = max(
        (
            2 * BYTES_PER_VALUE * volume(kernel.row.out_shape)
            for kernel in kernels
            if kernel.activation in _FLOAT_ACTIVATIONS or kernel.row.kind in _FLOAT_ACTIVATIONS
        ),
        default=0,
    )
    eighth = max(peak_bytes // 4, wide)
    return {
        "float32": peak_bytes,
        "float16": peak_bytes // 2,
        "int8": eighth,
        "int8-dynamic": peak_bytes,
        "int4": eighth,
    }
