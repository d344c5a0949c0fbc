"""`nas export`: models of a run for the runtimes that they are shipped in, as one bundle that can be checked anywhere.

Responsible for the order of the work, and for telling what is missing: a target or a precision that cannot be made
costs its own files only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.commands.display import Display, Silent
from nas.commands.export_inputs import Chosen, chosen_models, load_task, matched, prepare_images, run_record
from nas.commands.export_jobs import Opened, num_workers, open_targets, run_jobs
from nas.commands.export_settings import ExportSettings
from nas.commands.export_table import exported_records, exported_table
from nas.commands.locate_device import device_folders
from nas.deploy.bundle.pool import export_pool
from nas.deploy.bundle.publish import put_in_place
from nas.deploy.bundle.records import MadeFile, Missing
from nas.deploy.bundle.verify import is_bundle
from nas.deploy.bundle.write import About, BundledModel, write_bundle
from nas.deploy.manifest import Manifest, unmeasured_latency
from nas.device.card import load_device
from nas.device.where.measure import measure_on
from nas.errors import UserError
from nas.run.folder import check_place
from nas.train.task import ImageClassification
from nas.units import format_seconds

_GOLDEN_ONLY = (
    "the data was not at hand: files are judged on the golden images of the model folders only, and nothing that needs "
    "calibration could be made anew"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportResult:
    """What an export leaves.

    Attributes:
        folder: the bundle.
        archive: the same as a zip file; None where none was asked for.
        fingerprint: SHA-256 of its manifest.
        manifest: as written.
        missing: what was asked for and is not there.
    """

    folder: Path
    archive: Path | None
    fingerprint: str
    manifest: Manifest
    missing: Sequence[Missing]


def export(settings: ExportSettings, *, display: Display | None = None, command: str = "") -> ExportResult:
    """Exports models of a run to targets, and writes the bundle.

    Args:
        settings: what to export.
        display: is told what happens; None: nobody.
        command: that does this again, for the record.

    Raises:
        UserError: something that the user gave does not fit, or not a single file could be made.
    """
    display = display or Silent()
    started = time.monotonic()
    run = run_record(settings.run)
    models = chosen_models(settings, display)
    place = settings.place
    _check_out(place)
    scratch = place.absolute().parent / f".{place.name}.{os.getpid()}"
    bundle = scratch / place.name
    try:
        bundle.mkdir(parents=True)
        targets = open_targets(settings)
        with export_pool(num_workers(settings, models, targets)) as pool:
            task = load_task(settings)
            models = matched(models, task)
            _tell(settings, models, task, display)
            images = prepare_images(settings, models, task, scratch / "images")
            files, missing = run_jobs(settings, pool, models, targets, images=images, bundle=bundle, display=display)
        if not files:
            raise UserError("nas export", f"could make no file at all, the first failed with: {missing[0].reason}")
        if settings.measure:
            files = _measured(settings, files, display)
        about = _about(settings, run, models, task, command, targets)
        bundled = [_bundled(model, files) for model in models]
        record = write_bundle(bundle, about, bundled, missing)
        result = _published(settings, bundle, record, missing)
    except OSError as error:
        problem = f"cannot be written, {error.strerror or error}"
        raise UserError(str(place), problem, "free some space, or choose another out") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _show(result, display, time.monotonic() - started)
    return result


def _bundled(model: Chosen, files: Sequence[MadeFile]) -> BundledModel:
    own = [one for one in files if one.digest == model.digest]
    return BundledModel(source=model.folder, manifest=model.manifest, files=own)


def _published(settings: ExportSettings, bundle: Path, record: Manifest, missing: Sequence[Missing]) -> ExportResult:
    """Checks the bundle as whoever gets it will, and puts it in place."""
    _check(bundle)
    placed = put_in_place(bundle, settings.place, archive=settings.archive)
    return ExportResult(
        folder=placed.folder,
        archive=placed.archive,
        fingerprint=placed.fingerprint,
        manifest=record,
        missing=missing,
    )


def _check(bundle: Path) -> None:
    """Runs the bundle's own script, in a process of its own: runtimes write to the native streams."""
    script = [sys.executable, str(bundle / "verify.py"), str(bundle)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        problem = f"wrote a bundle that does not hold, {told[-1] if told else f'exit code {done.returncode}'}"
        raise UserError("nas export", problem, "leave that target or precision out")


def _check_out(place: Path) -> None:
    """Refuses a place before anything is spent."""
    if place.suffix.lower() == ".zip":
        raise UserError(
            "out", f"must be a folder, got {place}", f"give out={place.with_suffix('')}; a zip lies beside it"
        )
    if place.is_dir() and any(place.iterdir()) and not is_bundle(place):
        raise UserError("out", f"must be a new folder or a bundle to replace, {place} holds other things")
    check_place(place, where="out")


def _tell(
    settings: ExportSettings, models: Sequence[Chosen], task: ImageClassification | None, display: Display
) -> None:
    display.say("models", f"{len(models)} of {settings.run}: {', '.join(model.digest[:6] for model in models)}")
    if task is None:
        display.note(_GOLDEN_ONLY)
    else:
        display.say("data", task.data.summary())
    for name in ("weights", "data"):
        if not getattr(settings.licences, name):
            display.note(f"the licence of the {name} is not stated; give licence.{name}=...")


def _measured(settings: ExportSettings, files: Sequence[MadeFile], display: Display) -> list[MadeFile]:
    """The files with the latencies of those that run in onnxruntime taken anew."""
    device = load_device(settings.device, device_folders())
    timed = measure_on(
        device,
        [file.entry["path"] for file in files if file.entry["target"] == "onnxruntime"],
        progress=lambda done, total: display.progress("measure", done, total, text=f"files on {device.name}"),
    )
    records = {one.file: one.to_record() for one in timed}
    unsettled = [one for one in timed if not one.settled]
    if unsettled:
        display.note(f"{len(unsettled)} of {len(timed)} latencies did not settle: {unsettled[0].note}")
    again = []
    for file in files:
        record = records.get(file.entry["path"])
        if record is not None:
            measured = {key: value for key, value in record.items() if key not in ("file", "device")}
            before = file.entry["latencies"].get(device.name) or unmeasured_latency(device)
            latencies = {**file.entry["latencies"], device.name: {**before, "measured": measured}}
            file = replace(file, entry={**file.entry, "latencies": latencies})
        again.append(file)
    return again


def _about(
    settings: ExportSettings,
    run: Mapping[str, Any],
    models: Sequence[Chosen],
    task: ImageClassification | None,
    command: str,
    targets: Sequence[Opened],
) -> About:
    first = next(model.manifest for model in models if not model.unfit)
    space = {key: (run.get("space") or first["space"]).get(key, "") for key in ("name", "digest")}
    data = {"name": first["training"]["data"], "digest": first["training"]["data_digest"]}
    num_test = int(first["golden"]["num_samples"]) if task is None else len(task.data.splits["test"])
    calibrated = 0 if task is None else min(settings.deploy.calibration_images, len(task.data.splits["train"]))
    return About(
        name=settings.place.name,
        origin={
            "run": settings.run.resolve().name,
            "space": space,
            "data": data,
            "commit": str(run.get("commit", "")),
            "versions": run.get("versions", {}),
        },
        commands={"search": str(run.get("command", "") or first["command"]), "export": command},
        images={
            "source": "golden" if task is None else "data",
            "calibration": calibrated,
            "test": min(settings.images, num_test),
        },
        licences=settings.licences,
        targets=[one.to_record() for one in targets],
        notes=[] if task is not None else [_GOLDEN_ONLY],
    )


def _show(result: ExportResult, display: Display, seconds: float) -> None:
    figures = {
        "bundle": str(result.folder),
        "archive": None if result.archive is None else str(result.archive),
        "fingerprint": result.fingerprint,
        "files": exported_records(result.manifest),
        "missing": [one.to_record() for one in result.missing],
        "seconds": round(seconds, 1),
    }
    display.result(exported_table(result.manifest), figures)
    display.say("bundle", f"{result.folder}" + (f"  and {result.archive}" if result.archive else ""))
    display.say("sum", f"{result.fingerprint}  in {format_seconds(seconds)}")
    display.say("next", f"nas verify {result.archive or result.folder}")
