"""A vision transformer of one block, as a user may bring one: patches, attention, a feed-forward part, a head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.train.task import ImageClassification


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        split = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5).softmax(-1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class SmallTransformer(nn.Module):
    def __init__(self, *, width: int = 96, depth: int = 1, size: int = 8, patch: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(tokens)).mean(1))


def trained_transformer(task: ImageClassification, *, epochs: int, seed: int = 0, depth: int = 1) -> SmallTransformer:
    """Trained on the task's training split in 8x8 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = SmallTransformer(depth=depth)
        images = task.normalise(task.pixels("train", (8, 8))).contiguous()
        labels = task.labels("train")
        optimiser = torch.optim.AdamW(module.parameters(), 2e-3, weight_decay=0.05)
        steps = epochs * -(-len(images) // 32)
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, total_iters=steps)
        for _ in range(epochs):
            for batch in torch.randperm(len(images)).split(32):
                optimiser.zero_grad()
                nn.functional.cross_entropy(module(images[batch]), labels[batch]).backward()
                optimiser.step()
                schedule.step()
    return module.eval()
