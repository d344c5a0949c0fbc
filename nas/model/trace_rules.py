"""Rules of common torch functions: what they compute and which shape comes out.

Responsible for the arithmetic that spares tracing a run on the meta device. A rule may decline (give None), and the
function is then run; `tests/model` holds each rule against torch itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from nas.errors import UserError
from nas.model.layer_table import LayerRow, volume

Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """What a function does: a row to write, or None where it hands its input on."""

    row: LayerRow | None


Rule = Callable[[Sequence[Sizes], Sequence[Any], Mapping[str, Any]], Step | None]
"""(sizes of the traced arguments with batch, arguments, keywords) -> step, or None to decline."""

QUERIES = frozenset({"dim", "size", "__get__", "numel", "is_floating_point", "__len__", "ndimension", "is_complex"})
"""Names of functions that only ask a tensor something."""

SIZE_QUERIES = QUERIES - {"dim", "ndimension", "is_floating_point", "is_complex"}
"""Those whose answer may depend on the size of a map."""


def _pair(value: Any) -> tuple[int, int]:
    return (value[0], value[-1]) if isinstance(value, list | tuple) else (value, value)


def _windows(size: int, kernel: int, stride: int, padding: int, *, dilation: int = 1, ceil_mode: bool = False) -> int:
    """How many windows fit along one side."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    windows = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (windows - 1) * stride >= size + padding:
        windows -= 1  # a window that would start behind the map
    if windows < 1:
        raise UserError(
            "kernel",
            f"of {kernel} must fit the padded map, got {size} + 2 x {padding} pixels",
            "take a smaller kernel, less stride before it, or a higher resolution",
        )
    return windows


def _numbers(*tensors: torch.Tensor | None) -> int:
    return sum(tensor.numel() for tensor in tensors if tensor is not None)


def _conv2d(sizes: Sequence[Sizes], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Step | None:
    if len(sizes) != 1 or len(sizes[0]) != 4 or kwargs or len(args) != 7 or isinstance(args[4], str):
        return None
    _, weight, bias, stride, padding, dilation, groups = args
    out_channels, width, *window = weight.shape
    _, channels, height, across = sizes[0]
    if width * groups != channels:
        raise UserError("in_channels", f"must be the {channels} of the input, got {width * groups}")
    kernel, (down, right) = (window[0], window[1]), _pair(stride)
    pad, apart = _pair(padding), _pair(dilation)
    out = (
        out_channels,
        _windows(height, kernel[0], down, pad[0], dilation=apart[0]),
        _windows(across, kernel[1], right, pad[1], dilation=apart[1]),
    )
    numbers = weight.numel() + _numbers(bias)
    row = LayerRow(
        kind=_conv_kind(kernel, channels, out_channels, groups),
        in_shape=sizes[0][1:],
        out_shape=out,
        kernel=kernel,
        stride=(down, right),
        groups=groups,
        macs=volume(out) * width * kernel[0] * kernel[1],
        parameters=numbers,
        stored=numbers,
        has_bias=bias is not None,
    )
    return Step(row)


def _conv_kind(kernel: tuple[int, int], channels: int, out_channels: int, groups: int) -> str:
    if groups > 1:
        return "depthwise" if groups == channels == out_channels else "grouped"
    return "pointwise" if kernel == (1, 1) else "conv"


def _linear(sizes: Sequence[Sizes], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Step | None:
    if len(sizes) != 1 or len(args) < 2 or kwargs:
        return None
    weight, bias = args[1], args[2] if len(args) > 2 else None
    out_features, in_features = weight.shape
    if sizes[0][-1] != in_features:
        raise UserError("in_features", f"must be the {sizes[0][-1]} of the input, got {in_features}")
    out = (*sizes[0][1:-1], out_features)
    numbers = weight.numel() + _numbers(bias)
    return Step(
        LayerRow(
            kind="linear",
            in_shape=sizes[0][1:],
            out_shape=out,
            macs=volume(out) * in_features,
            parameters=numbers,
            stored=numbers,
            has_bias=bias is not None,
        )
    )


def _batch_norm(sizes: Sequence[Sizes], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Step | None:
    if len(sizes) != 1 or len(args) != 3 or kwargs.get("training"):
        return None
    channels = args[1].numel()
    if sizes[0][1] != channels:
        raise UserError("channels", f"must be the {sizes[0][1]} of the input, got {channels}")
    numbers = _numbers(kwargs.get("weight"), kwargs.get("bias"))
    shape = sizes[0][1:]
    row = LayerRow(kind="norm", in_shape=shape, out_shape=shape, parameters=numbers, stored=4 * channels)
    return Step(row)


def _elementwise(kind: str) -> Rule:
    def rule(sizes: Sequence[Sizes], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Step | None:
        shape = sizes[0][1:]
        return Step(LayerRow(kind=kind, in_shape=shape, out_shape=shape))

    return rule


def _hardtanh(sizes: Sequence[Sizes], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Step | None:
    limits = (kwargs.get("min_val"), kwargs.get("max_val"))
    return _elementwise("activation:relu6" if limits == (0.0, 6.0) else "activation:hardtanh")(sizes, args, kwargs)


def _binary(kind: str) -> Rule:
    def rule(sizes: Sequence[Sizes], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Step | None:
        # A parameter, or a tensor made on the fly, as the second argument is left to torch.
        if len(sizes) != 2 or len(args) != 2 or kwargs or len(sizes[0]) != len(sizes[1]):
            return None
        if any(a != b and 1 not in (a, b) for a, b in zip(*sizes, strict=True)):
            raise UserError("shape", f"must be equal to be combined, got {sizes[0][1:]} and {sizes[1][1:]}")
        out = tuple(max(a, b) for a, b in zip(*sizes, strict=True))[1:]
        name = "scale" if kind == "mul" and sizes[0] != sizes[1] else kind
        return Step(LayerRow(kind=name, in_shape=sizes[0][1:], out_shape=out))

    return rule


def _max_pool2d(sizes: Sequence[Sizes], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Step | None:
    if len(args) != 2 or len(sizes[0]) != 4 or kwargs.get("return_indices"):
        return None
    return _pool("max_pool", sizes[0], (args[1], kwargs["stride"], kwargs["padding"], kwargs["dilation"]), kwargs)


def _avg_pool2d(sizes: Sequence[Sizes], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Step | None:
    if len(args) != 7 or len(sizes[0]) != 4 or kwargs:
        return None
    return _pool("avg_pool", sizes[0], (args[1], args[2], args[3], 1), {"ceil_mode": args[4]})


def _pool(kind: str, size: Sizes, window: tuple[Any, Any, Any, Any], options: Mapping[str, Any]) -> Step:
    kernel, padding, dilation = _pair(window[0]), _pair(window[2]), _pair(window[3])
    stride = kernel if window[1] is None else _pair(window[1])
    out = [
        _windows(size[2 + k], kernel[k], stride[k], padding[k], dilation=dilation[k], ceil_mode=options["ceil_mode"])
        for k in range(2)
    ]
    row = LayerRow(kind=kind, in_shape=size[1:], out_shape=(size[1], *out), kernel=kernel, stride=stride)
    return Step(row)


def _adaptive_avg_pool2d(sizes: Sequence[Sizes], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Step | None:
    if len(args) != 2 or args[1] not in (1, (1, 1)) or len(sizes[0]) != 4:
        return None
    _, channels, height, width = sizes[0]
    row = LayerRow(
        kind="global_pool", in_shape=sizes[0][1:], out_shape=(channels, 1, 1), kernel=(height, width), stride=(1, 1)
    )
    return Step(row)


def _flatten(sizes: Sequence[Sizes], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Step | None:
    if kwargs or tuple(args[1:]) not in ((1, -1), (1,)):
        return None
    shape = sizes[0][1:]
    return Step(LayerRow(kind="view", in_shape=shape, out_shape=(volume(shape),)))


def _dropout(sizes: Sequence[Sizes], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Step | None:
    return None if kwargs.get("training", True) else Step(None)


RULES: dict[Callable[..., Any], Rule] = {
    torch.conv2d: _conv2d,
    functional.linear: _linear,
    functional.batch_norm: _batch_norm,
    functional.relu: _elementwise("activation:relu"),
    torch.relu: _elementwise("activation:relu"),
    functional.relu6: _elementwise("activation:relu6"),
    functional.hardtanh: _hardtanh,
    functional.hardswish: _elementwise("activation:hardswish"),
    functional.silu: _elementwise("activation:silu"),
    functional.gelu: _elementwise("activation:gelu"),
    functional.hardsigmoid: _elementwise("activation:hardsigmoid"),
    torch.sigmoid: _elementwise("activation:sigmoid"),
    torch.tanh: _elementwise("activation:tanh"),
    torch.Tensor.add: _binary("add"),
    torch.add: _binary("add"),
    torch.Tensor.mul: _binary("mul"),
    torch.mul: _binary("mul"),
    functional.max_pool2d: _max_pool2d,
    functional.avg_pool2d: _avg_pool2d,
    functional.adaptive_avg_pool2d: _adaptive_avg_pool2d,
    torch.Tensor.flatten: _flatten,
    torch.flatten: _flatten,
    torch.zeros_like: _elementwise("zeros"),
    functional.dropout: _dropout,
}
