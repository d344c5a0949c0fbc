"""Operators of Core ML's intermediate language, computed by torch.

Responsible for one function an operator: its inputs by name, as MIL defines them, and its result. Values are torch
tensors in float32 (8-bit ones in their own type); parameters are numpy scalars and arrays, or None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Values = dict[str, Any]
Operator = Callable[[Values], Any]


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))


def _float(value: Any) -> float:
    return float(np.asarray(value))


def _ints(value: Any) -> list[int]:
    return [int(one) for one in np.asarray(value).ravel()]


def _padding(v: Values, spatial: int, kernel: list[int], strides: list[int], size: list[int]) -> list[int]:
    """Padding as torch's ``pad`` takes it: last axis first, before and behind."""
    kind = str(v.get("pad_type", "valid"))
    if kind == "custom":
        both = _ints(v["pad"])
        pairs = [both[2 * axis : 2 * axis + 2] for axis in range(spatial)]
    elif kind == "valid":
        pairs = [[0, 0]] * spatial
    else:
        pairs = []
        for axis in range(spatial):
            out = -(-size[axis] // strides[axis])
            total = max(0, (out - 1) * strides[axis] + kernel[axis] - size[axis])
            pairs.append([total // 2, total - total // 2])
            if kind == "same_lower":
                pairs[-1].reverse()
    return [side for pair in reversed(pairs) for side in pair]


def _conv(v: Values) -> Tensor:
    x, weight = v["x"], _tensor(v["weight"])
    spatial = x.dim() - 2
    strides = _ints(v["strides"]) if v.get("strides") is not None else [1] * spatial
    dilations = _ints(v["dilations"]) if v.get("dilations") is not None else [1] * spatial
    reach = [(side - 1) * step + 1 for side, step in zip(weight.shape[2:], dilations, strict=True)]
    x = functional.pad(x, _padding(v, spatial, reach, strides, list(x.shape[2:])))
    bias = _tensor(v["bias"]) if v.get("bias") is not None else None
    groups = int(v.get("groups") or 1)
    compute = functional.conv2d if spatial == 2 else functional.conv1d
    return compute(x, weight, bias, strides, 0, dilations, groups)


def _pool(v: Values, *, largest: bool) -> Tensor:
    x = v["x"]
    kernel = _ints(v["kernel_sizes"])
    strides = _ints(v["strides"]) if v.get("strides") is not None else kernel
    pads = _padding(v, len(kernel), kernel, strides, list(x.shape[2:]))
    if largest:
        return functional.max_pool2d(functional.pad(x, pads, value=float("-inf")), kernel, strides)
    means = functional.avg_pool2d(functional.pad(x, pads), kernel, strides)
    if not bool(v.get("exclude_padding_from_average", False)):
        return means
    return means / functional.avg_pool2d(functional.pad(torch.ones_like(x), pads), kernel, strides)


def _matmul(v: Values) -> Tensor:
    x, y = _tensor(v["x"]), _tensor(v["y"])
    x = x.transpose(-1, -2) if v.get("transpose_x") else x
    y = y.transpose(-1, -2) if v.get("transpose_y") else y
    return x @ y


def _linear(v: Values) -> Tensor:
    bias = _tensor(v["bias"]) if v.get("bias") is not None else None
    return functional.linear(v["x"], _tensor(v["weight"]), bias)


def _attention(v: Values) -> Tensor:
    mask = _tensor(v["attn_mask"]) if v.get("attn_mask") is not None else None
    return functional.scaled_dot_product_attention(v["query"], v["key"], v["value"], mask)


def _layer_norm(v: Values) -> Tensor:
    x, axes = _tensor(v["x"]), _ints(v["axes"])
    spread, mean = torch.var_mean(x, dim=axes, keepdim=True, correction=0)
    y = (x - mean) / torch.sqrt(spread + _float(v.get("epsilon", 1e-5)))
    if v.get("gamma") is not None:
        y = y * _tensor(v["gamma"])
    return y + _tensor(v["beta"]) if v.get("beta") is not None else y


def _batch_norm(v: Values) -> Tensor:
    gamma, beta = (_tensor(v[name]) if v.get(name) is not None else None for name in ("gamma", "beta"))
    epsilon = _float(v.get("epsilon", 1e-5))
    return functional.batch_norm(v["x"], _tensor(v["mean"]), _tensor(v["variance"]), gamma, beta, eps=epsilon)


def _reduce(compute: Callable[..., Tensor]) -> Operator:
    def reduced(v: Values) -> Tensor:
        axes = _ints(v["axes"]) if v.get("axes") is not None else list(range(v["x"].dim()))
        return compute(v["x"], dim=axes, keepdim=bool(v.get("keep_dims", False)))

    return reduced


def _binary(compute: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda v: compute(_tensor(v["x"]), _tensor(v["y"]))


def _unary(compute: Callable[[Tensor], Tensor]) -> Operator:
    return lambda v: compute(v["x"])


def _hard_sigmoid(v: Values) -> Tensor:
    return torch.clamp(_float(v.get("alpha", 0.2)) * v["x"] + _float(v.get("beta", 0.5)), 0, 1)


def _thresholded(v: Values) -> Tensor:
    return torch.where(v["x"] >= _float(v["alpha"]), v["x"], torch.zeros_like(v["x"]))


def _gelu(v: Values) -> Tensor:
    mode = str(v.get("mode", "EXACT"))
    if mode == "SIGMOID_APPROXIMATION":
        return _tensor(v["x"]) * torch.sigmoid(1.702 * v["x"])
    return functional.gelu(v["x"], approximate="none" if mode == "EXACT" else "tanh")


def _along(values: Any, x: Tensor, axis: Any) -> Tensor:
    """Scales or zero points shaped so that they go with ``x``."""
    found = _tensor(values).float()
    if found.numel() == 1 or axis is None:
        return found.reshape(())
    shape = [1] * x.dim()
    shape[int(axis)] = -1
    return found.reshape(shape)


def _quantize(v: Values) -> Tensor:
    x = _tensor(v["input"])
    zero = _along(v["zero_point"], x, v.get("axis")) if v.get("zero_point") is not None else torch.zeros(())
    limits = (0, 255) if str(v["output_dtype"]) == "uint8" else (-128, 127)
    steps = torch.round(x / _along(v["scale"], x, v.get("axis"))) + zero
    return torch.clamp(steps, *limits)


def _dequantize(v: Values) -> Tensor:
    x = _tensor(v["input"]).float()
    zero = _along(v["zero_point"], x, v.get("axis")) if v.get("zero_point") is not None else torch.zeros(())
    return (x - zero) * _along(v["scale"], x, v.get("axis"))


def _split(v: Values) -> list[Tensor]:
    axis = int(v["axis"])
    if v.get("split_sizes") is not None:
        return list(torch.split(v["x"], _ints(v["split_sizes"]), axis))
    return list(torch.chunk(v["x"], int(v["num_splits"]), axis))


def _slice(v: Values) -> Tensor:
    x = _tensor(v["x"])
    rank = x.dim()
    begin, end = _ints(v["begin"]), _ints(v["end"])
    stride = _ints(v["stride"]) if v.get("stride") is not None else [1] * rank
    flags = {
        name: np.asarray(v[name]).tolist() if v.get(name) is not None else [False] * rank
        for name in ("begin_mask", "end_mask", "squeeze_mask")
    }
    parts: list[Any] = []
    for axis in range(rank):
        if flags["squeeze_mask"][axis]:
            parts.append(begin[axis])
        else:
            first = None if flags["begin_mask"][axis] else begin[axis]
            last = None if flags["end_mask"][axis] else end[axis]
            parts.append(slice(first, last, stride[axis]))
    return x[tuple(parts)]


def _slice_by_size(v: Values) -> Tensor:
    x = _tensor(v["x"])
    for axis, (first, size) in enumerate(zip(_ints(v["begin"]), _ints(v["size"]), strict=True)):
        x = x.narrow(axis, first, x.shape[axis] - first if size == -1 else size)
    return x


def _squeeze(v: Values) -> Tensor:
    return torch.squeeze(v["x"], tuple(_ints(v["axes"]))) if v.get("axes") is not None else torch.squeeze(v["x"])


def _expand_dims(v: Values) -> Tensor:
    x = _tensor(v["x"])
    rank = x.dim() + len(_ints(v["axes"]))
    for axis in sorted(one % rank for one in _ints(v["axes"])):
        x = x.unsqueeze(axis)
    return x


def _pad(v: Values) -> Tensor:
    both = _ints(v["pad"])
    pairs = [both[start : start + 2] for start in range(0, len(both), 2)]
    mode = str(v.get("mode", "constant"))
    sides = [side for pair in reversed(pairs) for side in pair]
    if mode == "constant":
        return functional.pad(v["x"], sides, value=_float(v.get("constant_val", 0.0)))
    return functional.pad(v["x"], sides, mode="reflect" if mode == "reflect" else "replicate")


OPERATORS: dict[str, Operator] = {
    "add": _binary(torch.add),
    "avg_pool": lambda v: _pool(v, largest=False),
    "batch_norm": _batch_norm,
    "cast": lambda v: v["x"],
    "clip": lambda v: torch.clamp(v["x"], _float(v["alpha"]), _float(v["beta"])),
    "concat": lambda v: torch.cat([_tensor(part) for part in v["values"]], int(v["axis"])),
    "conv": _conv,
    "dequantize": _dequantize,
    "elu": lambda v: functional.elu(v["x"], _float(v.get("alpha", 1.0))),
    "exp": _unary(torch.exp),
    "expand_dims": _expand_dims,
    "gelu": _gelu,
    "identity": lambda v: v["x"],
    "layer_norm": _layer_norm,
    "leaky_relu": lambda v: functional.leaky_relu(v["x"], _float(v.get("alpha", 0.01))),
    "linear": _linear,
    "matmul": _matmul,
    "max_pool": lambda v: _pool(v, largest=True),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "mul": _binary(torch.mul),
    "pad": _pad,
    "pow": _binary(torch.pow),
    "quantize": _quantize,
    "real_div": _binary(torch.div),
    "reduce_max": _reduce(torch.amax),
    "reduce_mean": _reduce(torch.mean),
    "reduce_sum": _reduce(torch.sum),
    "relu": _unary(functional.relu),
    "relu6": _unary(functional.relu6),
    "reshape": lambda v: v["x"].reshape(_ints(v["shape"])),
    "rsqrt": lambda v: torch.rsqrt(v["x"] + _float(v.get("epsilon", 1e-12))),
    "scaled_dot_product_attention": _attention,
    "sigmoid": _unary(torch.sigmoid),
    "sigmoid_hard": _hard_sigmoid,
    "silu": _unary(functional.silu),
    "slice_by_index": _slice,
    "slice_by_size": _slice_by_size,
    "softmax": lambda v: torch.softmax(v["x"], int(v["axis"])),
    "softplus": _unary(functional.softplus),
    "split": _split,
    "sqrt": _unary(torch.sqrt),
    "square": _unary(torch.square),
    "squeeze": _squeeze,
    "sub": _binary(torch.sub),
    "tanh": _unary(torch.tanh),
    "thresholded_relu": _thresholded,
    "transpose": lambda v: v["x"].permute(_ints(v["perm"])),
}
