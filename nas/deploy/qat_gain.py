"""The INT8 file of a training with rounding, and what that training bought.

Responsible for holding the file against three others: the network it was trained in, the file that calibration alone
gives, and a float network that was trained on for as many steps. Without the last, what more training gains would be
taken for what rounding gains.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from nas.deploy.export import export_onnx
from nas.deploy.files import FILES, torch_logits
from nas.deploy.judge import FileJudgement, compare, run_file
from nas.deploy.options import Activations, DeployOptions
from nas.deploy.precision.makers import make_file
from nas.deploy.qat import write_qat_file
from nas.deploy.records import Samples
from nas.errors import UserError
from nas.train.compression.steps import Aware

PARITY = 0.97
"""Least share of test images on which the file gives the class of the network that was trained with rounding."""
_ACTIVATIONS: dict[Activations, str] = {
    "unsigned": "uint8, a scale a tensor",
    "signed": "int8, symmetric, a scale a tensor",
}


@dataclass(frozen=True, kw_only=True)
class RoundedFile:
    """An INT8 file that was trained for, judged.

    Attributes:
        judgement: of its answers against the float network before that training.
        quantisation: for the manifest: as of `nas.deploy.precision.makers.make_file`, with ``qat``: what was bought.
        reason: why it must not be shipped; empty if it may.
    """

    judgement: FileJudgement
    quantisation: Mapping[str, Any]
    reason: str


def write_rounded(
    path: Path,
    aware: Aware,
    samples: Samples,
    reference: np.ndarray,
    options: DeployOptions,
    *,
    calibrated: float | None,
) -> RoundedFile:
    """Writes the INT8 file of a training with rounding, and judges it.

    The file may answer otherwise than the float network that the training began with, so its agreement with that one
    is told and not gated: it must agree with the network that was trained with rounding (`PARITY`), and must not lose
    more accuracy than ``options.min_agreement`` lets a calibrated file lose.

    Args:
        path: of the file; replaced in one step.
        aware: of `nas.train.compression.steps.train_aware`.
        samples: to judge by, and to calibrate the control with.
        reference: ``(m, classes)`` logits of the float network before, for ``samples.test``.
        options: method and gate.
        calibrated: accuracy of the file that calibration gave for that network; None where there is none.

    Raises:
        UserError: the file cannot be written or run.
    """
    labels, shape = np.asarray(samples.test_labels), _input_shape(samples)
    profile = write_qat_file(aware.module, shape, path)
    logits = run_file(path, samples.test)
    judged = compare(logits, labels, reference)
    parity = compare(logits, labels, torch_logits(aware.module.cpu().eval(), samples.test)).agreement
    control = None if aware.control is None else _control(aware.control, samples, options, path.parent)
    rival = calibrated if control is None else control["calibrated_accuracy"]
    outcome: dict[str, Any] = {
        "epochs": aware.fit.epochs,
        "seconds": aware.fit.seconds,
        "parity": parity,
        "calibrated_accuracy": calibrated,
        "control": control,
        "gain": None if rival is None else judged.accuracy - rival,
        "cost": None if control is None else control["accuracy"] - judged.accuracy,
    }
    return RoundedFile(
        judgement=judged,
        quantisation={
            "form": "QDQ",
            "weights": "int8, symmetric, a scale an output channel",
            "activations": _ACTIVATIONS[profile],
            "method": None,
            "num_calibration_samples": 0,
            "calibration_split": None,
            "calibration_sha256": None,
            "qat": outcome,
        },
        reason=_rejection(judged, parity, compare(reference, labels, reference).accuracy, options),
    )


def describe_gain(qat: Mapping[str, Any]) -> str:
    """One line for people: ``trained with rounding for 3 epochs: +0.4 points over ..., 0.1 points below float``."""
    if "reason" in qat:
        return f"not trained with rounding: {qat['reason']}"
    text = f"trained with rounding for {qat['epochs']} epoch{'s' if qat['epochs'] != 1 else ''}"
    if qat["gain"] is not None:
        rival = "calibrating the network" + (" trained as long in float" if qat["control"] else "")
        text += f": {100 * qat['gain']:+.2f} points against {rival}"
    if qat["cost"] is not None:
        text += f", {-100 * qat['cost']:+.2f} against that network itself"
    return text


def _control(module: nn.Module, samples: Samples, options: DeployOptions, scratch: Path) -> dict[str, Any]:
    """The float network after as many steps: its accuracy, and that of its calibrated file (None where none can be)."""
    module = module.cpu().eval()
    labels = np.asarray(samples.test_labels)
    float_logits = torch_logits(module, samples.test)
    found: float | None
    with tempfile.TemporaryDirectory(prefix=".control-", dir=scratch) as name:
        float_file, path = Path(name) / FILES["float32"], Path(name) / FILES["int8"]
        try:
            export_onnx(module, _input_shape(samples), float_file, exporter=options.exporter)
            images = samples.calibration[: options.calibration_images]
            make_file("int8", float_file, path, images, replace(options, revert=0))
            found = compare(run_file(path, samples.test), labels, float_logits).accuracy
        except UserError:
            found = None
    return {"accuracy": compare(float_logits, labels, float_logits).accuracy, "calibrated_accuracy": found}


def _rejection(judged: FileJudgement, parity: float, float_accuracy: float, options: DeployOptions) -> str:
    if not parity >= PARITY:
        return f"gives the class of the network it was trained in for {parity:.1%}, must be at least {PARITY:.0%}"
    lost, most = float_accuracy - judged.accuracy, 1 - options.min_agreement
    if lost > most:
        return f"is right for {judged.accuracy:.1%} of the test samples, {100 * lost:.1f} points below float32"
    return ""


def _input_shape(samples: Samples) -> tuple[int, int, int]:
    _, channels, height, width = samples.test.shape
    return channels, height, width
