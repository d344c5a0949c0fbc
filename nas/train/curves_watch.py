"""The validation accuracy of a training after each epoch.

Responsible for judging cheaply, and without changing what is trained: the weights come back to the last bit, and no
random number is drawn.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nas.train.checkpoint import Trainee
from nas.train.data.images import SplitName
from nas.train.data.splits import stratified_order
from nas.train.judge import metrics_of
from nas.train.task import ImageClassification, Size

_BATCH = 256
_IMAGES_PER_TRAINED = 1 / 12  # judged for each that is trained on: a pass forward is about a third of a step
_FEWEST = 64
_SEED = 0  # which images are judged must not depend on the candidate, or candidates could not be compared


class HopelessError(RuntimeError):
    """A training fell below the accuracy that it had to have.

    Args:
        curve: accuracies so far; the last one is that which was too low.
        needed: what it had to be.
        epochs: that were planned.
    """

    def __init__(self, curve: Sequence[float], needed: float, epochs: int) -> None:
        self.curve = tuple(curve)
        super().__init__(
            f"stopped after epoch {len(curve)} of {epochs}: {curve[-1]:.1%} validation accuracy"
            f" where less than {needed:.1%} leaves no hope"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Watch:
    """A part of a split, ready to be judged.

    Attributes:
        task: whose images they are.
        pixels: ``(n, h, w, c)`` uint8, on the device of the training.
        labels: ``(n,)`` on the CPU.
    """

    task: ImageClassification
    pixels: Tensor
    labels: Tensor

    @torch.no_grad()
    def accuracy(self, trainee: Trainee) -> float:
        """Share that the network of now gets right, with averaged weights where there is an average.

        The module is left as it was but in evaluation mode.
        """
        module = trainee.module
        own = None
        if trainee.average is not None:
            own = copy.deepcopy(module.state_dict())
            module.load_state_dict(trainee.average.state)
        module.eval()
        outputs = [
            module(self.task.normalise(self.pixels[start : start + _BATCH])).float().cpu()
            for start in range(0, len(self.pixels), _BATCH)
        ]
        if own is not None:
            module.load_state_dict(own)
        return metrics_of(torch.cat(outputs), self.labels)["accuracy"]


def watch(task: ImageClassification, split: SplitName, *, size: Size, num_trained: int, device: torch.device) -> Watch:
    """What a training is watched on: the split, or a part of it that costs about 3 % of an epoch.

    Args:
        task: where the images come from.
        split: which of them.
        size: height and width that the network takes.
        num_trained: images of an epoch.
        device: where the network is.
    """
    labels = task.labels(split)
    count = min(len(labels), max(_FEWEST, round(num_trained * _IMAGES_PER_TRAINED)))
    order = stratified_order(labels.numpy(), np.random.default_rng(_SEED))
    chosen = torch.from_numpy(np.sort(order[:count]))
    return Watch(task=task, pixels=task.pixels(split, size)[chosen].to(device), labels=labels[chosen])
