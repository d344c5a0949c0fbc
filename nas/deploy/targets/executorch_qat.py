"""Quantisation-aware training that ends in ExecuTorch: torch's pt2e with XNNPACK's quantizer.

Responsible for the two ends of it: a module that learns with its roundings, and a ``.pte`` file with the ranges that it
learned. In between it is trained like any other module.
"""

from __future__ import annotations

import copy
import importlib
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

from nas.deploy.targets.executorch import EXECUTORCH, LOWER, delegation
from nas.deploy.targets.executorch_lower import xnnpack_quantizer
from nas.deploy.targets.executorch_process import ConverterProcess
from nas.deploy.targets.executorch_program import plain_copy, write_program
from nas.errors import UserError, first_line

_EXAMPLES = 2


def prepare_qat(module: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """A copy of ``module`` whose weights and activations are rounded as XNNPACK will, and whose ranges are learned.

    Args:
        module: trained, float32, on the CPU; not changed. Batch normalisation is folded for the rounding and goes on
            learning.
        input_shape: channels, height, width.

    Returns:
        Takes batches ``(n, *input_shape)`` of any size; ``train()`` and ``eval()`` work.

    Raises:
        UserError: ExecuTorch is missing, or the module cannot be traced or quantised.
    """
    EXECUTORCH.check("executorch")
    pt2e = importlib.import_module("torchao.quantization.pt2e.quantize_pt2e")
    modes = importlib.import_module("torchao.quantization.pt2e")
    examples = (torch.zeros((_EXAMPLES, *input_shape)),)
    shapes = ({0: torch.export.Dim("batch")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            traced = torch.export.export(plain_copy(module).train(), examples, dynamic_shapes=shapes).module()
            prepared: nn.Module = pt2e.prepare_qat_pt2e(traced, xnnpack_quantizer(qat=True))
        except Exception as error:  # torch and torchao raise whatever their parts raise
            problem = f"cannot be prepared for quantisation-aware training, {first_line(error)}"
            raise UserError(type(module).__name__, problem, "quantise after training instead") from error
    modes.allow_exported_model_train_eval(prepared)
    return prepared


def lower_qat(
    prepared: nn.Module, input_shape: tuple[int, int, int], path: Path, *, process: ConverterProcess | None = None
) -> str:
    """Writes a module of `prepare_qat`, trained by now, as a ``.pte`` for XNNPACK with the ranges that it learned.

    Args:
        prepared: not changed.
        input_shape: channels, height, width.
        path: of the new file.
        process: to lower in; None: one that is started for this call, which takes 15 to 55 s.

    Returns:
        A sentence on what XNNPACK took.

    Raises:
        UserError: the module cannot be lowered.
    """
    with tempfile.TemporaryDirectory(prefix="nas-executorch-") as folder:
        program = Path(folder) / "program.pt2"
        write_program(convert_qat(prepared), input_shape, program)
        used = process or ConverterProcess(target="executorch")
        try:
            told = used.call(LOWER, program=str(program), path=str(path.resolve()))
        finally:
            if process is None:
                used.close()
    return delegation(told)


def convert_qat(prepared: nn.Module) -> nn.Module:
    """The quantised module that a trained module of `prepare_qat` stands for: integers with quantise and dequantise."""
    pt2e = importlib.import_module("torchao.quantization.pt2e.quantize_pt2e")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted: nn.Module = pt2e.convert_pt2e(copy.deepcopy(prepared))
    return converted
