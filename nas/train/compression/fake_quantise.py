"""8-bit numbers simulated in float: what a file's integers will be, felt in training.

Responsible for the modules that round activations and weights, and for where their ranges come from.

References:
    [Jacob2018] B. Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference. CVPR 2018. https://arxiv.org/abs/1712.05877
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Profile = Literal["unsigned", "signed"]
"""Of 8-bit activations: ``unsigned`` (0 to 255 with a zero point; x86) or ``signed`` (-128 to 127, symmetric, every
zero point 0; TensorRT, ARM, NPUs)."""
PROFILES: tuple[Profile, ...] = get_args(Profile)

_LEAST = 1e-8  # range of a value that was never anything but 0


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The integers of a profile.

    Attributes:
        low, high: least and greatest.
        symmetric: whether 0 is in the middle, and the zero point 0.
    """

    low: int
    high: int
    symmetric: bool


GRIDS: dict[Profile, Grid] = {
    "unsigned": Grid(low=0, high=255, symmetric=False),
    "signed": Grid(low=-128, high=127, symmetric=True),
}


class FakeQuantise(nn.Module):
    """Rounds activations to the 256 values of a range that it observes; gradients pass where nothing is cut off.

    While ``observing`` and in training mode the range follows a moving average of the batches' extremes [Jacob2018].
    It always holds 0, which padding needs to be exact.

    Args:
        profile: the integers.
        momentum: share of a batch in the moving average.
    """

    low: Tensor
    high: Tensor

    def __init__(self, profile: Profile, *, momentum: float = 0.01) -> None:
        super().__init__()
        self.profile = profile
        self.observing = True
        self._momentum = momentum
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` rounded, of its shape."""
        if self.observing and self.training:
            self.observe(x, self._momentum)
        scale, zero_point = self.scale_and_zero_point()
        grid = GRIDS[self.profile]
        return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero_point, grid.low, grid.high)

    @torch.no_grad()
    def observe(self, x: Tensor, momentum: float) -> None:
        """Takes the extremes of ``x`` into the range with a weight of ``momentum``."""
        low, high = torch.aminmax(x.detach().float())
        self.low.lerp_(low.clamp(max=0), momentum)
        self.high.lerp_(high.clamp(min=0), momentum)

    @torch.no_grad()
    def scale_and_zero_point(self) -> tuple[Tensor, Tensor]:
        """Both ``()``: float32, above 0, and int32."""
        grid = GRIDS[self.profile]
        if grid.symmetric:
            extent = torch.maximum(-self.low, self.high).clamp(min=_LEAST)
            return extent / grid.high, torch.zeros_like(extent, dtype=torch.int32)
        scale = (self.high - self.low).clamp(min=_LEAST) / (grid.high - grid.low)
        zero_point = torch.round(grid.low - self.low / scale).clamp(grid.low, grid.high)
        return scale, zero_point.to(torch.int32)


def quantised_weight(weight: Tensor) -> Tensor:
    """A weight ``(out, ...)`` rounded to int8 with a symmetric scale an output; of its shape, with gradients."""
    scale = weight_scale(weight)
    zeros = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight.float(), scale, zeros, 0, -128, 127)


@torch.no_grad()
def weight_scale(weight: Tensor) -> Tensor:
    """``(out,)`` float32: the largest magnitude of each output is 127, so -128 is never used."""
    return weight.detach().float().flatten(1).abs().amax(dim=1).clamp(min=_LEAST) / 127


class QuantisedLayer(nn.Module):
    """A convolution or linear layer whose weight is rounded, with the normalisation after it folded in.

    The normalisation's statistics stand still; its scale and shift are trained on. So the weight that is rounded is
    the one that the file will hold, and the float weight that is trained keeps the size that it was trained at.

    Args:
        layer: convolution or linear; part of this module.
        norm: the batch normalisation that follows, or None.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, norm: nn.BatchNorm2d | None) -> None:
        super().__init__()
        self.layer = layer
        self.norm = norm

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias with the normalisation in them, float, with gradients."""
        weight, bias = self.layer.weight, self.layer.bias
        norm = self.norm
        if norm is None:
            return weight, bias
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale = norm.weight * scale
        shift = -norm.running_mean if bias is None else bias - norm.running_mean
        shift = shift * scale
        if norm.bias is not None:
            shift = shift + norm.bias
        return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), shift

    def forward(self, x: Tensor) -> Tensor:
        """The layer with its rounded weight."""
        weight, bias = self.folded()
        return apply_layer(self.layer, x, quantised_weight(weight), bias)


def apply_layer(layer: nn.Conv2d | nn.Linear, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What ``layer`` computes, with another weight and bias."""
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(x, weight, bias)
    result: Tensor = layer._conv_forward(x, weight, bias)
    return result
