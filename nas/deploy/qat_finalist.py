"""Model folders whose INT8 file comes from a training with rounding, and not from calibration alone.

Responsible for putting that file, its figures and its golden outputs in the place of the calibrated one's, before
anybody can take the folder for finished.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from nas.deploy.files import FILES, GOLDEN, torch_logits
from nas.deploy.judge import run_file
from nas.deploy.load import read_golden
from nas.deploy.manifest import Manifest, content_entry, plain, read_manifest, write_manifest
from nas.deploy.memory import activation_memory
from nas.deploy.model_folder import export_model
from nas.deploy.options import PRECISIONS, DeployOptions
from nas.deploy.qat_gain import RoundedFile, write_rounded
from nas.deploy.quantise import host_activations
from nas.deploy.records import ExportedModel, Samples, TrainedNetwork, Training
from nas.errors import UserError, one_line
from nas.train.compression.steps import Aware, Setting, train_aware
from nas.train.fit import DeadlineError, DivergenceError


def export_rounded(
    models: Path,
    trained: TrainedNetwork,
    samples: Samples,
    training: Training,
    options: DeployOptions,
    *,
    setting: Setting,
    command: str = "",
) -> ExportedModel:
    """Writes ``models/<digest>/`` as `nas.deploy.model_folder.export_model` does, with an INT8 file trained for.

    Where the network cannot be trained with rounding (it cannot be traced, diverges, or the time is over) the
    calibrated file stays, and the manifest says why.

    Args:
        models: folder of model folders; made if needed.
        trained: the network; goes into the folder as it is.
        samples: for calibration, judgement and golden outputs.
        training: for the record.
        options: which files, and how; ``int8`` is among the precisions.
        setting: of the training with rounding.
        command: that makes the run again.

    Raises:
        UserError: see `export_model`.
    """
    assert "int8" in options.precisions
    aware, reason = _aware(trained, setting, options)
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".rounded-", dir=models) as name:
        made = export_model(Path(name), trained, samples, training, options, command=command)
        if aware is None:
            _note(made.folder, reason)
        else:
            made = _with_trained_file(made, trained, samples, options, aware)
        target = models / made.digest
        if target.exists():
            target.rename(Path(name) / "old")
        made.folder.rename(target)
    files = tuple(replace(file, path=target / file.path.name) for file in made.files)
    return replace(made, folder=target, files=files)


def trained_entry(path: Path, template: Manifest, rounded: RoundedFile) -> Manifest:
    """The manifest's entry of an INT8 file that was trained for; ``template``: that of a file beside it."""
    memory, judged = activation_memory(path), rounded.judgement
    return {
        **template,
        **content_entry(path),
        "precision": "int8",
        "opset": next(entry.version for entry in onnx.load(path).opset_import if not entry.domain),
        "accuracy": judged.accuracy,
        "num_test_samples": judged.num_samples,
        "agreement": judged.agreement,
        "max_abs_error": plain(judged.max_abs_error),
        "relative_error": plain(judged.relative_error),
        "peak_activation_bytes": memory.peak_bytes,
        "arena_bytes": memory.arena_bytes,
        "quantisation": plain(rounded.quantisation),
        "quality_reason": rounded.reason,
        "accepted": not rounded.reason,
        "reason": rounded.reason,
    }


def _aware(trained: TrainedNetwork, setting: Setting, options: DeployOptions) -> tuple[Aware | None, str]:
    profile = options.activations or host_activations()
    try:
        return train_aware(trained.module, setting, profile=profile, epochs=setting.options.qat_epochs), ""
    except UserError as error:
        return None, str(error)
    except (DivergenceError, DeadlineError) as error:
        return None, one_line(error)


def _note(folder: Path, reason: str) -> None:
    record = read_manifest(folder)
    for entry in record["files"]:
        if entry["precision"] == "int8":
            entry["quantisation"]["qat"] = {"reason": reason}
    write_manifest(folder, record)


def _with_trained_file(
    made: ExportedModel, trained: TrainedNetwork, samples: Samples, options: DeployOptions, aware: Aware
) -> ExportedModel:
    folder, record = made.folder, read_manifest(made.folder)
    entries = {entry["precision"]: entry for entry in record["files"]}
    calibrated = entries["int8"]["accuracy"] if "int8" in entries else None
    reference = torch_logits(trained.module.cpu().eval(), samples.test)
    path = folder / FILES["int8"]
    rounded = write_rounded(path, aware, samples, reference, options, calibrated=calibrated)
    entries["int8"] = trained_entry(path, entries["float32"], rounded)
    record["files"] = [entries[name] for name in PRECISIONS if name in entries]
    record["failed"].pop("int8", None)
    golden = read_golden(folder)
    golden["logits_int8"] = run_file(path, golden["inputs"], batch=len(golden["inputs"]))
    np.savez(folder / GOLDEN, allow_pickle=False, **golden)
    record["contents"] = [content_entry(folder / entry["path"]) for entry in record["contents"]]
    write_manifest(folder, record)
    files = {file.precision: file for file in made.files}
    files["int8"] = replace(
        files["float32"],
        path=path,
        precision="int8",
        accuracy=rounded.judgement.accuracy,
        agreement=rounded.judgement.agreement,
        max_abs_error=rounded.judgement.max_abs_error,
        size_bytes=entries["int8"]["bytes"],
        peak_activation_bytes=entries["int8"]["peak_activation_bytes"],
        accepted=not rounded.reason,
        reason=rounded.reason,
    )
    kept = tuple(files[name] for name in PRECISIONS if name in files)
    return replace(made, files=kept, failed={name: text for name, text in made.failed.items() if name != "int8"})
