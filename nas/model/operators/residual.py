"""Operators with a path around their convolutions.

References:
    [Sandler2018] MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.
    [He2016] Deep Residual Learning for Image Recognition, CVPR 2016.
    [Dong2020] NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search, ICLR 2020.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from nas.model.operators.convolutions import relu_conv_norm
from nas.model.operators.layers import ACTIVATIONS, ConvNorm, SqueezeExcite
from nas.model.operators.parameters import (
    MAX_CHANNELS,
    check_activation,
    check_bool,
    check_channels,
    check_integer,
    check_kernel,
    check_number,
    check_stride,
)
from nas.model.shapes import InputShape


class Residual(nn.Module):
    """The sum of a path and a shortcut, then an activation."""

    def __init__(self, path: nn.Module, shortcut: nn.Module, activation: str) -> None:
        super().__init__()
        self.path = path
        self.shortcut = shortcut
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.activation(self.path(x) + self.shortcut(x))
        return total


def _projection(in_channels: int, channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    return ConvNorm(in_channels, channels, kernel=1, stride=stride)


@dataclass(frozen=True, kw_only=True)
class InvertedResidual:
    """``inverted_residual``: widen, depthwise, narrow; the narrow layer is linear [Sandler2018].

    The input is added where stride and channels allow it. An expansion of 1 leaves the widening layer out.

    Attributes:
        channels: of the output; None keeps the input's.
        expansion: channels of the depthwise layer over those of the input (rounded).
        kernel: of the depthwise layer; odd.
        stride: of the depthwise layer.
        squeeze_excite: whether a `SqueezeExcite` follows the depthwise layer.
        activation: after the first two layers.
    """

    channels: int | None = None
    expansion: int | float
    kernel: int = 3
    stride: int = 1
    squeeze_excite: bool = False
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_number("expansion", self.expansion, least=0.01, below=1024)
        check_kernel(self.kernel, odd=True)
        check_stride(self.stride)
        check_bool("squeeze_excite", self.squeeze_excite)
        check_activation(self.activation)

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        in_channels = in_shape[0]
        channels = self.channels or in_channels
        hidden = max(1, round(in_channels * self.expansion))
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if self.expansion != 1:
            layers["expand"] = ConvNorm(in_channels, hidden, kernel=1, activation=self.activation)
        layers["depthwise"] = ConvNorm(
            hidden, hidden, kernel=self.kernel, stride=self.stride, groups=hidden, activation=self.activation
        )
        if self.squeeze_excite:
            layers["squeeze_excite"] = SqueezeExcite(hidden)
        layers["project"] = ConvNorm(hidden, channels, kernel=1)
        path = nn.Sequential(layers)
        if self.stride == 1 and in_channels == channels:
            return Residual(path, nn.Identity(), "none")
        return path


@dataclass(frozen=True, kw_only=True)
class BasicBlock:
    """``basic_block``: two convolutions and a shortcut, which is projected where shapes differ [He2016]."""

    channels: int | None = None
    kernel: int = 3
    stride: int = 1
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_kernel(self.kernel, odd=True)
        check_stride(self.stride)
        check_activation(self.activation)

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        in_channels = in_shape[0]
        channels = self.channels or in_channels
        path = nn.Sequential(
            ConvNorm(in_channels, channels, kernel=self.kernel, stride=self.stride, activation=self.activation),
            ConvNorm(channels, channels, kernel=self.kernel),
        )
        return Residual(path, _projection(in_channels, channels, self.stride), self.activation)


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """``bottleneck``: narrow, convolve, widen, and a shortcut, which is projected where shapes differ [He2016].

    Attributes:
        channels: of the output; None keeps the input's.
        expansion: channels of the output over those of the convolution in the middle (rounded, at least 1).
        kernel: of the middle; odd.
        stride: of the middle.
        activation: after the first two layers and after the sum.
    """

    channels: int | None = None
    expansion: int | float = 4
    kernel: int = 3
    stride: int = 1
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_number("expansion", self.expansion, least=0.01, below=1024)
        check_kernel(self.kernel, odd=True)
        check_stride(self.stride)
        check_activation(self.activation)

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        in_channels = in_shape[0]
        channels = self.channels or in_channels
        middle = max(1, round(channels / self.expansion))
        path = nn.Sequential(
            ConvNorm(in_channels, middle, kernel=1, activation=self.activation),
            ConvNorm(middle, middle, kernel=self.kernel, stride=self.stride, activation=self.activation),
            ConvNorm(middle, channels, kernel=1),
        )
        return Residual(path, _projection(in_channels, channels, self.stride), self.activation)


@dataclass(frozen=True, kw_only=True)
class ReductionBlock:
    """``reduction_block``: the block between the stages of NAS-Bench-201 [Dong2020].

    Two times ReLU, 3x3 convolution, normalisation; the shortcut is an average pooling and a 1x1 convolution without
    bias or normalisation. Nothing follows the sum. On maps of odd size the last window is cut at the border.

    Attributes:
        channels: of the output.
        stride: of the first convolution, and kernel and stride of the pooling; 1 leaves the pooling out.
    """

    channels: int
    stride: int = 2

    def __post_init__(self) -> None:
        check_integer("channels", self.channels, least=1, most=MAX_CHANNELS)
        check_stride(self.stride)

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        in_channels = in_shape[0]
        path = nn.Sequential(
            relu_conv_norm(in_channels, self.channels, kernel=3, stride=self.stride),
            relu_conv_norm(self.channels, self.channels, kernel=3),
        )
        shortcut = nn.Sequential()
        if self.stride > 1:
            shortcut.append(nn.AvgPool2d(self.stride, ceil_mode=True, count_include_pad=False))
        shortcut.append(nn.Conv2d(in_channels, self.channels, 1, bias=False))
        return Residual(path, shortcut, "none")
