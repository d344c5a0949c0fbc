"""What goes into an export and what comes out of it.

Responsible for the value types at the border of `nas.deploy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from nas.deploy.options import Precision
from nas.space.architecture import Architecture
from nas.space.network import Network


class Images(Protocol):
    """Anything that gives images ``(k, c, h, w)`` float32 for a slice or an array of indices; an array does."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, c, h, w)``."""

    def __getitem__(self, index: Any, /) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedNetwork:
    """What is exported.

    Attributes:
        module: trained; not changed by exporting.
        network: that it was built from.
        architecture: its choices.
        space: name of the search space.
        space_digest: of the search space.
        macs: multiply-accumulates for one sample.
        parameters: trained numbers.
    """

    module: nn.Module
    network: Network
    architecture: Architecture
    space: str
    space_digest: str
    macs: int
    parameters: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Images as the model takes them, and how they came to be.

    Attributes:
        calibration: ``(n, c, h, w)`` float32, from the training split.
        test: ``(m, c, h, w)`` float32, m > 0, from a split that no earlier step has seen.
        test_labels: ``(m,)`` class indices.
        classes: name of each class, in the order of the logits.
        data: name of the data set.
        data_digest: of its contents and splits.
        data_shape: channels, height and width of an image before it is resized for the network.
        mean, std: by channel; the model takes ``(pixel / 255 - mean) / std``.
        resizing: how an image of another size is brought to the network's, for people.
    """

    calibration: np.ndarray
    test: Images
    test_labels: np.ndarray
    classes: tuple[str, ...]
    data: str
    data_digest: str
    data_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resizing: str = ""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the network was trained, for the record.

    Attributes:
        epochs: passes over the training split.
        seed: of initialisation and data order.
        seconds: wall time.
        validation_accuracy: of torch, at the end; None where there was no validation.
        recipe: its settings, plain values.
    """

    epochs: int
    seed: int
    seconds: float
    validation_accuracy: float | None = None
    recipe: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """A file that was written and run: a row of ``front.csv`` but for its latency.

    Attributes:
        path: of the file, absolute if the folder's was.
        precision: of its weights and activations.
        accuracy: of the file on the test split.
        num_test_samples: that it was judged on.
        agreement: share of them on which it gives torch's class.
        max_abs_error: largest deviation of a logit from torch's.
        size_bytes: of the file.
        peak_activation_bytes: for one sample, on the machine that exported.
        accepted: whether it may be shipped.
        reason: why not; empty if accepted.
    """

    path: Path
    precision: Precision
    accuracy: float
    num_test_samples: int
    agreement: float
    max_abs_error: float
    size_bytes: int
    peak_activation_bytes: int
    accepted: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A model folder. Plain values only, so that a worker can send it.

    Attributes:
        digest: of the network, and the folder's name.
        folder: where it is.
        files: one a precision that could be made.
        failed: precision -> why there is no file of it.
    """

    digest: str
    folder: Path
    files: tuple[ExportedFile, ...]
    failed: Mapping[str, str]
