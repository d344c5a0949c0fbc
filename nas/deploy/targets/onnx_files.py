"""ONNX files for targets that read ONNX: taken over from the model folder, or made from its float32 file.

Responsible for giving each target the file in the sign that it wants, and for copies with a fixed batch, which the
compilers of accelerators ask for.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from nas.deploy.graph import write_model
from nas.deploy.graph_checks import integer_kinds, is_symmetric
from nas.deploy.options import Activations, DeployOptions
from nas.deploy.precision.makers import make_file
from nas.deploy.profiling.graphs import read_source
from nas.deploy.profiling.work import HEAVY
from nas.deploy.targets.calibration import calibration_images
from nas.deploy.targets.target import Source
from nas.errors import UserError

_RANDOM_IMAGES = 8
_WITHOUT_RANGES = frozenset({"float32", "float16"})


def write_onnx(
    source: Source,
    precision: str,
    path: Path,
    options: DeployOptions,
    *,
    activations: Activations | None = None,
    whole: bool = False,
) -> None:
    """Writes the model as ONNX in a precision.

    Args:
        source: whose file of that precision is copied where there is one.
        precision: wanted.
        path: of the new file.
        options: how a file is made that is not there.
        activations: sign that 8-bit activations must have, which the folder's file may not: then it is made anew.
        whole: whether each convolution and matrix product must be in 8 bits, for chips that know nothing else; again
            it is made anew where the folder's file left some in floats.

    Raises:
        UserError: the file cannot be made.
    """
    if precision in source.files and _fits(source.files[precision], precision, activations, whole):
        shutil.copyfile(source.files[precision], path)
        return
    made = replace(options, activations=activations or options.activations)
    made = replace(made, revert=0) if whole else made
    images = source.samples.calibration[: options.calibration_images]
    if len(images) and precision not in _WITHOUT_RANGES:
        images = calibration_images(source, options.calibration_images)
    make_file(precision, source.files["float32"], path, images, made)


def _fits(path: Path, precision: str, activations: Activations | None, whole: bool) -> bool:
    """Whether the folder's file has the sign and the completeness that is wanted."""
    if precision != "int8" or (activations is None and not whole):
        return True
    model = onnx.load(path)
    signed = activations is None or (
        is_symmetric(model) if activations == "signed" else "UINT8" in integer_kinds(model)
    )
    return signed and (not whole or _is_whole(model))


def _is_whole(model: ModelProto) -> bool:
    """Whether every convolution and matrix product takes its data from a DequantizeLinear."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    return all(makers.get(node.input[0]) == "DequantizeLinear" for node in model.graph.node if node.op_type in HEAVY)


def write_untrained(precision: str, float32_file: Path, path: Path, options: DeployOptions) -> None:
    """As `write_onnx`, calibrated on noise: for looking at operators, which ranges do not change."""
    shape = [dim.dim_value or 1 for dim in read_source(float32_file).graph.input[0].type.tensor_type.shape.dim]
    images = np.random.default_rng(0).standard_normal((_RANDOM_IMAGES, *shape[1:]), dtype=np.float32)
    # What random weights answer means nothing: no operator goes back to float32 for it.
    make_file(precision, float32_file, path, images, replace(options, revert=0))


def with_batch(path: Path, target: Path, batch: int) -> ModelProto:
    """Writes a copy that takes batches of one size only, and returns it; other open dimensions are left open."""
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim[:1]:  # an output may come without a shape
            if not dim.dim_value:
                dim.ClearField("dim_param")
                dim.dim_value = batch
    del model.graph.value_info[:]  # they still hold the open batch
    write_model(model, target)
    return model


def check_input(shape: Sequence[int | str | None], source: Source, path: Path) -> None:
    """Raises `UserError` where a file's input ``(batch, c, h, w)`` is not what the source's images are."""
    if tuple(shape[1:]) != tuple(source.input_shape):
        found, wanted = (" x ".join(map(str, size)) for size in (shape[1:], source.input_shape))
        raise UserError(str(path), f"takes images {found}, the samples are {wanted}", "export the model again")
