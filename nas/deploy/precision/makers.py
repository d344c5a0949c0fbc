"""The one place where a float32 file becomes a file of another precision.

Responsible for the registry of precisions, and for the record of what was made, which goes into the manifest.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas.deploy.half import halve
from nas.deploy.options import PRECISIONS, Activations, DeployOptions, Precision
from nas.deploy.precision.assignment import Assignment, Wish, assign, counts
from nas.deploy.precision.calibration import calibrate, check_images, prepare
from nas.deploy.precision.gate import Held, best_method, hold_agreement
from nas.deploy.precision.sensitivity import Network
from nas.deploy.quantise import host_activations, no_operator, tool_errors
from nas.errors import UserError, unknown_name

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Order:
    """A file to be made; see `make_file`."""

    wish: Wish
    source: Path
    path: Path
    images: np.ndarray | None
    options: DeployOptions

    @property
    def activations(self) -> Activations:
        return self.options.activations or host_activations()


def make_file(
    precision: str,
    float32_file: Path,
    path: Path,
    calibration: np.ndarray | None,
    options: DeployOptions,
    *,
    stages: Mapping[str, Precision] | None = None,
    keep_float: Collection[str] = (),
) -> Record | None:
    """Writes the form of a float32 file in a precision; equal inputs give equal bytes.

    Args:
        precision: one of `nas.deploy.options.PRECISIONS`.
        float32_file: of `nas.deploy.export`, or any float32 ONNX file of one input and one output.
        path: of the new file; replaced in one step.
        calibration: ``(n, c, h, w)`` float32, as the model takes them, from the training split. Ranges are found on
            them, and the file's agreement with the float file. None: a file that needs none, and nothing is gated.
        options: sign, method, blocks, and how many operators may go back to more bits (``revert``).
        stages: beginning of operators' names in whole modules, e.g. ``s2_stage1_0`` -> precision, where it differs.
        keep_float: operators that stay in float32.

    Returns:
        What was made, for the manifest: always ``form``, ``weights``, ``activations``, ``method``,
        ``num_calibration_samples``, ``calibration_split`` and ``calibration_sha256``; where it applies ``operators``
        (precision -> count), ``reverted``, ``stages`` and ``block``. None for a plain float32 file.

    Raises:
        UserError: an unknown precision, stage or operator; calibration images that are needed and missing, or empty,
            not finite or of another shape; a network that cannot be quantised.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precisions", "precision", precision, PRECISIONS)
    wish = Wish(
        precision=precision,
        stages={name: own for name, own in (stages or {}).items() if own != precision},
        keep_float=tuple(keep_float),
        rest=options.int4_rest,
    )
    order = _Order(wish=wish, source=float32_file, path=path, images=calibration, options=options)
    return (_make_mixed if wish.stages or wish.keep_float else _MAKERS[precision])(order)


def _make_float32(order: _Order) -> Record | None:
    if order.source.resolve() != order.path.resolve():
        shutil.copyfile(order.source, order.path)
    return None


def _make_float16(order: _Order) -> Record | None:
    halve(order.source, order.path)
    return None


def _make_mixed(order: _Order) -> Record | None:
    """Any precision that is told by operator."""
    options, images = order.options, order.images
    if images is not None:
        check_images(order.source, images)
    with tool_errors(order.source, "quantised"):
        prepared = prepare(order.source)
    assignment = assign(prepared, order.wish)
    if not assignment:
        raise no_operator(order.source, prepared)
    network = Network(path=order.source, prepared=prepared, calibrated=None, block=options.int4_block)
    if "int8" in assignment.values():
        network = _calibrated(network, assignment, order)
    held = Held(assignment=assignment, reverted=(), agreement=float("nan"))
    if images is not None and options.revert:
        held = hold_agreement(network, assignment, images, min_agreement=options.min_agreement, most=options.revert)
    network.write(held.assignment, order.path)
    return _record(order, network, held)


def calibrated_network(float32_file: Path, images: np.ndarray, options: DeployOptions) -> Network:
    """A file's network with the ranges of its activations.

    Args:
        float32_file: of `nas.deploy.export`.
        images: ``(n, c, h, w)`` float32, checked already.
        options: sign, method and blocks; ``auto`` compares methods in the INT8 file.

    Raises:
        UserError: the network cannot be quantised.
    """
    wish = Wish(precision="int8")
    order = _Order(wish=wish, source=float32_file, path=float32_file, images=images, options=options)
    with tool_errors(float32_file, "quantised"):
        prepared = prepare(float32_file)
    network = Network(path=float32_file, prepared=prepared, calibrated=None, block=options.int4_block)
    assignment = assign(prepared, wish)
    if not assignment:
        raise no_operator(float32_file, prepared)
    return _calibrated(network, assignment, order)


def _calibrated(network: Network, assignment: Assignment, order: _Order) -> Network:
    if order.images is None:
        problem = f"must be images to find ranges on for {order.path.name}, got none"
        raise UserError("calibration", problem, "take int8-dynamic, or int4 with int4_rest=float32, which need none")
    if order.options.method == "auto":
        calibrated = best_method(network, assignment, order.images, order.activations)
    else:
        with tool_errors(order.source, "quantised"):
            calibrated = calibrate(
                network.prepared, order.images, activations=order.activations, method=order.options.method
            )
    return Network(path=network.path, prepared=network.prepared, calibrated=calibrated, block=network.block)


_MAKERS: dict[Precision, Callable[[_Order], Record | None]] = {
    "float32": _make_float32,
    "float16": _make_float16,
    "int8": _make_mixed,
    "int8-dynamic": _make_mixed,
    "int4": _make_mixed,
}

_FORMS: dict[Precision, str] = {
    "float32": "QDQ",
    "float16": "QDQ",
    "int8": "QDQ",
    "int8-dynamic": "integer operators",
    "int4": "QDQ",
}
_WEIGHTS: dict[Precision, str] = {
    "int8": "int8, symmetric, a scale an output channel",
    "int8-dynamic": "8 bits, a scale an output channel",
    "float16": "float16",
}
_EIGHT_BITS: dict[Activations, str] = {
    "unsigned": "uint8, a scale a tensor",
    "signed": "int8, symmetric, a scale a tensor",
}


def _record(order: _Order, network: Network, held: Held) -> Record:
    found = counts(held.assignment, len(network.prepared.graph.node))
    calibrated = network.calibrated
    weights = _WEIGHTS | {"int4": f"int4, symmetric, a scale for {order.options.int4_block} weights of a column"}
    kinds: list[Precision] = [name for name in PRECISIONS if name in found and name != "float32"]
    activations = [_EIGHT_BITS[calibrated.activations]] if calibrated is not None else []
    activations += ["uint8, a range at run time"] if "int8-dynamic" in found else []
    record: Record = {
        "form": _FORMS[order.wish.precision],
        "weights": "; ".join(weights[kind] for kind in kinds) or "float32",
        "activations": "; ".join(activations) or "float32",
        "method": calibrated.method if calibrated is not None else None,
        "num_calibration_samples": len(order.images) if order.images is not None and calibrated is not None else 0,
        "calibration_split": "train" if calibrated is not None else None,
        "calibration_sha256": _sha256(order.images) if calibrated is not None else None,
    }
    if order.wish.precision != "int8" or held.reverted or order.wish.stages or order.wish.keep_float:
        record["operators"] = found
    record |= {"reverted": list(held.reverted)} if held.reverted else {}
    record |= {"stages": dict(order.wish.stages)} if order.wish.stages else {}
    record |= {"block": order.options.int4_block} if "int4" in found else {}
    return record


def _sha256(images: np.ndarray | None) -> str | None:
    if images is None:
        return None
    return hashlib.sha256(np.ascontiguousarray(images, dtype=np.float32).tobytes()).hexdigest()
