"""What all steps of a compression share, and the forms of the network that they make.

Responsible for the value types between the steps, and for images and trainings on the user's data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nas.commands.compress_model import Original
from nas.commands.compress_settings import CompressSettings, normalisation
from nas.commands.display import Display
from nas.deploy.records import Samples
from nas.deploy.samples import RESIZING, NormalisedImages
from nas.device.card import Device
from nas.errors import UserError
from nas.problem.goals import Budget
from nas.train.compression.distillation import Distillation
from nas.train.compression.steps import Form, Setting
from nas.train.task import ImageClassification

Quantisation = Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Made:
    """A file that was written.

    Attributes:
        quantisation: for the manifest.
        precision: that it counts as, one of `nas.deploy.options.PRECISIONS`.
        reason: why it must not be shipped, by whoever made it; None: its agreement with float decides.
        text: what was made, for people; may be empty.
    """

    quantisation: Quantisation
    precision: str
    reason: str | None = None
    text: str = ""


Maker = Callable[[Path], Made]
"""Writes a file at a path. Raises `UserError` where it cannot be made."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Variant:
    """A form of the network.

    Attributes:
        name: for folders and tables, e.g. ``pruned-50``.
        form: the network; None where the model came as a file.
        files: label (``int8``, ``mixed``) -> what writes it; float32 comes first.
        shown: labels that get a line in the table; the others are references.
        text: what was done, for people.
        parent: name of the form that it was made of; empty for the original.
        made_to_fit: whether its files are more than its network in a precision: mixed to a budget, trained for.
        rounded: the network that was trained with rounding, where its INT8 file is that one's.
    """

    name: str
    form: Form | None
    files: Mapping[str, Maker]
    shown: tuple[str, ...]
    text: str
    parent: str = ""
    made_to_fit: bool = False
    rounded: Form | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """What all steps share.

    Attributes:
        settings: as given.
        task: the user's images, normalised as the model takes them.
        original: the model.
        samples: images to calibrate with and to judge by.
        reference: ``(m, classes)`` scores of the original for ``samples.test``.
        teacher: of all trainings; None for nobody.
        device: that files are timed on.
        budgets: that files must keep.
        scratch: folder for files that nobody ships.
        display: is told what happens.
    """

    settings: CompressSettings
    task: ImageClassification
    original: Original
    samples: Samples
    reference: np.ndarray
    teacher: Distillation | None
    device: Device
    budgets: tuple[Budget, ...]
    scratch: Path
    display: Display

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that the model takes."""
        return self.original.input_shape[1:]

    @property
    def setting(self) -> Setting:
        """Of every training."""
        return Setting(
            task=self.task,
            recipe=self.settings.recipe,
            options=self.settings.compress,
            seed=self.settings.seed,
            input_size=self.size,
            teacher=self.teacher,
        )

    def limit(self, key: str) -> float | None:
        """The limit of a budget by the beginning of its metric's key (``latency``); None where there is none."""
        return next((budget.limit for budget in self.budgets if budget.key.startswith(key)), None)


def normalised(task: ImageClassification, settings: CompressSettings) -> ImageClassification:
    """The task with the normalisation that the settings give."""
    given = normalisation(settings, task.input_shape[0])
    return task if given is None else replace(task, mean=given[0], std=given[1])


def input_shape_for(task: ImageClassification, settings: CompressSettings) -> tuple[int, int, int]:
    """Channels, height and width that the model is going to get. Raises `UserError` for channels the data lacks."""
    given = settings.input_shape
    if given is None:
        return task.input_shape
    if given[0] != task.input_shape[0]:
        problem = f"must have the {task.input_shape[0]} channels of the data, got {settings.input}"
        raise UserError("input", problem, "images are resized, and not given other channels")
    return given


def own_samples(task: ImageClassification, size: tuple[int, int], *, num_calibration: int) -> Samples:
    """Calibration images and the test split at a size; see `nas.deploy.samples.samples_of`."""
    num_train = len(task.data.splits["train"])
    positions = task.share(min(1.0, num_calibration / num_train))[:num_calibration]
    return Samples(
        calibration=NormalisedImages(task=task, pixels=task.pixels("train", size)[positions])[:],
        test=NormalisedImages(task=task, pixels=task.pixels("test", size)),
        test_labels=task.labels("test").numpy(),
        classes=task.data.classes,
        data=task.data.name,
        data_digest=task.data.digest,
        data_shape=task.input_shape,
        mean=task.mean,
        std=task.std,
        resizing=RESIZING,
    )
