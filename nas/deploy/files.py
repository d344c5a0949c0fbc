"""The files of a model folder: made from a trained network, run, and judged.

Responsible for everything in the folder but its manifest. `TOLERANCE` and the golden outputs are what a deployer
checks an own runtime against.
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import save_model
from torch import nn

from nas.deploy.architecture_file import architecture_text
from nas.deploy.export import export_onnx
from nas.deploy.judge import FileJudgement, judge_file, run_file
from nas.deploy.manifest import Manifest, content_entry, plain
from nas.deploy.memory import activation_memory
from nas.deploy.options import PRECISIONS, DeployOptions, Precision
from nas.deploy.quantise import host_activations, quantise
from nas.deploy.records import Images, Samples, TrainedNetwork
from nas.errors import UserError

ARCHITECTURE, WEIGHTS, GOLDEN = "architecture.yaml", "weights.safetensors", "golden.npz"
FILES: dict[Precision, str] = {"float32": "model.fp32.onnx", "int8": "model.int8.onnx"}
# How far golden outputs may be off on another machine, as a share of the logits' range. Integer kernels differ between
# processors (saturation, fused or not), so that INT8 logits are only near each other.
TOLERANCE: dict[Precision, float] = {"float32": 1e-3, "int8": 0.15}
_FLOAT_MIN_AGREEMENT = 0.99
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
    _, channels, height, width = samples.test.shape
    reference = torch_logits(module, samples.test)
    text = architecture_text(
        trained.network, trained.architecture, data_shape=samples.data_shape, num_classes=len(samples.classes)
    )
    (folder / ARCHITECTURE).write_text(text, encoding="utf-8")
    save_model(module, str(folder / WEIGHTS), metadata={"format": "pt"})
    shutil.copymode(folder / ARCHITECTURE, folder / WEIGHTS)  # safetensors lets nobody but the owner read it
    entries: list[Manifest] = []
    failed: dict[str, str] = {}
    for precision in (name for name in PRECISIONS if name in options.precisions):  # int8 is made from float32
        path = folder / FILES[precision]
        try:
            quantisation = _MAKERS[precision](path, module, (channels, height, width), samples, options)
        except UserError as error:
            if precision == "float32":
                raise
            failed[precision] = str(error)
            continue
        judgement = judge_file(path, samples.test, samples.test_labels, reference)
        entries.append(_file_entry(path, precision, judgement, quantisation, options))
    _write_golden(folder, samples, reference, entries, options)
    return entries, failed


def _make_float32(
    path: Path, module: nn.Module, shape: tuple[int, int, int], samples: Samples, options: DeployOptions
) -> Manifest | None:
    export_onnx(module, shape, path, exporter=options.exporter)
    return None


def _make_int8(
    path: Path, module: nn.Module, shape: tuple[int, int, int], samples: Samples, options: DeployOptions
) -> Manifest | None:
    activations = options.activations or host_activations()
    images = samples.calibration[: options.calibration_images]
    quantise(path.with_name(FILES["float32"]), path, images, activations=activations, method=options.method)
    return {
        "form": "QDQ",
        "weights": "int8, symmetric, a scale an output channel",
        "activations": f"{'uint8' if activations == 'unsigned' else 'int8, symmetric'}, a scale a tensor",
        "method": options.method,
        "num_calibration_samples": len(images),
        "calibration_sha256": hashlib.sha256(np.ascontiguousarray(images, dtype=np.float32).tobytes()).hexdigest(),
        "calibration_split": "train",
    }


_MAKERS: dict[Precision, Callable[..., Manifest | None]] = {"float32": _make_float32, "int8": _make_int8}


def _file_entry(
    path: Path, precision: Precision, judgement: FileJudgement, quantisation: Manifest | None, options: DeployOptions
) -> Manifest:
    memory = activation_memory(path)
    least = options.min_agreement if precision == "int8" else _FLOAT_MIN_AGREEMENT
    reason = ""
    if not judgement.agreement >= least:
        reason = f"gives torch's class for {judgement.agreement:.1%} of the test samples, must be at least {least:.0%}"
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
