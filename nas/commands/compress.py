"""`nas compress`: a network that was not found here, made smaller and faster, step by step, each file judged.

Responsible for the order of the steps and for what stays of them: a model folder for each form of the network,
``front.csv``, ``compress.json``, a page of sensitivities, and the bundle of the front.
"""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from nas.commands.compress_bench import Bench, Variant, input_shape_for, normalised, own_samples
from nas.commands.compress_bundle import Compressed, tell_bundle, write_compressed
from nas.commands.compress_folder import WrittenFile, write_variant
from nas.commands.compress_model import load_original
from nas.commands.compress_settings import CompressSettings
from nas.commands.compress_steps import float_variants, mixed_variant, trained_variant
from nas.commands.compress_table import compressed_table, front_files, front_records, step_lines
from nas.commands.compress_targets import TargetFile, target_files
from nas.commands.display import Display, Silent
from nas.commands.locate_device import device_folders
from nas.deploy.bundle.publish import Published
from nas.deploy.manifest import finish_manifest, plain
from nas.deploy.precision.assignment import Wish, assign
from nas.deploy.precision.makers import calibrated_network
from nas.deploy.precision.sensitivity import sensitivities
from nas.deploy.teacher import distillation_of
from nas.device.card import load_device
from nas.device.protocol import FULL, Measurement
from nas.device.where.measure import measure_on
from nas.errors import UserError
from nas.problem.goals import budgets_from
from nas.report.sensitivity import write_sensitivity_page
from nas.run.environment import environment
from nas.run.folder import check_place
from nas.run.front import write_front_csv
from nas.run.runner import now
from nas.train.compression.teachers import TorchTeacher
from nas.train.task import image_classification

_CONFIDENCE = 0.95  # of predictions, of which there are none here
_SENSITIVITY_IMAGES = 64
_MODELS, _FRONT, _RECORD, _PAGE = "models", "front.csv", "compress.json", "sensitivity.html"


@dataclass(frozen=True, kw_only=True)
class CompressResult:
    """What a compression leaves.

    Attributes:
        folder: with ``models/``, ``front.csv``, ``compress.json``.
        files: a record a file: model, file, path, accuracy, agreement with the original, sizes, latency, reasons.
        targets: a record a file for another runtime (`nas.commands.compress_targets.TargetFile`).
        bundle: of the front; None where none was asked for, or where none could be written.
    """

    folder: Path
    files: Sequence[Mapping[str, Any]]
    targets: Sequence[Mapping[str, Any]] = ()
    bundle: Published | None = None

    @property
    def accepted(self) -> tuple[Mapping[str, Any], ...]:
        """Files that may be shipped and keep every budget."""
        return tuple(record for record in self.files if not record["quality"] and not record["budgets"])


def compress(
    settings: CompressSettings | None = None,
    *,
    display: Display | None = None,
    command: str = "",
    **given: Any,
) -> CompressResult:
    """Compresses a model of the user's: quantised, narrow, trained with rounding, mixed under a budget.

    A torch module goes through all steps, with itself as the teacher of those that train. An ONNX file is quantised
    only. Every file is run on the test images in onnxruntime and timed on the device.

    Args:
        settings: what to do; None: the defaults with ``given``.
        display: is told what happens; None: nobody.
        command: that does this again, for the record.
        given: fields of `CompressSettings`: ``compress(model="my_nets:trained", allow=["my_nets"])``.

    Raises:
        UserError: something that the user gave does not fit; nothing is left behind then.
    """
    if settings is None:
        unknown = given.keys() - {field.name for field in fields(CompressSettings)}
        if unknown or "model" not in given:
            problem = f"takes no field {sorted(unknown)[0]}" if unknown else "must be given a model"
            raise UserError("compress", problem, "see nas.commands.compress_settings.CompressSettings")
        settings = CompressSettings(**given)
    elif given:
        raise UserError("compress", "takes either settings or their fields, got both")
    place, display = settings.place, display or Silent()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UserError("out", f"must be a new or empty folder, {place} is not", "give another one")
    check_place(place, where="out")
    with tempfile.TemporaryDirectory(prefix="nas-compress-") as name:
        bench = _bench(settings, Path(name), display)
        try:
            return _Compression(bench, place, command or f"nas compress model={shlex.quote(settings.model)}").run()
        except OSError as error:
            problem = f"cannot be written, {error.strerror or error}"
            raise UserError(str(place), problem, "free some space, or choose another out") from error


def _bench(settings: CompressSettings, scratch: Path, display: Display) -> Bench:
    """Loads and checks everything. Raises `UserError` for what does not fit."""
    device = load_device(settings.device, device_folders())
    asked = budgets_from(settings.budget, device=device.name, confidence=_CONFIDENCE)
    budgets = tuple(replace(budget, confidence=None) for budget in asked)  # all are held against what was measured
    task = normalised(image_classification(settings.data.load()), settings)
    shape = input_shape_for(task, settings)
    if not len(task.data.splits["test"]):
        raise UserError("data.test", "must hold at least one image to judge files by, got none")
    original = load_original(settings, input_shape=shape, num_classes=task.num_classes, scratch=scratch)
    teacher = None
    if original.form is not None:
        largest = TorchTeacher(original.form.module, input_size=shape[1:])
        teacher = distillation_of(
            settings.compress,
            input_shape=task.input_shape,
            num_classes=task.num_classes,
            allow=settings.allow,
            largest=largest,
        )
    samples = own_samples(task, shape[1:], num_calibration=settings.deploy.calibration_images)
    bench = Bench(
        settings=settings,
        task=task,
        original=original,
        samples=samples,
        reference=original.logits(samples.test),
        teacher=teacher,
        device=device,
        budgets=budgets,
        scratch=scratch,
        display=display,
    )
    _tell(bench)
    return bench


def _tell(bench: Bench) -> None:
    display, task, original = bench.display, bench.task, bench.original
    kind = "an ONNX file" if original.form is None else "a torch module"
    display.say("model", f"{bench.settings.model}  {kind}, {'x'.join(map(str, original.input_shape))}")
    display.say("data", task.data.summary())
    for budget in bench.budgets:
        display.say("budget", str(budget))
    if original.form is None:
        display.note(
            "an ONNX file is quantised only; pruning, teachers and trained rounding need package.module:function"
        )
    labels = task.labels("test").numpy()
    accuracy = float((bench.reference.argmax(axis=1) == labels).mean())
    chance = float(np.bincount(labels, minlength=task.num_classes).max() / len(labels))
    if accuracy < chance + 2 * (chance * (1 - chance) / len(labels)) ** 0.5:  # two standard errors of guessing
        advice = "is it trained, are its classes in the order of the data's, and its images normalised by mean=, std=?"
        display.note(
            f"the model is right for {accuracy:.1%} of the test images, guessing is for {chance:.1%}: {advice}"
        )
    if (bench.reference >= 0).all() and np.allclose(bench.reference.sum(axis=1), 1, atol=1e-3):
        display.note("the model gives probabilities, not scores: trainings want scores, leave its softmax out")


class _Compression:
    """One run: what its steps add to."""

    def __init__(self, bench: Bench, place: Path, command: str) -> None:
        self.bench = bench
        self.place = place
        self.command = command
        self.variants: list[Variant] = []
        self.files: list[WrittenFile] = []

    def run(self) -> CompressResult:
        fresh = not self.place.exists()
        try:
            self._make_all()
        except UserError:
            if fresh:
                shutil.rmtree(self.place, ignore_errors=True)
            raise
        made = target_files(self.bench, self.variants, self.files, self.place)
        targets = [one.record for one in made]
        measured = self._measured()
        bench, device = self.bench, self.bench.device.name
        latencies = {file: one.latency_ms for file, one in measured.items()}
        fronts = front_files(self.files, latencies, device=device, place=self.place)
        table, records = front_records(self.files, fronts, bench.budgets, device=device)
        self._finish(measured, records)
        write_front_csv(table, self.place / _FRONT)
        steps = step_lines(self.variants, records)
        page = self._sensitivities()
        bundle = self._bundle(records, made)
        written = None if bundle is None else bundle.to_record(self.place)
        record = {
            "command": self.command,
            "created": now(),
            "model": bench.settings.model,
            "data": {"name": bench.task.data.name, "digest": bench.task.data.digest},
            "device": device,
            "budgets": [str(budget) for budget in bench.budgets],
            "files": records,
            "targets": targets,
            "steps": steps,
            "bundle": written,
            **environment(),
        }
        (self.place / _RECORD).write_text(json.dumps(plain(record), indent=2) + "\n", encoding="utf-8")
        bench.display.result(
            "\n" + compressed_table(records) + "\n",
            {"folder": str(self.place), "files": records, "targets": targets, "bundle": written},
        )
        for line in steps:
            bench.display.say("step", line)
        bench.display.say("models", f"{self.place / _MODELS}/   {self.place / _FRONT}")
        if page is not None:
            bench.display.say("page", str(page))
        if bundle is not None:
            tell_bundle(bench, bundle)
        return CompressResult(folder=self.place, files=records, targets=targets, bundle=bundle)

    def _make_all(self) -> None:
        for variant in float_variants(self.bench):
            if self._write(variant):
                for mixed in mixed_variant(self.bench, variant):
                    self._write(mixed)
                for trained in trained_variant(self.bench, variant, self._accuracy(variant.name, "int8")):
                    self._write(trained)

    def _write(self, variant: Variant) -> bool:
        written = write_variant(self.bench, variant, self.place / _MODELS, command=self.command)
        if written:
            self.variants.append(variant)
            self.files += written
            accuracy = None if variant.form is None else variant.form.validation_accuracy
            trained = "" if accuracy is None else f", validation {accuracy:.1%}"
            self.bench.display.say("made", f"{variant.name}: {variant.text}{trained}")
        return bool(written)

    def _accuracy(self, name: str, label: str) -> float | None:
        found = (file.accuracy for file in self.files if (file.variant, file.label) == (name, label))
        return next(found, None)

    def _measured(self) -> dict[Path, Measurement]:
        """File -> its timing, for those that have a line of their own; {} on a device that cannot be reached."""
        display, device = self.bench.display, self.bench.device
        try:
            timed = measure_on(
                device,
                [file.path for file in self.files if file.shown],
                protocol=FULL,
                progress=lambda done, total: display.progress("measure", done, total, text=f"files on {device.name}"),
            )
        except UserError as error:
            display.note(f"the files are not timed: {error}")
            return {}
        unsettled = [one for one in timed if not one.settled]
        if unsettled:
            display.note(f"{len(unsettled)} of {len(timed)} latencies did not settle: {unsettled[0].note}")
        return {one.file: one for one in timed}

    def _finish(self, measured: Mapping[Path, Measurement], records: Sequence[Mapping[str, Any]]) -> None:
        """Puts latencies and broken budgets into the manifests."""
        for folder in dict.fromkeys(file.path.parent for file in self.files):
            broken = {
                Path(str(record["path"])).name: str(record["budgets"])
                for record in records
                if record["budgets"] and (self.place / str(record["path"])).parent == folder
            }
            own = {path.name: one for path, one in measured.items() if path.parent == folder}
            finish_manifest(folder, device=self.bench.device, measured=own, rejected=broken)

    def _bundle(self, records: Sequence[Mapping[str, Any]], targets: Sequence[TargetFile]) -> Published | None:
        if not self.bench.settings.bundle:
            return None
        done = Compressed(
            variants=self.variants,
            files=self.files,
            records=records,
            targets=targets,
            place=self.place,
            command=self.command,
        )
        return write_compressed(self.bench, done)

    def _sensitivities(self) -> Path | None:
        """The page of how each operator takes 8 bits; None where the network has none that can."""
        bench, path = self.bench, self.place / _PAGE
        images = bench.samples.calibration[:_SENSITIVITY_IMAGES]
        try:
            network = calibrated_network(bench.original.file, images, bench.settings.deploy)
            found = sensitivities(network, assign(network.prepared, Wish(precision="int8")), images)
        except UserError as error:
            bench.display.note(f"no page of sensitivities: {error}")
            return None
        note = f"{len(images)} calibration images were used."
        write_sensitivity_page([one.to_record() for one in found], path, name=bench.original.name, note=note)
        return path
