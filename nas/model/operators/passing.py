"""Operators that let a map pass, normalise it, or stop it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from nas.model.operators.layers import ACTIVATIONS
from nas.model.operators.parameters import check_activation
from nas.model.shapes import InputShape


@dataclass(frozen=True, kw_only=True)
class Identity:
    """``identity``: the input itself."""

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        return nn.Identity()


class Zeros(nn.Module):
    """Zeros of the input's shape."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """``none``: zeros of the input's shape; on an edge of a cell, an edge that is not there."""

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        return Zeros()


@dataclass(frozen=True, kw_only=True)
class NormActivation:
    """``norm_activation``: batch normalisation, activation."""

    activation: str = "relu"

    def __post_init__(self) -> None:
        check_activation(self.activation)

    def build(self, in_shape: InputShape, num_classes: int) -> nn.Module:
        return nn.Sequential(nn.BatchNorm2d(in_shape[0]), ACTIVATIONS[self.activation]())
