"""The Fisher information of a few weights of a network, one of each layer's tensors.

Responsible for gradients by single weights and single images. They are read off the signals that run back through the
layers, so that a class costs one backward pass for all images and weights.

References:
    [Tybl2025] Týbl, Neumann. Training-free Neural Architecture Search through Variance of Knowledge of Deep Network
        Weights. CVPR 2025.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGES_AT_MOST = 8
WEIGHTS_AT_MOST = 64  # no more than images times classes less one, or eigenvalues are zero for lack of data
SIGNALS_AT_MOST = 10  # backward passes
SMOOTHING = 0.05  # share of the uniform distribution in the class probabilities, as in the paper


@dataclass(frozen=True, kw_only=True, eq=False)
class _Call:
    """One call of a layer: what came in and what went out."""

    layer: nn.Module
    given: Tensor
    output: Tensor


def fisher_information(module: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
    """``(p, p)`` float64, mean over images of the Fisher information of the class probabilities.

    The module runs in evaluation mode, in which images do not mix, on the statistics of the whole batch: the paper
    keeps the initial ones, with which nothing is normalised. Mode and running statistics change. Weights that count
    are the first of each weight and bias of convolutions, linear layers and batch normalisations (of a convolution's
    window, the middle); of more than 64, as many evenly spaced ones. Exact for up to ten classes, else an unbiased
    estimate from ten random signals.

    Args:
        module: in float32; gives ``(n, num_classes)``.
        images: ``(n, c, h, w)``; the information is of the first eight.
        generator: on the CPU, for random signals.
    """
    _take_statistics(module, images)
    module.eval()
    with _calls(module) as calls:
        logits = module(images[:IMAGES_AT_MOST])
    picked = _picked(calls)
    outputs = [call.output for call in calls]
    total = torch.zeros(len(picked), len(picked), dtype=torch.float64)
    for signal in _signals(logits.detach(), generator):
        backs = torch.autograd.grad(logits, outputs, signal, retain_graph=True, allow_unused=True)
        columns = [_gradient(calls[k], part, backs[k]) for k, part in picked]
        jacobian = torch.stack(columns, dim=1).to("cpu", torch.float64)
        total += jacobian.T @ jacobian / len(jacobian)
    return total


def _take_statistics(module: nn.Module, images: Tensor) -> None:
    """The running statistics of batch normalisations become those of the images."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)]
    before = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 1.0
        module.train()
        with torch.no_grad():
            module(images)
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


@contextmanager
def _calls(module: nn.Module) -> Iterator[list[_Call]]:
    """Fills a list with the calls of layers within, in order."""
    calls: list[_Call] = []

    def keep(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        calls.append(_Call(layer=layer, given=args[0].detach(), output=output))
        return output.clone()  # what follows may write into what it gets

    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    hooks = [part.register_forward_hook(keep) for part in module.modules() if isinstance(part, kinds)]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _picked(calls: list[_Call]) -> list[tuple[int, Literal["weight", "bias"]]]:
    """Call and tensor of each weight that counts."""
    everything: list[tuple[int, Literal["weight", "bias"]]] = []
    for k, call in enumerate(calls):
        if call.layer.weight is not None:
            everything.append((k, "weight"))
        if call.layer.bias is not None:
            everything.append((k, "bias"))
    if len(everything) <= WEIGHTS_AT_MOST:
        return everything
    places = torch.linspace(0, len(everything) - 1, WEIGHTS_AT_MOST).round().to(torch.int64)
    return [everything[int(place)] for place in places]


def _signals(logits: Tensor, generator: torch.Generator) -> list[Tensor]:
    """``(n, classes)`` each; the sum of their outer products is, in the mean, the information of the outputs.

    That is ``diag(p) - p p^T`` for probabilities ``p``, the square of ``diag(sqrt p) - p sqrt(p)^T``, whose columns are
    the signals.
    """
    classes = logits.shape[1]
    shares = logits.softmax(dim=1) * (1 - SMOOTHING) + SMOOTHING / classes
    roots = shares.sqrt()
    if classes <= SIGNALS_AT_MOST:
        one = torch.eye(classes, device=logits.device)
        return [roots[:, c : c + 1] * (one[c] - shares) for c in range(classes)]
    draws = torch.randn(SIGNALS_AT_MOST, *logits.shape, generator=generator).to(logits) / SIGNALS_AT_MOST**0.5
    return [roots * draw - shares * (roots * draw).sum(dim=1, keepdim=True) for draw in draws]


def _gradient(call: _Call, part: Literal["weight", "bias"], back: Tensor | None) -> Tensor:
    """``(n,)`` by the first weight or bias of a layer, for each image."""
    if back is None:
        return torch.zeros(len(call.given), device=call.given.device)
    first = back[:, 0] if back.dim() != 3 else back[..., 0]
    factor = _factor(call, first) if part == "weight" else torch.ones_like(first)
    return (first * factor).reshape(len(first), -1).sum(dim=1)


def _factor(call: _Call, first: Tensor) -> Tensor:
    """What the first weight of a layer is multiplied with, for each place of its first output."""
    layer, given = call.layer, call.given
    if isinstance(layer, nn.BatchNorm2d):
        assert layer.running_mean is not None
        assert layer.running_var is not None
        return (given[:, 0] - layer.running_mean[0]) / (layer.running_var[0] + layer.eps).sqrt()
    if isinstance(layer, nn.Linear):
        return given[..., 0]
    assert isinstance(layer, nn.Conv2d)
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        raise RuntimeError(f"a convolution with padding '{layer.padding}' is not handled")
    down, across = layer.padding
    padded = functional.pad(given[:, 0], (across, across, down, down))
    starts = [step * (size // 2) for step, size in zip(layer.dilation, layer.kernel_size, strict=True)]
    rows, columns = (
        slice(start, start + stride * (size - 1) + 1, stride)
        for start, stride, size in zip(starts, layer.stride, first.shape[1:], strict=True)
    )
    return padded[:, rows, columns]
