"""Model folders: a trained network as the files that are shipped, each run and judged.

Responsible for the manifest of ``models/<digest>/``, and for writing the folder whole or not at all. The contract for
who deploys it is `docs/model-folder.md`. Latencies are added by `nas.deploy.manifest.finish_manifest`, on a quiet
machine, when all files are there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import onnx
import torch

from nas.deploy.export import INPUT, OPSET, OUTPUT
from nas.deploy.files import ARCHITECTURE, GOLDEN, TOLERANCE, WEIGHTS, write_files
from nas.deploy.manifest import FORMAT, Manifest, content_entry, plain, write_manifest
from nas.deploy.options import DeployOptions
from nas.deploy.records import ExportedFile, ExportedModel, Samples, TrainedNetwork, Training
from nas.errors import UserError


def export_model(
    models: Path,
    trained: TrainedNetwork,
    samples: Samples,
    training: Training,
    options: DeployOptions,
    *,
    command: str = "",
    licence: str = "",
) -> ExportedModel:
    """Writes ``models/<digest>/``, complete but for latencies; an older folder of that name is replaced.

    Args:
        models: folder of model folders; made if needed.
        trained: the network.
        samples: for calibration, judgement and golden outputs.
        training: for the record.
        options: which files, and how.
        command: that makes the run again.
        licence: of weights and data, for who deploys; may be empty.

    Raises:
        UserError: no test samples, or a network that cannot be exported in float32. An INT8 file that cannot be made
            is recorded and left out. A folder that cannot be written (no space, no right to).
    """
    digest = trained.network.digest
    target, partial = models / digest, models / f".{digest}.{os.getpid()}"
    try:
        for stale in models.glob(f".{digest}.*"):  # of a process that was killed; no two export one digest at once
            shutil.rmtree(stale, ignore_errors=True)
        partial.mkdir(parents=True)
        files, failed = write_files(partial, trained, samples, options)
        record = _manifest(partial, trained, samples, training, options)
        record |= {"files": files, "failed": failed, "command": command, "licence": licence}
        write_manifest(partial, record)
        _replace(partial, target)
    except OSError as error:
        problem = f"cannot be written, {error.strerror or error}"
        raise UserError(str(target), problem, "free some space, or choose another run.folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    exported = tuple(_exported(target, entry) for entry in files)
    return ExportedModel(digest=digest, folder=target, files=exported, failed=failed)


def _manifest(
    folder: Path, trained: TrainedNetwork, samples: Samples, training: Training, options: DeployOptions
) -> Manifest:
    """The part of the manifest that is about the network and not about a file."""
    golden = {"num_samples": min(options.golden_images, samples.test.shape[0])}
    return {
        "format": FORMAT,
        "digest": trained.network.digest,
        "space": {"name": trained.space, "digest": trained.space_digest},
        "choices": dict(trained.architecture.choices),
        "macs": trained.macs,
        "parameters": trained.parameters,
        "labels": list(samples.classes),
        "input": input_entry(samples, samples.test.shape[1:]),
        "output": output_entry(samples),
        "training": {
            "data": samples.data,
            "data_digest": samples.data_digest,
            "epochs": training.epochs,
            "seed": training.seed,
            "seconds": training.seconds,
            "validation_accuracy": training.validation_accuracy,
            "recipe": plain(training.recipe),
            "torch": torch.__version__,
        },
        "exporter": {"name": options.exporter, "opset": OPSET, "onnx": onnx.__version__},
        "golden": golden | {"tolerance": {name: TOLERANCE[name] for name in options.precisions}},
        "contents": [content_entry(folder / name) for name in (ARCHITECTURE, WEIGHTS, GOLDEN)],
    }


def input_entry(samples: Samples, shape: tuple[int, ...]) -> Manifest:
    """The manifest's ``input`` of a network that takes images (c, h, w) of ``shape``."""
    data_size, size = samples.data_shape[1:], shape[1:]
    return {
        "name": INPUT,
        "shape": ["batch", *shape],
        "layout": "NCHW",
        "dtype": "float32",
        "channels": "RGB" if shape[0] == 3 else "grey" if shape[0] == 1 else "data's own",
        "formula": "(pixel / 255 - mean) / std, pixel from 0 to 255",
        "mean": list(samples.mean),
        "std": list(samples.std),
        "resize": "none" if data_size == size else f"{_size(data_size)} to {_size(size)}, {samples.resizing}",
    }


def output_entry(samples: Samples) -> Manifest:
    """The manifest's ``output``: logits of the classes."""
    return {"name": OUTPUT, "shape": ["batch", len(samples.classes)], "dtype": "float32", "meaning": "logits"}


def _size(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _exported(folder: Path, entry: Manifest) -> ExportedFile:
    return ExportedFile(
        path=folder / entry["path"],
        precision=entry["precision"],
        accuracy=entry["accuracy"],
        num_test_samples=entry["num_test_samples"],
        agreement=entry["agreement"],
        max_abs_error=float("inf") if entry["max_abs_error"] is None else entry["max_abs_error"],
        size_bytes=entry["bytes"],
        peak_activation_bytes=entry["peak_activation_bytes"],
        accepted=entry["accepted"],
        reason=entry["reason"],
    )


def _replace(partial: Path, target: Path) -> None:
    """Puts the new folder in place; the old one is moved away first, as a folder cannot be renamed onto a full one."""
    old = target.with_name(f"{partial.name}.old")
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
