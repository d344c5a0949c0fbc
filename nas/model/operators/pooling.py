"""Operators that pool windows of a map, channel by channel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from nas.model.operators.layers import padding_of
from nas.model.operators.parameters import check_kernel, check_stride
from nas.model.shapes import InputShape


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """``max_pool``: maximum of each window; padded by ``(kernel - 1) // 2`` on each side."""

    kernel: int = 3
    stride: int = 1

    def __post_init__(self) -> None:
        check_kernel(self.kernel, odd=False)
        check_stride(self.stride)

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        return nn.MaxPool2d(self.kernel, stride=self.stride, padding=padding_of(self.kernel))


@dataclass(frozen=True, kw_only=True)
class AvgPool:
    """``avg_pool``: mean of each window over the pixels inside the map, padded like `MaxPool`."""

    kernel: int = 3
    stride: int = 1

    def __post_init__(self) -> None:
        check_kernel(self.kernel, odd=False)
        check_stride(self.stride)

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        padding = padding_of(self.kernel)
        return nn.AvgPool2d(self.kernel, stride=self.stride, padding=padding, count_include_pad=False)
