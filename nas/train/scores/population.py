"""Scores of a population: rows of a space -> scores, each network once.

Responsible for building the network that would be trained, on a batch of the data that it would be trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.model.build import build
from nas.model.shapes import input_shape_of
from nas.space.network import Network
from nas.space.space import SearchSpace
from nas.strategy.problem import Population
from nas.train.checks import check_number
from nas.train.scores.network import check_scores, score_network
from nas.train.task import ImageClassification, Size
from nas.train.torch_settings import seeded


class PopulationScores:
    """A function from a population to its scores, which remembers what it has computed.

    A network takes about as long as a few steps of training (`experiments/zero_cost`): tenths of a second to seconds,
    so this is for tens or hundreds of networks, not for the pool of a whole space. All networks see the same images
    and start from the same random state.

    Args:
        space: that the rows belong to.
        task: whose training images are taken.
        names: scores, of `nas.train.scores.network.SCORES`.
        batch_size: images.
        seed: of the choice of images, the initial weights and the random signals.
        allow: import prefixes of custom operators.
        device: torch's name of where to compute.

    Raises:
        UserError: an unknown score, or a batch of fewer than four images.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: ImageClassification,
        names: Iterable[str],
        *,
        batch_size: int = 32,
        seed: int = 0,
        allow: tuple[str, ...] = (),
        device: str = "cpu",
    ) -> None:
        check_number("scores.batch_size", batch_size, low=4, integer=True)
        self.names = check_scores(names)
        self._space = space
        self._task = task
        self._allow = allow
        self._device = device
        entropy = np.random.SeedSequence(seed)
        self._seed = int(entropy.generate_state(1, np.uint32)[0])
        labels = task.labels("train")
        drawn = np.random.default_rng(entropy).permutation(len(labels))[:batch_size]
        self._picked = torch.from_numpy(drawn)
        self._labels = labels[self._picked]
        self._known: dict[str, dict[str, float]] = {}

    def __call__(self, population: Population) -> dict[str, NDArray[np.float64]]:
        """Name -> ``(n,)`` scores of rows ``(n, m)``; NaN where a network cannot be built, or has no such score."""
        found = [self._scores(self._space.network(row)) for row in np.asarray(population)]
        return {name: np.array([scores[name] for scores in found], dtype=np.float64) for name in self.names}

    def __len__(self) -> int:
        """Networks whose scores are known."""
        return len(self._known)

    def _scores(self, network: Network) -> dict[str, float]:
        if network.digest not in self._known:
            self._known[network.digest] = self._compute(network)
        return self._known[network.digest]

    def _compute(self, network: Network) -> dict[str, float]:
        shape, classes = self._task.input_shape, self._task.num_classes
        try:
            with seeded(self._seed, torch.device("cpu")):
                module = build(network, input_shape=shape, num_classes=classes, allow=self._allow)
        except Exception:  # does not fit the input, or a custom operator that raises anything
            return dict.fromkeys(self.names, math.nan)
        _, height, width = input_shape_of(network, shape)
        images = self._images((height, width))
        return score_network(module.to(self._device), images, self._labels, self.names, seed=self._seed)

    def _images(self, size: Size) -> Tensor:
        images = self._task.normalise(self._task.pixels("train")[self._picked])
        if tuple(images.shape[2:]) != size:
            images = functional.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
        return images
