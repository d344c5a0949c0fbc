"""Operators of a single convolution."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from nas.model.operators.layers import ConvNorm, convolution
from nas.model.operators.parameters import (
    MAX_CHANNELS,
    check_activation,
    check_channels,
    check_integer,
    check_kernel,
    check_stride,
)
from nas.model.shapes import DoesNotFit, InputShape


@dataclass(frozen=True, kw_only=True)
class Conv:
    """``conv``: convolution, batch normalisation, activation.

    Attributes:
        channels: of the output; None keeps the input's.
        kernel: size; padded by ``(kernel - 1) // 2`` on each side.
        stride: step in both directions.
        groups: must divide the channels of input and output.
        activation: see `ACTIVATIONS`; ``none`` for a linear layer.
    """

    channels: int | None = None
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_kernel(self.kernel, odd=False)
        check_stride(self.stride)
        check_integer("groups", self.groups, least=1, most=MAX_CHANNELS)
        check_activation(self.activation)

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        channels = self.channels or in_shape[0]
        for what, number in (("input", in_shape[0]), ("output", channels)):
            if number % self.groups:
                raise DoesNotFit("groups", f"must divide the {number} channels of the {what}, got {self.groups}")
        return ConvNorm(
            in_shape[0],
            channels,
            kernel=self.kernel,
            stride=self.stride,
            groups=self.groups,
            activation=self.activation,
        )


@dataclass(frozen=True, kw_only=True)
class Depthwise:
    """``depthwise``: a convolution of each channel by itself, batch normalisation, activation."""

    kernel: int = 3
    stride: int = 1
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_kernel(self.kernel, odd=True)
        check_stride(self.stride)
        check_activation(self.activation)

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        channels = in_shape[0]
        return ConvNorm(
            channels,
            channels,
            kernel=self.kernel,
            stride=self.stride,
            groups=channels,
            activation=self.activation,
        )


@dataclass(frozen=True, kw_only=True)
class ReluConvNorm:
    """``relu_conv_norm``: ReLU, convolution, batch normalisation, as on the edges of NAS-Bench-201 [Dong2020].

    Keeps channels and size.

    References:
        [Dong2020] NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search, ICLR 2020.
    """

    kernel: int = 3

    def __post_init__(self) -> None:
        check_kernel(self.kernel, odd=True)

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        return relu_conv_norm(in_shape[0], in_shape[0], kernel=self.kernel)


def relu_conv_norm(in_channels: int, channels: int, *, kernel: int, stride: int = 1) -> nn.Sequential:
    """ReLU, convolution, batch normalisation."""
    module = nn.Sequential()
    module.append(nn.ReLU())
    module.append(convolution(in_channels, channels, kernel=kernel, stride=stride))
    module.append(nn.BatchNorm2d(channels))
    return module
