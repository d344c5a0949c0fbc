"""Files run in onnxruntime: what they answer, and how far that is from torch.

Responsible for accuracy and agreement *of a file*. Latency is `nas.device`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from nas.deploy.records import Images
from nas.errors import UserError, first_line

_BATCH = 64
_ERRORS_ONLY = 3


@dataclass(frozen=True, kw_only=True)
class FileJudgement:
    """What a file is worth.

    Attributes:
        accuracy: share of samples whose label has the largest logit; a sample with a logit that is not finite is wrong.
        num_samples: samples run.
        agreement: share of samples on which the file's class is the reference's; not finite is a disagreement.
        max_abs_error: largest deviation of a logit from the reference; infinite if any logit is not finite.
        relative_error: the same as a share of the reference's range (largest logit minus smallest).
    """

    accuracy: float
    num_samples: int
    agreement: float
    max_abs_error: float
    relative_error: float


def session(path: Path, *, threads: int = 1) -> Any:
    """An onnxruntime session for a file, on the CPU and without log lines.

    Args:
        path: of the file.
        threads: that one run may use.

    Raises:
        UserError: the file is missing, or is none that onnxruntime can load.
    """
    if not path.is_file():
        raise UserError(str(path), "must be an ONNX file, there is none", "export the model again")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public base class
        problem = f"cannot be loaded by onnxruntime, {first_line(error)}"
        raise UserError(str(path), problem, "export the model again") from error


def run_file(path: Path, inputs: Images, *, batch: int = _BATCH) -> np.ndarray:
    """Logits ``(n, classes)`` float32 of a file for inputs ``(n, c, h, w)`` float32, run in batches on one thread.

    Raises:
        UserError: the file cannot be loaded, or does not take these inputs.
    """
    loaded = session(path)
    name = loaded.get_inputs()[0].name
    try:
        parts = [
            loaded.run(None, {name: inputs[start : start + batch]})[0] for start in range(0, inputs.shape[0], batch)
        ]
    except Exception as error:  # as above
        raise UserError(str(path), f"cannot be run by onnxruntime, {first_line(error)}") from error
    return np.concatenate(parts).astype(np.float32, copy=False)


def judge_file(
    path: Path, inputs: Images, labels: np.ndarray, reference_logits: np.ndarray, *, batch: int = _BATCH
) -> FileJudgement:
    """Runs a file on labelled samples and holds it against a reference.

    Args:
        path: of the file.
        inputs: ``(n, c, h, w)`` float32, as the model takes them.
        labels: ``(n,)`` class indices.
        reference_logits: ``(n, classes)``, torch's for the same inputs.
        batch: samples a run.

    Raises:
        UserError: no samples, or a file that cannot be loaded or run.
    """
    if not inputs.shape[0]:
        raise UserError("data.test", "must hold at least one sample to judge a file, got none")
    assert inputs.shape[0] == len(labels) == len(reference_logits)
    logits = run_file(path, inputs, batch=batch)
    if logits.shape != reference_logits.shape:
        raise UserError(str(path), f"must give {reference_logits.shape} logits as torch does, got {logits.shape}")
    return compare(logits, labels, reference_logits)


def compare(logits: np.ndarray, labels: np.ndarray, reference_logits: np.ndarray) -> FileJudgement:
    """The judgement on logits ``(n, classes)`` that are there already; arguments as of `judge_file`."""
    finite = np.isfinite(logits).all(axis=1)
    classes = np.where(finite, logits.argmax(axis=1), -1)
    error = float(np.abs(logits - reference_logits).max()) if finite.all() else float("inf")
    extent = float(np.ptp(reference_logits))
    return FileJudgement(
        accuracy=float((classes == labels).mean()),
        num_samples=len(labels),
        agreement=float((classes == reference_logits.argmax(axis=1)).mean()),
        max_abs_error=error,
        relative_error=error / extent if extent else (0.0 if error == 0 else float("inf")),
    )
