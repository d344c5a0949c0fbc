"""float32 ONNX files -> INT8 ONNX files, by calibration (post-training quantisation).

Responsible for static quantisation in the QDQ form: weights in int8 with a scale an output channel, activations in
8 bits with a scale a tensor.

Signs. On x86 onnxruntime's 8-bit kernels want *unsigned* activations: with signed ones depthwise networks were two to
four times slower than in float32. On ARM signed, symmetric activations are the ones that kernels are written for; other
runtimes (XNNPACK, Core ML) want them too. `host_activations` follows the machine that exports; say the sign in the
configuration where the file is for another one.

The calibration method "distribution" of onnxruntime is not offered: it is meant for 8-bit floats, and takes depthwise
networks to chance without a word.

References:
    [Jacob2018] Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference, CVPR 2018.
    [Migacz2017] Migacz, 8-bit Inference with TensorRT, GTC 2017 (the method "entropy").
"""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from nas.deploy.export import INPUT
from nas.deploy.graph import lean, shorten_names, write_model
from nas.deploy.options import ACTIVATIONS, METHODS, Activations, Method
from nas.deploy.quiet import quiet_tools
from nas.errors import UserError, first_line, unknown_name

_METHODS: dict[Method, Any] = {
    "minmax": quantization.CalibrationMethod.MinMax,
    "entropy": quantization.CalibrationMethod.Entropy,
    "percentile": quantization.CalibrationMethod.Percentile,
}
_TYPES: dict[Activations, Any] = {"unsigned": quantization.QuantType.QUInt8, "signed": quantization.QuantType.QInt8}
# Images that are run at once in calibration: all activations of so many are in memory together.
_MAX_BATCH = 32


def host_activations() -> Activations:
    """The sign of 8-bit activations that onnxruntime is fast with on this machine's processor."""
    return "signed" if platform.machine().lower().startswith(("arm", "aarch")) else "unsigned"


def quantise(
    path_float32: Path,
    path_int8: Path,
    calibration: np.ndarray,
    *,
    activations: Activations = "unsigned",
    method: Method = "minmax",
) -> None:
    """Writes the INT8 form of a float32 file; equal inputs give equal bytes.

    Memory stays bounded by the activations of 32 images, however many there are.

    Args:
        path_float32: a file of `nas.deploy.export`.
        path_int8: of the new file; replaced in one step.
        calibration: ``(n, c, h, w)`` float32, as the model takes them; from the training split. 100 to 500 are usual.
        activations: ``unsigned`` (zero point where the range needs it) or ``signed`` (symmetric, every zero point 0).
        method: how the range of an activation follows from what was seen: all of it (``minmax``), the part that loses
            least information [Migacz2017] (``entropy``), or all but the 0.001 % farthest out (``percentile``).

    Raises:
        UserError: an unknown sign or method, calibration data that is empty, not finite or of another shape, or a
            network that onnxruntime cannot quantise.
    """
    if activations not in ACTIVATIONS:
        raise unknown_name("deploy.activations", "sign of activations", activations, ACTIVATIONS)
    if method not in METHODS:
        raise unknown_name("deploy.method", "calibration method", method, METHODS)
    _check_calibration(path_float32, calibration)
    with tempfile.TemporaryDirectory(prefix="nas-quantise-") as folder, quiet_tools():
        try:
            model = _quantised(path_float32, Path(folder), calibration, activations, method)
            write_model(model, path_int8)
        except Exception as error:  # the tools raise whatever their parts raise
            advice = "ship the float32 file, or leave the operator out of the space"
            problem = f"cannot be quantised by onnxruntime, {first_line(error)}"
            raise UserError(path_float32.name, problem, advice) from error


def _quantised(
    path_float32: Path, folder: Path, calibration: np.ndarray, activations: Activations, method: Method
) -> onnx.ModelProto:
    prepared, quantised = folder / "prepared.onnx", folder / "quantised.onnx"
    reader = _Reader(np.ascontiguousarray(calibration, dtype=np.float32))
    symmetric = activations == "signed"
    quant_pre_process(str(path_float32), str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared),
        str(quantised),
        reader,
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=_TYPES[activations],
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=_METHODS[method],
        extra_options={
            "ActivationSymmetric": symmetric,
            "CalibTensorRangeSymmetric": symmetric,
            # Gathers ranges batch by batch; without it every activation of every image is kept.
            "CalibStridedMinMax": reader.batch,
        },
    )
    return shorten_names(lean(onnx.load(quantised)), _value_names(onnx.load(prepared)))


def _check_calibration(path: Path, calibration: np.ndarray) -> None:
    entry = onnx.load(path, load_external_data=False).graph.input[0]
    shape = tuple(dim.dim_value for dim in entry.type.tensor_type.shape.dim)[1:]
    if calibration.ndim != 4 or not len(calibration) or calibration.shape[1:] != shape:
        raise UserError("calibration", f"must be images (n, {', '.join(map(str, shape))}), got {calibration.shape}")
    if not np.isfinite(calibration).all():
        raise UserError("calibration", "must be finite, got NaN or infinity", "look at the data's normalisation")


def _value_names(model: onnx.ModelProto) -> set[str]:
    graph = model.graph
    return {name for node in graph.node for name in (*node.input, *node.output)}


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Hands out equal batches: onnxruntime can join ranges over equal ones only."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        self.batch = next(size for size in range(min(_MAX_BATCH, len(images)), 0, -1) if len(images) % size == 0)
        self._position, self._end = 0, len(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        if self._position >= self._end:
            return None
        start, self._position = self._position, self._position + self.batch
        return {INPUT: self.images[start : self._position]}

    def set_range(self, start_index: int, end_index: int) -> None:
        self._position, self._end = start_index, end_index

    def __len__(self) -> int:
        return len(self.images)
