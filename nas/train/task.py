"""Image classification as a task: what networks are trained on and judged by.

Responsible for the normalisation, for images at a network's size, and for shares of the training split.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.train.data.images import SPLITS, ImageData, SplitName
from nas.train.data.splits import stratified_order

Size = tuple[int, int]
_RESIZE_BATCH = 512
_CACHED_BYTES = 2**28  # a larger set is made anew each time, rather than kept by every worker
# Which images a data share keeps must not depend on the candidate, or candidates could not be compared.
_SHARE_SEED = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageClassification:
    """Classify images; judged by accuracy and cross-entropy.

    Holds arrays only, so that it is shared between processes without a copy; they may be read-only.

    Attributes:
        data: images, labels and splits.
        mean: of each channel over the training split, in the scale where 255 is 1.
        std: standard deviation, likewise; 1 where a channel is constant.
    """

    data: ImageData
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the data."""
        _, height, width, channels = self.data.images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        return len(self.data.classes)

    def pixels(self, split: SplitName, size: Size | None = None) -> Tensor:
        """A split at a size, ``(n, h, w, c)`` uint8; shared and cached, so not to be written into.

        Args:
            split: which images.
            size: height and width; None: the data's own. Resizing is bilinear, with antialiasing where it shrinks,
                and rounds to whole values, as an image file would.
        """
        size = size or self.input_shape[1:]
        job = _Job(digest=self.data.digest, split=split, size=size, data=self.data)
        num_bytes = len(self.data.splits[split]) * size[0] * size[1] * self.input_shape[0]
        return _prepared(job) if num_bytes <= _CACHED_BYTES else _prepare(job)

    def normalise(self, pixels: Tensor) -> Tensor:
        """``(n, h, w, c)`` uint8 -> ``(n, c, h, w)`` float32 in the channels-last layout: ``(x/255 - mean)/std``."""
        mean = torch.tensor(self.mean, device=pixels.device) * 255
        std = torch.tensor(self.std, device=pixels.device) * 255
        return pixels.to(torch.float32).sub_(mean).div_(std).permute(0, 3, 1, 2)

    def images(self, split: SplitName, size: Size | None = None) -> Tensor:
        """A split as a network takes it: ``(n, c, h, w)`` float32, normalised. See `pixels` for ``size``."""
        return self.normalise(self.pixels(split, size))

    def labels(self, split: SplitName) -> Tensor:
        """``(n,)`` int64."""
        return torch.from_numpy(self.data.labels[self.data.splits[split]])

    def share(self, data_share: float) -> NDArray[np.int64]:
        """Positions in the training split that make up a share of it, in (0, 1].

        The share holds all classes in proportion, at least one image of each. It is the same for every candidate, and
        a larger share holds a smaller one.
        """
        labels = self.data.labels[self.data.splits["train"]]
        if data_share >= 1:
            return np.arange(len(labels), dtype=np.int64)
        order = stratified_order(labels, np.random.default_rng(_SHARE_SEED))
        _, first = np.unique(labels[order], return_index=True)
        count = max(round(data_share * len(labels)), int(first.max()) + 1)
        return np.sort(order[:count])

    def describe(self) -> dict[str, Any]:
        """What a manifest says of the task: plain JSON."""
        channels, height, width = self.input_shape
        return {
            "kind": "image-classification",
            "name": self.data.name,
            "digest": self.data.digest,
            "num_images": {split: len(self.data.splits[split]) for split in SPLITS},
            "input_shape": {"channels": channels, "height": height, "width": width},
            "classes": list(self.data.classes),
            "normalisation": {"scale": 255, "mean": list(self.mean), "std": list(self.std)},
            "note": self.data.note,
        }


def image_classification(data: ImageData) -> ImageClassification:
    """The task on ``data``, normalised by its training split."""
    train = data.images[data.splits["train"]]
    values = np.arange(256) / 255
    mean, std = [], []
    for channel in range(train.shape[3]):
        weights = np.bincount(train[..., channel].ravel(), minlength=256) / train[..., channel].size
        centre = float(weights @ values)
        spread = float(np.sqrt(weights @ (values - centre) ** 2))
        mean.append(centre)
        std.append(spread if spread > 1e-6 else 1.0)
    return ImageClassification(data=data, mean=tuple(mean), std=tuple(std))


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A split at a size; equal where digest, split and size are."""

    digest: str
    split: SplitName
    size: Size
    data: ImageData = field(compare=False)


# Workers get the task anew for each candidate, so a cache inside the task would not last; this one is a pure
# function of the key, and what it keeps is bounded by entries and bytes.
@lru_cache(maxsize=6)
def _prepared(job: _Job) -> Tensor:
    return _prepare(job)


def _prepare(job: _Job) -> Tensor:
    # Indexing copies, so that torch never wraps a read-only array of another process.
    pixels = torch.from_numpy(job.data.images[job.data.splits[job.split]])
    if tuple(pixels.shape[1:3]) == job.size:
        return pixels
    resized = []
    for start in range(0, len(pixels), _RESIZE_BATCH):
        batch = pixels[start : start + _RESIZE_BATCH].permute(0, 3, 1, 2).to(torch.float32)
        batch = functional.interpolate(batch, size=job.size, mode="bilinear", antialias=True, align_corners=False)
        resized.append(batch.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1))
    return torch.cat(resized).contiguous()
