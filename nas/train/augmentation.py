"""Random changes to training images, a whole batch at once.

Responsible for `TrainingImages`, which holds the training split as one tensor and hands out augmented batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.train.recipe import Recipe
from nas.train.task import ImageClassification, Size


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One step's images and targets.

    Attributes:
        images: ``(b, c, h, w)`` float32, normalised, channels-last.
        labels: ``(b,)`` int64.
        mixed_labels: ``(b,)`` labels of the images that were mixed in; None without mixup.
        weight: share of the first image in the mixture; 1 without mixup.
    """

    images: Tensor
    labels: Tensor
    mixed_labels: Tensor | None = None
    weight: float = 1.0

    def loss(self, logits: Tensor, label_smoothing: float) -> Tensor:
        """Mean cross-entropy, weighted between both labels of a mixture."""
        own = functional.cross_entropy(logits, self.labels, label_smoothing=label_smoothing)
        if self.mixed_labels is None:
            return own
        other = functional.cross_entropy(logits, self.mixed_labels, label_smoothing=label_smoothing)
        return self.weight * own + (1 - self.weight) * other


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingImages:
    """A share of the training split, at one size, on one device.

    Attributes:
        task: for the normalisation.
        recipe: what is done to the images.
        padded: ``(n, h + 2 margin, w + 2 margin, c)`` uint8, so that shifting is indexing.
        labels: ``(n,)`` int64.
        size: height and width of a batch's images.
        margin: greatest shift, in pixels, over height and width.
    """

    task: ImageClassification
    recipe: Recipe
    padded: Tensor
    labels: Tensor
    size: Size
    margin: Size

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """The images at ``indices``, augmented by draws from ``rng``."""
        device = self.labels.device
        picked = torch.from_numpy(indices).to(device)
        rows, columns = (torch.from_numpy(places).to(device) for places in self._places(len(indices), rng))
        pixels = self.padded[picked[:, None, None], rows[:, :, None], columns[:, None, :]]
        images = self.task.normalise(pixels)
        if self.recipe.cutout > 0:
            images = _cut_out(images, self.recipe.cutout, rng)
        labels = self.labels[picked]
        if self.recipe.mixup <= 0:
            return Batch(images=images, labels=labels)
        weight = float(rng.beta(self.recipe.mixup, self.recipe.mixup))
        partners = torch.from_numpy(rng.permutation(len(indices))).to(device)
        mixed = images.mul(weight).add_(images[partners], alpha=1 - weight)
        return Batch(images=mixed, labels=labels, mixed_labels=labels[partners], weight=weight)

    def plain(self, indices: NDArray[np.int64]) -> Tensor:
        """The images at ``indices`` as they are: ``(b, c, h, w)`` float32, normalised."""
        (height, width), (top, left) = self.size, self.margin
        pixels = self.padded[torch.from_numpy(indices).to(self.labels.device)]
        return self.task.normalise(pixels[:, top : top + height, left : left + width])

    def _places(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """``(count, h)`` rows and ``(count, w)`` columns of the padded images that make up each new image."""
        rows, columns = (
            rng.integers(0, 2 * margin + 1, size=(count, 1)) + np.arange(side)
            for side, margin in zip(self.size, self.margin, strict=True)
        )
        if self.recipe.flip:
            mirrored = rng.random(count) < 0.5
            columns[mirrored] = columns[mirrored, ::-1]
        return rows, columns


def training_images(
    task: ImageClassification, recipe: Recipe, *, size: Size, data_share: float, device: torch.device
) -> TrainingImages:
    """The training split, ready for batches: moved to the device once."""
    margin = (round(recipe.shift * size[0]), round(recipe.shift * size[1]))
    pixels, labels = task.pixels("train", size), task.labels("train")
    if data_share < 1:
        kept = torch.from_numpy(task.share(data_share))
        pixels, labels = pixels[kept], labels[kept]
    if any(margin):
        pixels = functional.pad(pixels, (0, 0, margin[1], margin[1], margin[0], margin[0]))
    return TrainingImages(
        task=task,
        recipe=recipe,
        padded=pixels.to(device),
        labels=labels.to(device),
        size=size,
        margin=margin,
    )


def _cut_out(images: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Blanks (with the mean colour) a square around a random centre; it may reach over the border."""
    count, _, height, width = images.shape
    masks = []
    for side in (height, width):
        length = max(1, round(share * side))
        start = rng.integers(0, side, size=(count, 1)) - length // 2
        place = np.arange(side)
        masks.append(torch.from_numpy((place >= start) & (place < start + length)).to(images.device))
    square = masks[0][:, None, :, None] & masks[1][:, None, None, :]
    return images.masked_fill_(square, 0.0)
