"""float32 ONNX files -> INT8 ONNX files, by calibration (post-training quantisation).

Responsible for static quantisation in the QDQ form: weights in int8 with a scale an output channel, activations in
8 bits with a scale a tensor.

Signs. On x86 onnxruntime's 8-bit kernels want *unsigned* activations: with signed ones depthwise networks were two to
four times slower than in float32. On ARM signed, symmetric activations are the ones that kernels are written for; other
runtimes (TensorRT, XNNPACK, Core ML, NPUs) want them too, and biases in float: signed files have zero points of 0
throughout and no quantised bias (`nas.deploy.graph_checks.is_symmetric`). `host_activations` follows the machine that
exports; say the sign in the configuration where the file is for another one.

The calibration method "distribution" of onnxruntime is not offered: it is meant for 8-bit floats, and takes depthwise
networks to chance without a word.

References:
    [Jacob2018] Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference, CVPR 2018.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx

from nas.deploy.graph import lean, shorten_names, write_model
from nas.deploy.options import ACTIVATIONS, METHODS, Activations, Method
from nas.deploy.precision.calibration import Calibrated, calibrate, check_images, prepare
from nas.deploy.quiet import quiet_tools
from nas.errors import UserError, first_line, unknown_name


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
    keep_float: Collection[str] = (),
) -> None:
    """Writes the INT8 form of a float32 file; equal inputs give equal bytes.

    Memory stays bounded by the activations of 32 images, however many there are.

    Args:
        path_float32: a file of `nas.deploy.export`.
        path_int8: of the new file; replaced in one step.
        calibration: ``(n, c, h, w)`` float32, as the model takes them; from the training split. 100 to 500 are usual.
        activations: ``unsigned`` (zero point where the range needs it) or ``signed`` (symmetric, every zero point 0).
        method: how ranges follow from what was seen, see `nas.deploy.precision.calibration.calibrate`.
        keep_float: names of operators that stay in float32.

    Raises:
        UserError: an unknown sign, method or operator, calibration data that is empty, not finite or of another shape,
            or a network that onnxruntime cannot quantise.
    """
    calibrated = calibrated_file(path_float32, calibration, activations=activations, method=method)
    operators = calibrated.operators
    known = [node.name for node in calibrated.model.graph.node]
    for name in keep_float:
        if name not in known:
            raise unknown_name("keep_float", "operator", name, known)
    left = [name for name in operators if name not in keep_float]
    with tool_errors(path_float32, "quantised"):
        write_quantised(calibrated, left if keep_float else None, path_int8)


def calibrated_file(
    path_float32: Path, calibration: np.ndarray, *, activations: Activations, method: Method
) -> Calibrated:
    """A file's network with the ranges of its activations; arguments and errors as of `quantise`."""
    if activations not in ACTIVATIONS:
        raise unknown_name("deploy.activations", "sign of activations", activations, ACTIVATIONS)
    if method not in METHODS or method == "auto":
        known = [name for name in METHODS if name != "auto"]
        raise unknown_name("deploy.method", "calibration method", method, known)
    check_images(path_float32, calibration)
    with tool_errors(path_float32, "quantised"):
        calibrated = calibrate(prepare(path_float32), calibration, activations=activations, method=method)
    if not calibrated.operators:
        raise no_operator(path_float32, calibrated.model)
    return calibrated


def write_quantised(calibrated: Calibrated, operators: Collection[str] | None, path: Path) -> None:
    """Writes the network with these operators in 8 bits, under short names; see `Calibrated.quantised`."""
    with quiet_tools():
        write_model(finished(calibrated.quantised(operators), calibrated.model), path)


def finished(model: onnx.ModelProto, prepared: onnx.ModelProto) -> onnx.ModelProto:
    """A quantised model as it is shipped: lean, and with short names for all that quantising added; in place."""
    graph = prepared.graph
    return shorten_names(lean(model), {name for node in graph.node for name in (*node.input, *node.output)})


def no_operator(path: Path, prepared: onnx.ModelProto) -> UserError:
    """What to raise for a network of which nothing can be quantised."""
    kinds = ", ".join(sorted({node.op_type for node in prepared.graph.node}))
    return UserError(path.name, f"has no operator that can be quantised, it has {kinds}", _ADVICE)


_ADVICE = "ship the float32 file, or leave the operator out of the space"


@contextmanager
def tool_errors(path: Path, what: str) -> Iterator[None]:
    """Whatever onnxruntime's tools raise within becomes one line about the file; silent otherwise."""
    try:
        with quiet_tools():
            yield
    except UserError:
        raise
    except Exception as error:  # the tools raise whatever their parts raise
        raise UserError(path.name, f"cannot be {what} by onnxruntime, {first_line(error)}", _ADVICE) from error
