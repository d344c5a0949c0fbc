"""From a task to the images that an export needs, normalised when they are taken out.

Responsible for memory: a test split in float32 is four times what it is in pixels, and only a batch of it is ever used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from nas.deploy.records import Samples
from nas.model.shapes import input_shape_of
from nas.space.network import Network
from nas.train.task import ImageClassification

RESIZING = "bilinear, antialiased where it shrinks, rounded to whole pixel values"


@dataclass(frozen=True, kw_only=True, eq=False)
class NormalisedImages:
    """Images of a task that are normalised when they are taken out.

    Attributes:
        task: says how.
        pixels: ``(n, h, w, c)`` uint8.
    """

    task: ImageClassification
    pixels: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, c, h, w)``."""
        count, height, width, channels = self.pixels.shape
        return count, channels, height, width

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        return self.task.normalise(self.pixels[index]).contiguous().numpy()


def samples_of(task: ImageClassification, network: Network, *, num_calibration: int) -> Samples:
    """What `nas.deploy.model_folder.export_model` needs of a task: calibration images, and the test split.

    Args:
        task: the data, with its normalisation.
        network: that they are resized for.
        num_calibration: images of the training split, at the most; every class in proportion, the same for every
            network.
    """
    _, height, width = input_shape_of(network, task.input_shape)
    num_train = len(task.data.splits["train"])
    positions = task.share(min(1.0, num_calibration / num_train))[:num_calibration]
    pixels = task.pixels("train", (height, width))[positions]
    return Samples(
        calibration=NormalisedImages(task=task, pixels=pixels)[:],
        test=NormalisedImages(task=task, pixels=task.pixels("test", (height, width))),
        test_labels=task.labels("test").numpy(),
        classes=task.data.classes,
        data=task.data.name,
        data_digest=task.data.digest,
        data_shape=task.input_shape,
        mean=task.mean,
        std=task.std,
        resizing=RESIZING,
    )
