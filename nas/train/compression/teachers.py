"""Teachers that are torch modules: of ours or of the user's.

Responsible for running a teacher at its own image size, and for importing one that the user names. A teacher in an ONNX
file is `nas.deploy.teacher`'s.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.errors import UserError, first_line
from nas.train.compression.distillation import Signals
from nas.train.compression.feature_maps import last_maps, with_maps
from nas.train.task import Size


class TorchTeacher:
    """A module that teaches; it is used in evaluation mode and never trained.

    Args:
        module: takes ``(b, c, *input_size)`` normalised as the pupil's images are, and gives ``(b, k)``. Not copied.
        input_size: height and width that it takes; images of another size are resized (bilinear), which loses what a
            smaller pupil does not see. None: it takes whatever size the pupil takes.
    """

    def __init__(self, module: nn.Module, *, input_size: Size | None = None) -> None:
        self._module = module.eval()
        self._size = input_size
        content = hashlib.sha256(repr((type(module).__qualname__, input_size)).encode())
        for name, tensor in module.state_dict().items():
            content.update(name.encode())
            content.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        self.digest = content.hexdigest()[:16]

    def map_shapes(self, images: Tensor) -> Mapping[str, tuple[int, ...]]:
        """Name -> ``(c, h, w)`` of the last feature map of each size."""
        return last_maps(self._ready(images), self._resized(images))

    @torch.no_grad()
    def __call__(self, images: Tensor, maps: tuple[str, ...] = ()) -> Signals:
        """Scores and those maps, without gradients."""
        logits, found = with_maps(self._ready(images), self._resized(images), maps)
        return Signals(logits=logits, maps=found)

    def _ready(self, images: Tensor) -> nn.Module:
        return self._module.to(images.device).eval()

    def _resized(self, images: Tensor) -> Tensor:
        return resized(images, self._size)


def resized(images: Tensor, size: Size | None) -> Tensor:
    """Images ``(b, c, h, w)`` at a size, bilinear; themselves where they have it, or where it is None."""
    if size is None or tuple(images.shape[2:]) == tuple(size):
        return images
    return functional.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)


def import_teacher(
    path: str, *, input_shape: tuple[int, int, int], num_classes: int, allow: Sequence[str] = ()
) -> TorchTeacher:
    """The teacher that ``package.module:function`` makes: called without arguments, it returns a `torch.nn.Module`.

    It is always shown images of the task's own size, whatever size its pupil takes.

    Args:
        path: of the function.
        input_shape: channels, height and width of the task's images.
        num_classes: of the task.
        allow: packages or modules that may be imported.

    Raises:
        UserError: a path outside ``allow``, nothing there, or something that does not score these images.
    """
    module = import_module("compress.distil", path, allow=allow)
    check_scores("compress.distil", f"{path}()", module, input_shape=input_shape, num_classes=num_classes)
    return TorchTeacher(module, input_size=input_shape[1:])


def import_module(where: str, path: str, *, allow: Sequence[str]) -> nn.Module:
    """What ``package.module:function`` returns when it is called without arguments, in evaluation mode.

    Args:
        where: the field that names it, for errors.
        path: of the function.
        allow: packages or modules that may be imported.

    Raises:
        UserError: a path outside ``allow``, nothing there, or a function that returns no `torch.nn.Module`.
    """
    module_name, _, name = path.partition(":")
    if not any(f"{module_name}.".startswith(prefix.rstrip(".") + ".") for prefix in allow):
        listed = ", ".join(allow) or "none"
        problem = f"must come from an allowed package ({listed}), got '{path}'"
        raise UserError(where, problem, f"add its package with allow=[{module_name.split('.')[0]}] if you trust it")
    try:
        make = getattr(importlib.import_module(module_name), name, None)
    except Exception as error:  # a user's module may raise anything
        problem = f"'{module_name}' cannot be imported: {type(error).__name__}: {first_line(error)}"
        raise UserError(where, problem, "is it installed, or on PYTHONPATH?") from error
    if not callable(make):
        raise UserError(where, f"'{module_name}' has no function '{name}'", "write it as package.module:function")
    try:
        module = make()
    except Exception as error:  # likewise
        raise UserError(where, f"{path}() must return a torch.nn.Module, got {first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise UserError(where, f"{path}() must return a torch.nn.Module, got {type(module).__name__}")
    return module.eval()


def check_scores(
    where: str, name: str, module: nn.Module, *, input_shape: tuple[int, int, int], num_classes: int
) -> None:
    """Runs a module on two images of zeros. Raises `UserError` where it does not give one score a class."""
    try:
        with torch.no_grad():
            output = module.eval()(torch.zeros(2, *input_shape))
    except Exception as error:  # a user's forward may raise anything
        raise UserError(where, f"{name} cannot take images {input_shape}, {first_line(error)}") from error
    if not isinstance(output, Tensor):
        raise UserError(where, f"{name} must give one tensor of scores, got {type(output).__name__}")
    if tuple(output.shape) != (2, num_classes):
        got = f"an output {tuple(output.shape)} for 2 images"
        raise UserError(where, f"{name} must give {num_classes} scores an image, got {got}")
