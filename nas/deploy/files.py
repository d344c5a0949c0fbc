"""The files of a model folder: made from a trained network, run, and judged.

Responsible for everything in the folder but its manifest. `TOLERANCE` and the golden outputs are what a deployer
checks an own runtime against.
"""

from __future__ import annotations

import copy
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import save_model
from torch import nn

from nas.deploy.architecture_file import architecture_text
from nas.deploy.deployed_file import precisions_of_modules
from nas.deploy.export import export_onnx
from nas.deploy.file_sensitivity import file_sensitivities
from nas.deploy.judge import FileJudgement, judge_file, run_file
from nas.deploy.manifest import Manifest, content_entry, plain
from nas.deploy.memory import activation_memory
from nas.deploy.options import PRECISIONS, DeployOptions, Precision
from nas.deploy.precision.calibration import check_images, check_normalisation
from nas.deploy.precision.makers import make_file
from nas.deploy.records import Images, Samples, TrainedNetwork
from nas.errors import UserError

ARCHITECTURE, WEIGHTS, GOLDEN = "architecture.yaml", "weights.safetensors", "golden.npz"
FILES: dict[Precision, str] = {
    "float32": "model.fp32.onnx",
    "float16": "model.fp16.onnx",
    "int8": "model.int8.onnx",
    "int8-dynamic": "model.int8-dynamic.onnx",
    "int4": "model.int4.onnx",
}
# How far golden outputs may be off on another machine, as a share of the logits' range. Integer kernels differ between
# processors (saturation, fused or not), so that INT8 logits are only near each other; those of float16 differ by
# whether the processor computes in it.
TOLERANCE: dict[Precision, float] = {
    "float32": 1e-3,
    "float16": 0.02,
    "int8": 0.15,
    "int8-dynamic": 0.15,
    "int4": 0.15,
}
_FLOAT_MIN_AGREEMENT: dict[Precision, float] = {"float32": 0.99, "float16": 0.99}
_LOG = logging.getLogger(__name__)
_COMPARED_IMAGES = 256
_REFERENCE_BATCH = 64


def torch_logits(module: nn.Module, inputs: Images) -> np.ndarray:
    """Logits ``(n, classes)`` float32 of a module in evaluation mode on the CPU, for ``(n, c, h, w)`` float32."""
    with torch.inference_mode():
        parts = [
            module(torch.from_numpy(np.ascontiguousarray(inputs[start : start + _REFERENCE_BATCH]))).numpy()
            for start in range(0, inputs.shape[0], _REFERENCE_BATCH)
        ]
    return np.concatenate(parts)


def write_files(
    folder: Path, trained: TrainedNetwork, samples: Samples, options: DeployOptions
) -> tuple[list[Manifest], dict[str, str]]:
    """Writes all files of a model folder but its manifest, and judges them.

    Returns:
        The manifest's entry of each exported file, and precision -> why there is none.

    Raises:
        UserError: no test samples, or a network that cannot be exported in float32.
    """
    if not samples.test.shape[0]:
        raise UserError("data.test", "must hold at least one sample to judge a file, got none")
    module = copy.deepcopy(trained.module).cpu().eval()
    reference = torch_logits(module, samples.test)
    text = architecture_text(
        trained.network, trained.architecture, data_shape=samples.data_shape, num_classes=len(samples.classes)
    )
    (folder / ARCHITECTURE).write_text(text, encoding="utf-8")
    save_model(module, str(folder / WEIGHTS), metadata={"format": "pt"})
    shutil.copymode(folder / ARCHITECTURE, folder / WEIGHTS)  # safetensors lets nobody but the owner read it
    entries: list[Manifest] = []
    failed: dict[str, str] = {}
    stages = precisions_of_modules(trained.network)
    for precision in (name for name in PRECISIONS if name in options.precisions):  # int8 is made from float32
        path = folder / FILES[precision]
        try:
            quantisation = _made(precision, path, module, samples, options, stages=stages)
        except UserError as error:
            if precision == "float32":
                raise
            failed[precision] = str(error)
            continue
        judgement = judge_file(path, samples.test, samples.test_labels, reference)
        reason = _reason(precision, judgement, options)
        entries.append(file_entry(path, precision, judgement, quantisation, reason))
    _write_golden(folder, samples, reference, entries, options)
    return entries, failed


def _made(
    precision: Precision,
    path: Path,
    module: nn.Module,
    samples: Samples,
    options: DeployOptions,
    *,
    stages: Mapping[str, Precision],
) -> Manifest | None:
    """Writes one file; gives what is said of its quantisation."""
    if precision == "float32":
        _, channels, height, width = samples.test.shape
        export_onnx(module, (channels, height, width), path, exporter=options.exporter)
        return None
    images = samples.calibration[: options.calibration_images]
    if precision != "float16" and len(images):
        known = np.asarray(samples.test[:_COMPARED_IMAGES])
        check_images(path.with_name(FILES["float32"]), images)
        check_normalisation(images, mean=samples.mean, std=samples.std, inputs=known)
    made = make_file(precision, path.with_name(FILES["float32"]), path, images, options, stages=stages)
    if made is None or not options.sensitivities:
        return made
    return made | _sensitivities(precision, path, made, images, options)


def _sensitivities(
    precision: Precision, path: Path, quantisation: Manifest, images: np.ndarray, options: DeployOptions
) -> Manifest:
    """What `file_sensitivities` finds, to be added to what is said of the quantisation; {} where it finds nothing."""
    found: list[dict[str, object]] = []
    try:
        found = file_sensitivities(
            path,
            path.with_name(FILES["float32"]),
            precision,
            quantisation=quantisation,
            images=images,
            options=options,
        )
    except UserError as error:  # the file is as good without them
        _LOG.warning("no sensitivities of operators: %s", error)
    return {"sensitivities": found} if found else {}


def _reason(precision: Precision, judgement: FileJudgement, options: DeployOptions) -> str:
    """Why a file must not be shipped; empty if it may."""
    least = _FLOAT_MIN_AGREEMENT.get(precision, options.min_agreement)
    if judgement.agreement >= least:
        return ""
    return f"gives torch's class for {judgement.agreement:.1%} of the test samples, must be at least {least:.0%}"


def file_entry(
    path: Path, precision: str, judgement: FileJudgement, quantisation: Mapping[str, Any] | None, reason: str
) -> Manifest:
    """The manifest's entry of a file that was run, before its latencies are known.

    Args:
        path: of the file.
        precision: that it counts as.
        judgement: what it answers.
        quantisation: what was made; None where nothing was quantised.
        reason: why it must not be shipped; empty if it may.
    """
    memory = activation_memory(path)
    opset = next(entry.version for entry in onnx.load(path).opset_import if not entry.domain)
    return content_entry(path) | {
        "precision": precision,
        "runtime": "onnxruntime",
        "runtime_version": onnxruntime.__version__,
        "opset": opset,
        "verification": "executed",
        "accuracy": judgement.accuracy,
        "num_test_samples": judgement.num_samples,
        "agreement": judgement.agreement,
        "max_abs_error": plain(judgement.max_abs_error),
        "relative_error": plain(judgement.relative_error),
        "peak_activation_bytes": memory.peak_bytes,
        "arena_bytes": memory.arena_bytes,
        "quantisation": quantisation,
        "latencies": {},
        "energies": {},
        "quality_reason": reason,
        "accepted": not reason,
        "reason": reason,
    }


def _write_golden(
    folder: Path,
    samples: Samples,
    reference: np.ndarray,
    entries: list[Manifest],
    options: DeployOptions,
) -> None:
    """A few test images, spread over the split, with what torch and each file answer to them, one batch of all."""
    count = min(options.golden_images, samples.test.shape[0])
    picked = np.linspace(0, samples.test.shape[0] - 1, count).round().astype(int)
    inputs = np.ascontiguousarray(samples.test[picked], dtype=np.float32)
    arrays = {
        "inputs": inputs,
        "labels": np.asarray(samples.test_labels)[picked].astype(np.int64),
        "logits_torch": reference[picked],
    }
    for entry in entries:
        arrays[f"logits_{entry['precision']}"] = run_file(folder / entry["path"], inputs, batch=count)
    np.savez(folder / GOLDEN, allow_pickle=False, **arrays)
