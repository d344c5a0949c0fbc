"""A model for a target: exported, run, judged; in a process of its own.

Responsible for one thing going wrong without the rest: whatever a converter raises becomes one line, and the next
precision has its turn.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np

from nas.deploy.bundle.checking.runtimes import missing_runtime, run_golden
from nas.deploy.bundle.images import read_images
from nas.deploy.bundle.profile import profile_record
from nas.deploy.bundle.records import ExportJob, MadeFile, Missing, Outcome, all_missing
from nas.deploy.files import torch_logits
from nas.deploy.load import check_contents, load_model, read_golden
from nas.deploy.manifest import Manifest, plain, sha256
from nas.deploy.options import DeployOptions
from nas.deploy.targets.registry import open_target
from nas.deploy.targets.target import Artifact, Source, Target, Verification
from nas.errors import UserError, one_line


def run_job(job: ExportJob) -> Outcome:
    """Makes the files of a job; never raises for what is wrong with a model, a target or a file."""
    try:
        target = _opened(job.target, job.options)
        problem = target.available()
        if problem:
            return all_missing(job, problem)
        loaded = load_model(job.model, allow=job.allow)
        check_contents(job.model, loaded.manifest)
        samples = read_images(job.samples)
        shape = tuple(int(size) for size in loaded.manifest["input"]["shape"][1:])
        source = Source(
            module=loaded.module,
            input_shape=(shape[0], shape[1], shape[2]),
            samples=samples,
            reference=torch_logits(loaded.module, samples.test),
            files={entry["precision"]: job.model / entry["path"] for entry in loaded.manifest["files"]},
        )
        golden = read_golden(job.model)["inputs"]
    except Exception as error:  # of a model folder that was changed, or a module that does not fit
        return all_missing(job, _line(error))
    files: list[MadeFile] = []
    missing: list[Missing] = []
    seconds: dict[str, float] = {}
    for precision in job.precisions:
        started = time.monotonic()
        made = _make(job, target, source, golden, loaded.manifest, precision)
        seconds[precision] = time.monotonic() - started
        if isinstance(made, MadeFile):
            files.append(made)
        else:
            missing.append(Missing(digest=job.digest, target=job.target, precision=precision, reason=made))
    return Outcome(files=tuple(files), missing=tuple(missing), seconds=seconds)


@cache
def _opened(name: str, options: DeployOptions) -> Target:
    """The target, the same each time: some keep a converter running, whose start takes longer than its work."""
    return open_target(name, options)


def _make(
    job: ExportJob, target: Target, source: Source, golden: np.ndarray, manifest: Manifest, precision: str
) -> MadeFile | str:
    """The file, or why there is none."""
    folder = job.out / precision
    try:
        folder.mkdir(parents=True, exist_ok=True)
        artifact = target.export(source, folder, precision)
        verification = target.verify(artifact, source)
        reason = "; ".join(text for text in (verification.reason, job.barred.get(precision, "")) if text)
        if reason and not job.keep_rejected:
            shutil.rmtree(folder, ignore_errors=True)
            return f"must not be shipped: {reason}"
        outputs = None if missing_runtime(job.target) else run_golden(job.target, artifact.path, golden)
        entry = file_entry(target, artifact, verification, reason) | _earlier(artifact, manifest)
        profile = _profile(job, artifact, entry)
        return MadeFile(digest=job.digest, entry=entry, outputs=outputs, profile=profile)
    except Exception as error:  # converters raise whatever their parts raise
        shutil.rmtree(folder, ignore_errors=True)
        return _line(error)


def file_entry(target: Target, artifact: Artifact, verification: Verification, reason: str = "") -> dict[str, Any]:
    """What the bundle's manifest says of a target's file; what was measured of it elsewhere is left to the caller.

    Args:
        target: whose file it is.
        artifact: the file; paths stay as they are.
        verification: what came of running it.
        reason: why it must not be shipped; "" if it may.
    """
    judgement = None if verification.judgement is None else plain(asdict(verification.judgement))
    figures = dict(verification.figures)
    runtime, version = figures.pop("runtime", None), figures.pop("runtime_version", None)
    return {
        "target": target.name,
        "precision": artifact.precision,
        "path": artifact.path,
        "extras": list(artifact.extras),
        "notes": list(artifact.notes),
        "bytes": _size(artifact),
        "level": verification.level,
        "runtime": str(runtime or target.name),
        "runtime_version": str(version or ""),
        "judgement": judgement,
        "figures": plain(figures),
        "accepted": not reason,
        "reason": reason,
    }


def _size(artifact: Artifact) -> int:
    """Of the file, or of all files where it is a folder, with weights beside it (``model.bin`` of ``model.xml``)."""
    path = artifact.path
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    files += [extra for extra in artifact.extras if extra.stem == path.stem and extra.suffix in (".bin", ".data")]
    return sum(file.stat().st_size for file in files)


def _earlier(artifact: Artifact, manifest: Manifest) -> dict[str, Any]:
    """What the model folder's manifest knows of the very same file: latencies, energies, how it was quantised."""
    nothing: dict[str, Any] = {"latencies": {}, "energies": {}, "quantisation": None}
    if artifact.path.is_dir():
        return nothing
    found = sha256(artifact.path)
    same = next((entry for entry in manifest["files"] if entry["sha256"] == found), None)
    return nothing if same is None else {key: same.get(key, value) for key, value in nothing.items()}


def _profile(job: ExportJob, artifact: Artifact, entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if not job.profile or job.target != "onnxruntime":
        return None
    try:
        return profile_record(artifact.path, about_ms=entry["figures"].get("latency_ms"))
    except UserError:  # a figure less, and no reason to leave the file out
        return None


def _line(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else one_line(error)
