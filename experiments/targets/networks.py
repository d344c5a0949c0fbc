"""The three networks of the table, for colour images of 32 pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.model.build import build
from nas.space import SearchSpace

SHAPE, CLASSES = (3, 32, 32), 10
_BLOCK = {"op": "inverted_residual", "kernel": 3, "expansion": 4, "activation": "hardswish"}
_CONV = {"op": "conv", "kernel": 3, "activation": "relu"}
_STAGES = {
    "mobile": [
        {**_CONV, "channels": 16, "activation": "hardswish"},
        {**_BLOCK, "channels": 16, "activation": "relu", "squeeze_excite": True},
        {**_BLOCK, "channels": 24, "stride": 2, "kernel": 5, "squeeze_excite": True},
        {**_BLOCK, "channels": 24, "kernel": 5},
        {**_BLOCK, "channels": 40, "stride": 2, "squeeze_excite": True},
        {**_BLOCK, "channels": 40, "squeeze_excite": True},
        {"op": "classifier"},
    ],
    "plain": [
        {**_CONV, "channels": 32},
        {**_CONV, "channels": 64, "stride": 2},
        {**_CONV, "channels": 64},
        {**_CONV, "channels": 96, "stride": 2},
        {**_CONV, "channels": 96},
        {"op": "classifier"},
    ],
}


class Block(nn.Module):
    """Attention and a perceptron, each with layer normalisation in front."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        parts = self.qkv(self.before_attention(x)).reshape(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        x = x + self.merge(seen.transpose(1, 2).reshape(n, tokens, width))
        return x + self.narrow(functional.gelu(self.widen(self.before_mlp(x))))


class Transformer(nn.Module):
    """64 patches of 4x4 pixels, two blocks, the mean of all tokens."""

    def __init__(self, width: int = 64, heads: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(SHAPE[0], width, 4, 4)
        self.places = nn.Parameter(0.02 * torch.randn(1, (SHAPE[1] // 4) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.last, self.scores = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2) + self.places
        return self.scores(self.last(self.blocks(x)).mean(1))


NAMES = (*_STAGES, "transformer")


def network(name: str) -> nn.Module:
    """One of `NAMES`, with random weights of torch's generator."""
    if name == "transformer":
        return Transformer()
    space = SearchSpace.from_template({"name": name, "network": _STAGES[name]})
    return build(space.network(space.row({})), input_shape=SHAPE, num_classes=CLASSES)
