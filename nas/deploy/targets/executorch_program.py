"""torch modules -> exported programs in files, which converters read in a process of their own.

Responsible for the one form (`torch.export`) that LiteRT, ExecuTorch and Core ML start from, with a batch of one. An
exported program holds no code of its author, so that it can be handed to another process as a file.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nas.deploy.quiet import quiet_tools
from nas.deploy.records import Images
from nas.errors import UserError, first_line

_CHUNK = 256


def write_program(module: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
    """Writes ``module`` as an exported program (``.pt2``) that takes one image ``(1, *input_shape)`` float32.

    Args:
        module: in evaluation mode, on the CPU; not changed.
        input_shape: channels, height, width.
        path: of the new file.

    Raises:
        UserError: torch cannot trace the module.
    """
    example = (torch.zeros((1, *input_shape)),)
    with quiet_tools():
        try:
            program = torch.export.export(plain_copy(module), example)
        except Exception as error:  # torch.export raises whatever its parts raise
            problem = f"cannot be traced by torch.export, {first_line(error)}"
            advice = "write the operator without Python control flow on tensor values, or ship the ONNX file"
            raise UserError(type(module).__name__, problem, advice) from error
        torch.export.save(program, path)


def plain_copy(module: nn.Module) -> nn.Module:
    """A copy whose tensors lie in memory in the order of their axes.

    Training leaves kernels with the channels last, which a program would keep: ExecuTorch's passes then put conversions
    between operators, or fail.
    """
    copied: nn.Module = copy.deepcopy(module)
    return copied.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]


def write_images(images: Images, path: Path, *, limit: int | None = None) -> None:
    """Writes images ``(n, c, h, w)`` float32 to a ``.npy`` file, a part at a time; at most ``limit`` of them."""
    count = images.shape[0] if limit is None else min(limit, images.shape[0])
    shape = (count, *images.shape[1:])
    held = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, count, _CHUNK):
        held[start : min(start + _CHUNK, count)] = images[start : min(start + _CHUNK, count)]
    held.flush()
