"""Figures of kernels that the time of a network is linear in.

Responsible for the names and the meaning of the features that latency models are fitted on. Time on one thread of a
CPU is close to a sum over kernels of: a cost a call, multiply-accumulates at a rate that depends on the kind, bytes
moved, and short inner loops. All features are sums over kernels and at least 0, so that a non-negative linear model
can be read as rates.
"""

from __future__ import annotations

from collections.abc import Sequence

from nas.model.fusion import CONVOLUTIONS, Kernel
from nas.model.layer_table import BYTES_PER_VALUE, LayerTable, volume
from nas.model.layouts import is_blocked, reads_plain, reordered_values
from nas.model.passes import gathered, padded_macs, work_of

_CONVOLUTION = ("kernels", "steps", "loads", "calls", "padded_macs", "gathered", "activation_bytes", "weight_bytes")
_POOLING = ("kernels", "steps", "activation_bytes")
_PLAIN_POOLING = ("kernels", "gathered", "activation_bytes")
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
    "unblocked": ("kernels", "padded_macs", "gathered", "activation_bytes", "weight_bytes"),
    "linear": ("kernels", "weight_bytes"),
    "norm": _ELEMENTWISE,
    "max_pool": _POOLING,
    "avg_pool": _POOLING,
    "plain_max_pool": _PLAIN_POOLING,
    "plain_avg_pool": _PLAIN_POOLING,
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
    "reorder": ("changes", "changed_bytes"),
    "other": ("kernels", "padded_macs", "activation_bytes", "weight_bytes"),
}
"""Kind of kernel -> its figures.

Kinds: ``conv`` and ``pointwise`` read blocked channels, their ``_narrow`` forms fewer than a block, as they are;
``unblocked`` is any convolution that a runtime cannot run on blocks of channels; ``gate`` is a 1x1 convolution of a
single pixel; ``depthwise5`` has a window larger than 3x3; the ``plain_`` poolings are over maps whose channels do not
fill their blocks; ``scale`` multiplies each channel by a number, ``mul`` maps of equal shape; ``activation`` counts
those that stay kernels, hard swish twice; ``reorder`` the changes of layout between blocked and plain maps. The
``fused_`` kinds count what went into a convolution and is not free there: hard swish, sigmoids, sums; quantised files
run each of these as kernels of their own, between conversions.

Figures: ``kernels`` is their number; ``steps``, ``loads`` and ``calls`` are the work of a blocked inner loop, see
`nas.model.passes`; ``padded_macs`` multiply-accumulates on what is inside the image, with channels rounded up to
blocks; ``gathered`` values that are read for windows; ``activation_bytes`` inputs plus output, of the ``fused_`` kinds
the output; ``weight_bytes`` weights and biases; ``changed_bytes`` what is read and written by ``changes`` of layout;
bytes are of float32. Steps, loads and calls are what float32 kernels take time for, the multiply-accumulates and what
is gathered the quantised ones.
"""

FEATURE_NAMES: tuple[str, ...] = tuple(f"{kind}.{figure}" for kind, figures in FIGURES.items() for figure in figures)
_START = {kind: FEATURE_NAMES.index(f"{kind}.{figures[0]}") for kind, figures in FIGURES.items()}

_KINDS: dict[str, str] = {
    "grouped": "grouped",
    "linear": "linear",
    "norm": "norm",
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
    if row.kind in CONVOLUTIONS and not is_blocked(kernel):
        return "unblocked"
    if row.kind in ("conv", "pointwise"):
        if row.kind == "pointwise" and volume(row.out_shape[1:]) == 1:
            return "gate"
        return f"{row.kind}_narrow" if reads_plain(kernel) else row.kind
    if row.kind in ("max_pool", "avg_pool"):
        return row.kind if is_blocked(kernel) else f"plain_{row.kind}"
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
        figures = _figures(kernel, table, kind)
        for k, figure in enumerate(FIGURES[kind]):
            out[start + k] += figures[figure]
        for kind in _fused_kinds(kernel):
            out[_START[kind]] += 1
            out[_START[kind] + 1] += BYTES_PER_VALUE * volume(kernel.row.out_shape)
    for value in reordered_values(table, kernels):
        out[_START["reorder"]] += 1
        out[_START["reorder"] + 1] += 2 * BYTES_PER_VALUE * volume(table.shape_of(value))


def _figures(kernel: Kernel, table: LayerTable, kind: str) -> dict[str, float]:
    moved = sum(volume(table.shape_of(value)) for value in kernel.inputs) + volume(kernel.row.out_shape)
    times = 2 if kernel.row.kind == "activation:hardswish" else 1
    figures = {
        "kernels": times,
        "activation_bytes": BYTES_PER_VALUE * moved * times,
        "weight_bytes": BYTES_PER_VALUE * kernel.stored,
        "padded_macs": padded_macs(kernel),
        "gathered": gathered(kernel),
    }
    if "steps" in FIGURES[kind]:
        work = work_of(kernel)
        figures |= {"steps": work.steps, "loads": work.loads, "calls": work.calls}
    return figures


def _fused_kinds(kernel: Kernel) -> list[str]:
    """Kinds that count what went into a kernel."""
    kinds = [_FUSED[kernel.activation]] if kernel.activation in _FUSED else []
    if kernel.row.kind in CONVOLUTIONS and len(kernel.inputs) > 1:
        kinds.append("fused_sum")
    return kinds
