"""The user's own model, as a torch module or as an ONNX file, brought to one form.

Responsible for every mistake that can be seen before anything is spent: what is no model, or none for these images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.commands.compress_settings import CompressSettings
from nas.deploy.export import export_onnx
from nas.deploy.files import torch_logits
from nas.deploy.judge import run_file
from nas.deploy.records import Images
from nas.deploy.teacher import take_file
from nas.errors import UserError
from nas.train.compression.steps import Form
from nas.train.compression.teachers import check_scores, import_module

_WHERE = "model"


@dataclass(frozen=True, kw_only=True, eq=False)
class Original:
    """A model as it was given.

    Attributes:
        name: for folders and tables.
        form: the torch module, in evaluation mode, on the CPU; None where a file was given.
        file: float32 ONNX in this library's form: input ``input`` with a free batch, output ``logits``.
        input_shape: channels, height and width that it takes.
        digest: 16 hexadecimal digits, of the file's bytes.
    """

    name: str
    form: Form | None
    file: Path
    input_shape: tuple[int, int, int]
    digest: str

    def logits(self, images: Images) -> np.ndarray:
        """Scores ``(n, classes)`` for ``(n, c, h, w)`` float32: torch's, or the file's where there is no module."""
        return run_file(self.file, images) if self.form is None else torch_logits(self.form.module, images)


def load_original(
    settings: CompressSettings, *, input_shape: tuple[int, int, int], num_classes: int, scratch: Path
) -> Original:
    """The model that the settings name.

    Args:
        settings: with its name.
        input_shape: channels, height and width of the images as it is going to get them.
        num_classes: of the data.
        scratch: folder for its file.

    Raises:
        UserError: no such file or function, a function that returns no module, or a model that does not score these
            images.
    """
    file = scratch / "original.onnx"
    form: Form | None = None
    if settings.is_file:
        source = Path(settings.model).expanduser()
        take_file(_WHERE, source, file, input_shape=input_shape, num_classes=num_classes)
    elif ":" not in settings.model:
        problem = f"must be package.module:function or a path to an .onnx file, got '{settings.model}'"
        raise UserError(_WHERE, problem)
    else:
        module = import_module(_WHERE, settings.model, allow=settings.allow).cpu().float()
        check_scores(_WHERE, f"{settings.model}()", module, input_shape=input_shape, num_classes=num_classes)
        export_onnx(module, input_shape, file, exporter=settings.deploy.exporter)
        form = Form(module=module)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return Original(name=settings.name, form=form, file=file, input_shape=input_shape, digest=digest)
