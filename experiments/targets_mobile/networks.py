"""The three networks of the table, for images of one channel and 16 pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.model.build import build
from nas.space import SearchSpace

SHAPE = (1, 16, 16)
_BLOCK = {"op": "inverted_residual", "channels": 16, "kernel": 3, "expansion": 4}
_MOBILE = [
    {"op": "conv", "channels": 16, "kernel": 3, "activation": "hardswish"},
    {**_BLOCK, "activation": "relu", "squeeze_excite": True},
    {**_BLOCK, "channels": 24, "stride": 2, "kernel": 5, "activation": "hardswish", "squeeze_excite": True},
    {**_BLOCK, "channels": 24, "kernel": 5, "activation": "hardswish", "squeeze_excite": False},
    {**_BLOCK, "channels": 32, "stride": 2, "activation": "hardswish", "squeeze_excite": True},
    {"op": "classifier"},
]
_PLAIN = [
    {"op": "conv", "channels": 32, "kernel": 3, "activation": "relu"},
    {"op": "conv", "channels": 64, "kernel": 3, "activation": "relu", "stride": 2},
    {"op": "conv", "channels": 64, "kernel": 3, "activation": "relu"},
    {"op": "conv", "channels": 96, "kernel": 3, "activation": "relu", "stride": 2},
    {"op": "classifier"},
]


class Block(nn.Module):
    """A transformer block with layer normalisation in front."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        n, count, width = tokens.shape
        mixed = self.mix(self.first(tokens)).reshape(n, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = mixed.unbind(0)
        seen = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(n, count, width)
        tokens = tokens + self.out(seen)
        return tokens + self.down(functional.gelu(self.up(self.second(tokens))))


class Transformer(nn.Module):
    """Patches of 4x4, two blocks, the mean of all tokens."""

    def __init__(self, width: int = 64, heads: int = 4, depth: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(SHAPE[0], width, 4, 4)
        self.places = nn.Parameter(torch.randn(1, (SHAPE[1] // 4) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.last, self.scores = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.places
        return self.scores(self.last(self.blocks(tokens)).mean(1))


def network(name: str) -> nn.Module:
    """``mobile``, ``plain`` or ``transformer``, with random weights of torch's generator."""
    if name == "transformer":
        return Transformer()
    stages = {"mobile": _MOBILE, "plain": _PLAIN}[name]
    space = SearchSpace.from_template({"name": name, "input": {"resolution": SHAPE[1]}, "network": stages})
    return build(space.network(space.row({})), input_shape=(1, 8, 8), num_classes=10)
