"""Teachers in ONNX files, and the teacher that a configuration names.

Responsible for running such a file on a training's batches; it shows scores and no feature maps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nas.deploy.judge import session
from nas.errors import UserError, first_line
from nas.train.compression.distillation import Distillation, Signals, Teacher
from nas.train.compression.options import CompressOptions
from nas.train.compression.teachers import TorchTeacher, import_teacher, resized

_WHERE = "compress.distil"


def distillation_of(
    options: CompressOptions,
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    allow: Sequence[str] = (),
    largest: TorchTeacher | None = None,
) -> Distillation | None:
    """The teacher that ``compress.distil`` names, and how much it counts; None where it names none.

    Args:
        options: of compression.
        input_shape: channels, height and width of the task's images.
        num_classes: of the task.
        allow: packages that a teacher's function may come from.
        largest: the largest network of the front, trained; None while it is itself being trained, which is without a
            teacher then.

    Raises:
        UserError: a teacher that is not there, or that does not score these images.
    """
    teacher: Teacher | None = None
    kind = options.distil_kind
    if kind == "largest":
        teacher = largest
    elif kind == "function":
        teacher = import_teacher(options.distil, input_shape=input_shape, num_classes=num_classes, allow=allow)
    elif kind == "onnx":
        teacher = OnnxTeacher(Path(options.distil).expanduser(), channels=input_shape[0], num_classes=num_classes)
        teacher(torch.zeros(2, *input_shape))  # what does not fit is told before anything is trained
    return None if teacher is None else Distillation(teacher=teacher, options=options.distil_options)


class OnnxTeacher:
    """A teacher that onnxruntime runs on the CPU, with one thread; `nas.train.compression.distillation.Teacher`.

    Args:
        path: of a file with one input ``(batch, c, h, w)`` float32, normalised as the task's images are, and scores
            ``(batch, classes)`` as its first output. Images of another height and width than it fixes are resized.
        channels: of the task's images.
        num_classes: of the task.

    Raises:
        UserError: no such file, or one that does not score these images.
    """

    def __init__(self, path: Path, *, channels: int, num_classes: int) -> None:
        self._session = session(path)
        self._path = path
        entry = self._session.get_inputs()[0]
        shape = entry.shape
        if len(self._session.get_inputs()) != 1 or len(shape) != 4 or entry.type != "tensor(float)":
            problem = f"{path.name} must take one input (batch, {channels}, h, w) of float32, it takes {shape}"
            raise UserError(_WHERE, problem)
        if isinstance(shape[1], int) and shape[1] != channels:
            raise UserError(_WHERE, f"{path.name} must take {channels} channels as the data has, it takes {shape[1]}")
        self._name = entry.name
        self._batch = shape[0] if isinstance(shape[0], int) else None
        height, width = shape[2:]
        self._size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        self._num_classes = num_classes
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]

    def map_shapes(self, images: Tensor) -> Mapping[str, tuple[int, ...]]:
        """Nothing: a file shows no feature maps."""
        return {}

    def __call__(self, images: Tensor, maps: tuple[str, ...] = ()) -> Signals:
        """Scores ``(b, k)`` on the images' device.

        Raises:
            UserError: the file cannot be run, or gives something else than one score a class.
        """
        assert not maps
        values = np.ascontiguousarray(resized(images.detach().float(), self._size).cpu().numpy())
        step = self._batch or len(values)
        try:
            parts = [self._run(values[start : start + step], step) for start in range(0, len(values), step)]
        except Exception as error:  # onnxruntime's errors share no public base class
            raise UserError(_WHERE, f"{self._path.name} cannot be run, {first_line(error)}") from error
        logits = torch.from_numpy(np.concatenate(parts).astype(np.float32))
        if logits.shape != (len(values), self._num_classes):
            got = f"an output {tuple(logits.shape)} for {len(values)} images"
            raise UserError(_WHERE, f"{self._path.name} must give {self._num_classes} scores an image, got {got}")
        return Signals(logits=logits.to(images.device))

    def _run(self, values: np.ndarray, step: int) -> np.ndarray:
        """Outputs for at most ``step`` images, filled up where the file fixes its batch."""
        count = len(values)
        if self._batch is not None and count < step:
            values = np.concatenate([values, np.repeat(values[-1:], step - count, axis=0)])
        output: np.ndarray = self._session.run(None, {self._name: values})[0]
        return output[:count] if self._batch is not None else output
