"""What the tests of training share: the digits, and a small network for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from nas.train.data.digits import Digits
from nas.train.task import ImageClassification, image_classification


@pytest.fixture(scope="session")
def digits() -> ImageClassification:
    return image_classification(Digits().load())


@pytest.fixture(scope="session")
def few_digits() -> ImageClassification:
    return image_classification(Digits(limit=300, validation_share=0.2).load())


@pytest.fixture
def small_net() -> Callable[..., nn.Module]:
    """Makes a network of two convolutions with normalisation and dropout, the same one for the same seed."""

    def make(seed: int = 0) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1, bias=False),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=16, bias=False),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.Dropout(0.05),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(128, 10),
            )

    return make
