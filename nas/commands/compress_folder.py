"""Model folders of a compression: every form of the network as files that were run and judged.

Responsible for the manifest of such a folder. It is that of a search's models (`nas.deploy.model_folder`), but for the
network: it was not found in a space, so there is no ``architecture.yaml``, and the choices are the steps.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nas.commands.compress_bench import Bench, Made, Variant
from nas.deploy.deployed import packed_size
from nas.deploy.export import OPSET
from nas.deploy.files import FILES, GOLDEN, TOLERANCE, WEIGHTS, file_entry, torch_logits
from nas.deploy.judge import FileJudgement, compare, run_file
from nas.deploy.manifest import FORMAT, Manifest, content_entry, plain, write_manifest
from nas.deploy.model_folder import input_entry, output_entry
from nas.deploy.options import PRECISIONS, DeployOptions
from nas.deploy.teacher import file_work
from nas.errors import UserError
from nas.run.environment import versions
from nas.train.weights import save_weights

_FLOAT_AGREEMENT = 0.99


@dataclass(frozen=True, kw_only=True, eq=False)
class WrittenFile:
    """A file of a variant.

    Attributes:
        variant: name of the form of the network.
        label: ``int8``, ``mixed``…
        path: of the file.
        precision: that it counts as.
        text: what was made; may be empty.
        accuracy: on the test split.
        agreement: share of test images with the class that the *original* gives.
        reason: why it must not be shipped, budgets apart; empty if it may.
        size_bytes, packed_bytes: of the file, and packed as archives do.
        peak_activation_bytes: for one sample.
        macs, parameters: of the network.
        shown: whether it has a line of its own in the table.
    """

    variant: str
    label: str
    path: Path
    precision: str
    text: str
    accuracy: float
    agreement: float
    reason: str
    size_bytes: int
    packed_bytes: int
    peak_activation_bytes: int
    macs: int
    parameters: int
    shown: bool


def write_variant(bench: Bench, variant: Variant, models: Path, *, command: str) -> list[WrittenFile]:
    """Writes ``models/<digest>/`` of a form of the network, complete but for latencies.

    A file that cannot be made is left out, and the manifest and a note say why; a folder in which nothing is left to be
    shown is not kept.

    Args:
        bench: images, and the original to agree with.
        variant: what to write.
        models: folder of model folders.
        command: that makes all of it again.

    Raises:
        UserError: the float32 file cannot be made or run.
    """
    partial = models / f".{variant.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        files = _files(bench, variant, partial)
        for label, reason in files.failed.items():
            bench.display.note(f"{variant.name}: no {label} file, {reason}")
        if not any(file.shown for file in files.written):
            return []
        contents = _contents(bench, variant, partial, files.entries)
        digest = hashlib.sha256(repr([variant.name, *(entry["sha256"] for entry in files.entries)]).encode())
        target = models / digest.hexdigest()[:16]
        record = _manifest(bench, variant, files) | {
            "digest": target.name,
            "contents": [content_entry(partial / name) for name in contents],
            "command": command,
        }
        write_manifest(partial, record)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [replace(file, path=target / file.path.name) for file in files.written]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Files:
    entries: list[Manifest]
    written: list[WrittenFile]
    failed: dict[str, str]


def _files(bench: Bench, variant: Variant, folder: Path) -> _Files:
    samples, options = bench.samples, bench.settings.deploy
    labels = np.asarray(samples.test_labels)
    reference = None if variant.form is None else torch_logits(variant.form.module, samples.test)
    files = _Files(entries=[], written=[], failed={})
    work = (0, 0)
    for number, (label, make) in enumerate(variant.files.items()):
        bench.display.progress("files", number, len(variant.files), text=f"{variant.name} {label}")
        path = folder / FILES.get(label, f"model.{label}.onnx")  # type: ignore[call-overload]
        try:
            made = make(path)
            logits = run_file(path, samples.test)
        except UserError as error:
            if label == "float32":
                raise
            path.unlink(missing_ok=True)
            files.failed[label] = str(error)
            continue
        if label == "float32":
            work = file_work(path)
            reference = logits if reference is None else reference
        assert reference is not None, "float32 comes first"
        entry = _entry(path, made, compare(logits, labels, reference), options)
        files.entries.append(entry)
        files.written.append(
            WrittenFile(
                variant=variant.name,
                label=label,
                path=path,
                precision=made.precision,
                text=made.text,
                accuracy=entry["accuracy"],
                agreement=compare(logits, labels, bench.reference).agreement,
                reason=entry["reason"],
                size_bytes=entry["bytes"],
                packed_bytes=packed_size(path),
                peak_activation_bytes=entry["peak_activation_bytes"],
                macs=work[0],
                parameters=work[1],
                shown=label in variant.shown,
            )
        )
    bench.display.progress("files", len(variant.files), len(variant.files), text=variant.name)
    return files


def _entry(path: Path, made: Made, judged: FileJudgement, options: DeployOptions) -> Manifest:
    least = _FLOAT_AGREEMENT if made.precision in ("float32", "float16") else options.min_agreement
    reason = made.reason or ""
    if made.reason is None and not judged.agreement >= least:
        reason = f"gives float's class for {judged.agreement:.1%} of the test samples, must be at least {least:.0%}"
    return file_entry(path, made.precision, judged, made.quantisation, reason)


def _contents(bench: Bench, variant: Variant, folder: Path, entries: Sequence[Manifest]) -> list[str]:
    """Writes golden outputs and, of a torch module, weights; gives the names of what was written."""
    samples, count = bench.samples, min(bench.settings.deploy.golden_images, bench.samples.test.shape[0])
    picked = np.linspace(0, samples.test.shape[0] - 1, count).round().astype(int)
    inputs = np.ascontiguousarray(samples.test[picked], dtype=np.float32)
    arrays = {"inputs": inputs, "labels": np.asarray(samples.test_labels)[picked].astype(np.int64)}
    for entry in entries:
        arrays[f"logits_{entry['precision']}"] = run_file(folder / entry["path"], inputs, batch=count)
    if variant.form is not None:
        arrays["logits_torch"] = torch_logits(variant.form.module, inputs)
        save_weights(variant.form.module, folder / WEIGHTS, metadata={"format": "pt"})
    np.savez(folder / GOLDEN, allow_pickle=False, **arrays)
    return [GOLDEN, WEIGHTS] if variant.form is not None else [GOLDEN]


def _manifest(bench: Bench, variant: Variant, files: _Files) -> Manifest:
    """The part of the manifest that is about the network and not about a file."""
    settings, samples, original = bench.settings, bench.samples, bench.original
    form, shape = variant.form, original.input_shape
    precisions = {entry["precision"] for entry in files.entries}
    recipe: dict[str, Any] = {**asdict(settings.recipe), "compress": asdict(settings.compress)}
    return {
        "format": FORMAT,
        "space": {"name": settings.model, "digest": original.digest},
        "choices": {"step": variant.name, "made of": variant.parent or "nothing", "what": variant.text},
        "macs": files.written[0].macs,
        "parameters": files.written[0].parameters,
        "labels": list(samples.classes),
        "input": input_entry(samples, shape),
        "output": output_entry(samples),
        "training": {
            "data": samples.data,
            "data_digest": samples.data_digest,
            "epochs": 0 if form is None else form.epochs,
            "seed": settings.seed,
            "seconds": 0.0 if form is None else form.seconds,
            "validation_accuracy": None if form is None else form.validation_accuracy,
            "recipe": plain(recipe) if form is not None and form.epochs else {},
            "torch": versions()["torch"],
        },
        "exporter": {"name": settings.deploy.exporter, "opset": OPSET, "onnx": versions()["onnx"]},
        "golden": {
            "num_samples": min(settings.deploy.golden_images, samples.test.shape[0]),
            "tolerance": {name: TOLERANCE[name] for name in PRECISIONS if name in precisions},
        },
        "files": files.entries,
        "failed": files.failed,
        "licence": settings.licences.weights,
    }
