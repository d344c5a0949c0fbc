"""The bundle of a compression: the files of its front, for whoever deploys them, as `nas export` writes them.

Responsible for which files go in, and for saying of the others why they do not. Nothing is made or judged anew: figures
are those of the model folders.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.commands.compress_bench import Bench, Variant
from nas.commands.compress_folder import WrittenFile
from nas.commands.compress_targets import TargetFile
from nas.commands.export_jobs import Opened
from nas.deploy.bundle.checking.runtimes import missing_runtime, run_golden
from nas.deploy.bundle.job import file_entry
from nas.deploy.bundle.profile import profile_record
from nas.deploy.bundle.publish import Published, publish_bundle
from nas.deploy.bundle.records import MadeFile, Missing
from nas.deploy.bundle.write import About, BundledModel, model_place, write_bundle
from nas.deploy.load import read_golden
from nas.deploy.manifest import read_manifest
from nas.deploy.targets.registry import open_target
from nas.errors import UserError, one_line
from nas.run.environment import commit, versions

_ORT = "onnxruntime"
_JUDGED = ("accuracy", "agreement", "max_abs_error", "relative_error")


@dataclass(frozen=True, kw_only=True, eq=False)
class Compressed:
    """What a compression has, when its bundle is written.

    Attributes:
        variants: forms of the network.
        files: of all of them, their model folders complete.
        records: of the files with a line of their own, in the same order (`nas.commands.compress_table`).
        targets: files for other runtimes.
        place: the folder of the compression.
        command: that does it again.
    """

    variants: Sequence[Variant]
    files: Sequence[WrittenFile]
    records: Sequence[Mapping[str, Any]]
    targets: Sequence[TargetFile]
    place: Path
    command: str

    def folder_of(self, variant: str) -> Path:
        """The model folder of a form."""
        return next(file.path.parent for file in self.files if file.variant == variant)

    def front(self) -> list[WrittenFile]:
        """Files that may be shipped, keep the budgets and are beaten by none; all of the first two without latencies.

        In the order of the steps; empty where there are none.
        """
        shown = [file for file in self.files if file.shown]
        pairs = list(zip(shown, self.records, strict=True))
        accepted = [(file, record) for file, record in pairs if not record["quality"] and not record["budgets"]]
        best = [file for file, record in accepted if record["non_dominated"]]
        return best or [file for file, _ in accepted]


def write_compressed(bench: Bench, done: Compressed) -> Published | None:
    """Writes ``<place>/<name>-bundle/`` and its zip file; None, and a note, where there is none to be had.

    Of other runtimes it takes each file that may be shipped, of the networks that have a file on the front.
    """
    front, name = done.front(), f"{done.place.resolve().name}-bundle"
    if not front:
        bench.display.note("no bundle: no file may be shipped and keeps every budget")
        return None
    scratch = done.place / f".{name}"
    try:
        (scratch / name).mkdir(parents=True)
        models, failed = _models(bench, done, front, scratch / name)
        missing = [*failed, *_missing(done, models, failed)]
        write_bundle(scratch / name, _about(bench, done, name), models, missing)
        return publish_bundle(scratch / name, done.place / name, archive=True, where="nas compress")
    except (UserError, OSError) as error:  # of a bundle only: all that it is made of stays
        told = f"cannot be written, {error.strerror}" if isinstance(error, OSError) else str(error)
        bench.display.note(f"no bundle: {told}")
        return None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def tell_bundle(bench: Bench, made: Published) -> None:
    """Says where the bundle is, and what it does not state."""
    unsaid = [name for name in ("weights", "data") if not getattr(bench.settings.licences, name)]
    if unsaid:
        given = " ".join(f"licence.{name}=..." for name in unsaid)
        bench.display.note(f"the licence of the {' and '.join(unsaid)} is not stated in the bundle; give {given}")
    bench.display.say("bundle", f"{made.folder}  and {made.archive}")
    bench.display.say("sum", made.fingerprint)
    bench.display.say("next", f"nas verify {made.archive}")


def _models(
    bench: Bench, done: Compressed, front: Sequence[WrittenFile], bundle: Path
) -> tuple[list[BundledModel], list[Missing]]:
    """The forms with what the bundle has of each, its files copied; and files of other runtimes that do not run now."""
    failed: list[Missing] = []
    own: dict[str, list[MadeFile]] = {}
    for number, file in enumerate(front):
        bench.display.progress("bundle", number, len(front), text=f"{file.variant} {file.label}")
        own.setdefault(file.variant, []).append(_own_file(file, bundle))
    best = {id(variant.form) for variant in done.variants if variant.name in own}
    for variant in (variant for variant in done.variants if id(variant.form) in best):
        for one in (one for one in done.targets if _shippable(one, variant.name)):
            made = _target_file(done, one, bundle)
            if isinstance(made, Missing):
                failed.append(made)
            else:
                own.setdefault(variant.name, []).append(made)
    models = []
    for variant in (variant for variant in done.variants if variant.name in own):
        folder = done.folder_of(variant.name)
        manifest = read_manifest(folder) | {"space": {}}  # the model's name stands there
        models.append(BundledModel(source=folder, manifest=manifest, files=own[variant.name]))
    return models, failed


def _own_file(file: WrittenFile, bundle: Path) -> MadeFile:
    """A file of a model folder, copied, with the figures of its manifest."""
    folder = file.path.parent
    known = next(entry for entry in read_manifest(folder)["files"] if entry["path"] == file.path.name)
    path = model_place(bundle, folder.name) / _ORT / file.precision / file.path.name
    path.parent.mkdir(parents=True)
    shutil.copyfile(file.path, path)
    entry = {
        "target": _ORT,
        "precision": file.precision,
        "path": path,
        "extras": [],
        "notes": [file.text] if file.text else [],
        "bytes": path.stat().st_size,
        "level": known["verification"],
        "runtime": known["runtime"],
        "runtime_version": known["runtime_version"],
        "judgement": {"num_samples": known["num_test_samples"], **{name: known[name] for name in _JUDGED}},
        "figures": {"peak_bytes": known["peak_activation_bytes"], "arena_bytes": known["arena_bytes"]},
        "accepted": True,
        "reason": "",
        **{name: known[name] for name in ("latencies", "energies", "quantisation")},
    }
    try:
        profile = profile_record(path)
    except UserError:  # a figure less, and no reason to leave the file out
        profile = None
    outputs = run_golden(_ORT, path, read_golden(folder)["inputs"])
    return MadeFile(digest=folder.name, entry=entry, outputs=outputs, profile=profile)


def _target_file(done: Compressed, one: TargetFile, bundle: Path) -> MadeFile | Missing:
    """A file for another runtime, copied with all that belongs to it."""
    assert one.artifact is not None, "only files that are there are taken"
    assert one.verification is not None
    source, folder = one.artifact.path.parent, done.folder_of(one.record["model"])
    place = model_place(bundle, folder.name) / one.target.name / one.artifact.precision
    shutil.copytree(source, place)
    artifact = replace(
        one.artifact,
        path=place / one.artifact.path.relative_to(source),
        extras=tuple(place / extra.relative_to(source) for extra in one.artifact.extras),
    )
    nothing: dict[str, Any] = {"latencies": {}, "energies": {}, "quantisation": None}
    outputs, name = None, one.target.name
    try:
        if not missing_runtime(name):
            outputs = run_golden(name, artifact.path, read_golden(folder)["inputs"])
    except Exception as error:  # runtimes' errors share no public base class
        shutil.rmtree(place)
        reason = f"cannot be run on the golden images, {one_line(error)}"
        return Missing(digest=folder.name, target=name, precision=artifact.precision, reason=reason)
    entry = file_entry(one.target, artifact, one.verification) | nothing
    return MadeFile(digest=folder.name, entry=entry, outputs=outputs)


def _shippable(one: TargetFile, variant: str) -> bool:
    """Whether it is a file of this form that the bundle does not have yet."""
    held = one.artifact is not None and not one.record["reason"]
    return held and one.target.name != _ORT and one.record["model"] == variant


def _missing(done: Compressed, models: Sequence[BundledModel], failed: Sequence[Missing]) -> Iterator[Missing]:
    """What was asked for and is not there; files of the front's rivals were not asked for."""
    shown = [file for file in done.files if file.shown]
    for file, record in zip(shown, done.records, strict=True):
        reason = "; ".join(text for text in (record["quality"], record["budgets"]) if text)
        if reason:
            yield Missing(digest=file.path.parent.name, target=_ORT, precision=file.precision, reason=reason)
    for variant in done.variants:
        folder = done.folder_of(variant.name)
        for label, reason in read_manifest(folder)["failed"].items():
            yield Missing(digest=folder.name, target=_ORT, precision=label, reason=reason)
    told = {(made.digest, made.entry["target"], made.entry["precision"]) for one in models for made in one.files}
    told |= {(one.digest, one.target, one.precision) for one in failed}
    for one in done.targets:
        for digest, precision in _asked(done, one):
            reason = one.record["reason"] or "the form has no file on the front"
            if one.target.name != _ORT and (digest, one.target.name, precision) not in told:
                yield Missing(digest=digest, target=one.target.name, precision=precision, reason=reason)


def _asked(done: Compressed, one: TargetFile) -> list[tuple[str, str]]:
    """Digest and precision of what a record stands for: all files of a target that is not available at all."""
    if one.record["model"]:
        return [(done.folder_of(one.record["model"]).name, one.record["precision"])]
    calibrated = [variant.name for variant in done.variants if not variant.made_to_fit]
    found = [(file.path.parent.name, file.precision) for file in done.files if file.variant in calibrated]
    return [(digest, precision) for digest, precision in found if precision in one.target.precisions]


def _about(bench: Bench, done: Compressed, name: str) -> About:
    settings, samples, original = bench.settings, bench.samples, bench.original
    targets = [open_target(one, settings.deploy) for one in dict.fromkeys((_ORT, *settings.targets))]
    kind = "onnx" if original.form is None else "torch"
    known = Path(settings.model).name if settings.is_file else settings.model
    notes = [f"the models are forms of {known}, made by compressing it: it comes from no search, space or run"]
    if original.form is None:
        notes.append("agreement and error are against the float32 file of the same form: there is no module in torch")
    return About(
        name=name,
        origin={
            "run": "",
            "space": {},
            "model": {"name": known, "digest": original.digest, "kind": kind},
            "data": {"name": samples.data, "digest": samples.data_digest},
            "commit": commit(),
            "versions": versions(),
        },
        commands={"search": "", "export": done.command},
        images={"source": "data", "calibration": len(samples.calibration), "test": len(samples.test_labels)},
        licences=settings.licences,
        targets=[Opened(target=target, problem=target.available()).to_record() for target in targets],
        notes=notes,
    )
