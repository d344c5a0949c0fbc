"""The small modules that operators are made of.

Responsible for how a convolution is padded and normalised, and for the activations by name.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


def padding_of(kernel: int) -> int:
    """Zeros on each side: an odd kernel keeps the map's size at stride 1, an even one gives ``size - 1``."""
    return (kernel - 1) // 2


def convolution(in_channels: int, channels: int, *, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, for a normalisation to follow."""
    padding = padding_of(kernel)
    return nn.Conv2d(in_channels, channels, kernel, stride=stride, padding=padding, groups=groups, bias=False)


class ConvNorm(nn.Sequential):
    """Convolution, batch normalisation, activation."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: str = "none",
    ) -> None:
        super().__init__()
        self.conv = convolution(in_channels, channels, kernel=kernel, stride=stride, groups=groups)
        self.norm = nn.BatchNorm2d(channels)
        if activation != "none":
            self.activation = ACTIVATIONS[activation]()


class GlobalAveragePool(nn.Module):
    """Mean of each channel: ``(n, c, h, w)`` to ``(n, c, 1, 1)``. One operator in ONNX, for any size of map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(x, 1)


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate in [0, 1] that the means of all channels decide [Hu2018].

    The gate is the hard sigmoid, and the narrow layer has a quarter of the channels, rounded to a multiple of 8
    of at least 8, as in [Howard2019].

    References:
        [Hu2018] Squeeze-and-Excitation Networks, CVPR 2018.
        [Howard2019] Searching for MobileNetV3, ICCV 2019.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(8, (channels // 4 + 4) // 8 * 8)
        self.pool = GlobalAveragePool()
        self.reduce = nn.Conv2d(channels, narrow, 1)
        self.activation = nn.ReLU()
        self.expand = nn.Conv2d(narrow, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate: torch.Tensor = self.gate(self.expand(self.activation(self.reduce(self.pool(x)))))
        return x * gate
