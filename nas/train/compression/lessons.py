"""Distillation within one training: the teacher asked at each step, or once for all images.

Responsible for the loss of a batch, and for the scores that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.train.augmentation import Batch, TrainingImages
from nas.train.compression.distillation import Distillation, DistilOptions, Pupil
from nas.train.torch_settings import seeded

_BATCH = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Lessons:
    """A pupil and what it learns from.

    Attributes:
        pupil: the network with the projections of its feature maps.
        options: how much the teacher counts.
        known: ``(n, k)`` scores of the teacher for the training images, in their order; None where it is asked at each
            step, because no image comes twice the same or because feature maps are wanted too.
    """

    pupil: Pupil
    options: DistilOptions
    known: Tensor | None

    def loss(self, indices: NDArray[np.int64], batch: Batch, label_smoothing: float) -> Tensor:
        """The loss of `DistilOptions` of a batch, made of the training images at ``indices``."""
        weight = self.options.weight
        picked = None
        if self.known is not None:
            picked = self.known[torch.from_numpy(indices).to(self.known.device)]
        scores, soft, maps = self.pupil.losses(batch.images, picked)
        own = batch.loss(scores, label_smoothing)
        return (1 - weight) * own + weight * soft + self.options.feature_weight * maps


def lessons_of(module: nn.Module, distillation: Distillation, images: TrainingImages, *, seed: int) -> Lessons:
    """Lessons for a module on those images; the projections' first weights follow from ``seed``.

    Raises:
        UserError: feature maps are wanted and there are none.
    """
    first = images.plain(np.arange(min(2, len(images))))
    with seeded(seed, first.device):
        pupil = Pupil(module, distillation, first)
    known = None
    if not images.recipe.is_random and distillation.options.feature_weight == 0:
        places = np.array_split(np.arange(len(images)), max(1, len(images) // _BATCH))
        known = torch.cat([distillation.teacher(images.plain(part)).logits.float() for part in places])
    return Lessons(pupil=pupil, options=distillation.options, known=known)
