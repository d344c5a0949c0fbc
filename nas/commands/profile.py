"""`nas profile`: where the time of a model file goes, as a table and as a page.

Responsible for finding the files, and for telling their stages in the words of the architecture and of the space that
it is from, where those are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nas.commands.display import Display, Silent
from nas.commands.locate_device import device_folders
from nas.commands.locate_space import find_space
from nas.deploy.architecture_file import read_architecture
from nas.deploy.manifest import NAME, Manifest, read_manifest
from nas.deploy.profiling.profile import profile_file
from nas.deploy.profiling.recording import recorder_at
from nas.deploy.profiling.records import FileProfile
from nas.device.card import load_device
from nas.device.protocol import FULL, TimingProtocol
from nas.errors import UserError, unknown_name
from nas.report.profile_page import ProfilePage, StageNote, write_profile_page
from nas.report.profile_table import profile_table
from nas.space.network import Cell, Layer, Network

ARCHITECTURE = "architecture.yaml"
PAGE = "profile.html"


@dataclass(frozen=True, kw_only=True)
class ProfileSettings:
    """What to profile.

    Attributes:
        target: an ONNX file, or a model folder: then all of its files, or the one of ``precision``.
        device: name of a device card; it must be the machine that runs the command.
        precision: of a model folder's file; None: all.
        out: the page; None: no page.
        protocol: for the latencies.
        width: columns of the table.
    """

    target: Path
    device: str = "this-machine"
    precision: str | None = None
    out: Path | None = Path(PAGE)
    protocol: TimingProtocol = FULL
    width: int = 120


@dataclass(frozen=True, kw_only=True)
class _Target:
    """Files with what is known about them: the model's name, notes on its stages, file name -> precision."""

    files: tuple[Path, ...]
    name: str
    notes: tuple[StageNote, ...] = ()
    precisions: Mapping[str, str] = field(default_factory=dict)


def profile(settings: ProfileSettings, *, display: Display | None = None) -> list[FileProfile]:
    """Profiles the files of a target, shows a table for each, and writes the page.

    Raises:
        UserError: nothing to profile at the target, a device that is not known or is elsewhere, a file that cannot be
            run with fixed sizes, or a page that cannot be written.
    """
    display = display or Silent()
    device = load_device(settings.device, device_folders())
    recorder = recorder_at(device.where, device=device.name)
    target = _find(settings)
    _check_page(settings.out)
    profiles = []
    for index, file in enumerate(target.files):
        display.progress("profile", index, len(target.files), text=file.name)
        profiles.append(profile_file(file, device, protocol=settings.protocol, recorder=recorder))
    display.progress("profile", len(target.files), len(target.files), text="done")
    for one in profiles:
        figures = {"model": target.name, "precision": target.precisions.get(one.file.name), **one.to_record()}
        notes = {note.stage: note.text for note in target.notes}
        display.result(profile_table(one, notes=notes, width=settings.width), figures)
        if not one.latency.settled:
            display.note(f"the latency of {one.file.name} did not settle: {one.latency.note}")
    if settings.out is not None:
        page = ProfilePage(
            name=target.name, device=device, profiles=profiles, notes=target.notes, precisions=target.precisions
        )
        write_profile_page(page, settings.out)
        display.say("page", str(settings.out))
    return profiles


def _find(settings: ProfileSettings) -> _Target:
    if settings.target.is_dir():
        return _find_in_folder(settings.target, settings.precision)
    if settings.precision is not None:
        problem = f"must be left out for a file, got {settings.precision}"
        raise UserError("precision", problem, "it chooses among the files of a model folder")
    known = _find_beside(settings.target)
    return known or _Target(files=(settings.target,), name=settings.target.name)


def _find_beside(file: Path) -> _Target | None:
    """A file of a model folder, with what the folder says about it; None for any other file."""
    if not file.is_file() or not (file.parent / NAME).is_file() or not (file.parent / ARCHITECTURE).is_file():
        return None
    try:
        manifest = read_manifest(file.parent)
        entries = {str(entry["path"]): str(entry["precision"]) for entry in manifest["files"]}
        if file.name not in entries:
            return None
        return _Target(
            files=(file,), name=str(manifest["digest"]), notes=_notes(file.parent, manifest), precisions=entries
        )
    except (UserError, KeyError, TypeError):  # another kind of folder: the file is all that was asked for
        return None


def _find_in_folder(folder: Path, precision: str | None) -> _Target:
    if not (folder / NAME).is_file() or (folder / "models").is_dir():
        models = sorted(path.parent for path in (folder / "models").glob(f"[!.]*/{NAME}"))
        known = f"it is a run folder; give one of its {len(models)} models, e.g. {models[0]}" if models else ""
        problem = f"must be an ONNX file or a model folder, has no {NAME} of one"
        raise UserError(str(folder), problem, known or "give runs/<name>/models/<digest>")
    manifest = read_manifest(folder)
    try:
        entries = {str(entry["path"]): str(entry["precision"]) for entry in manifest["files"]}
    except (KeyError, TypeError) as error:
        raise UserError(str(folder / NAME), "must list files with a precision, does not", "export it again") from error
    if not entries:
        raise UserError(str(folder), "must hold an exported file, holds none", "export the model again")
    if precision is not None and precision not in entries.values():
        raise unknown_name("precision", "file of precision", precision, entries.values())
    chosen = [name for name, kind in entries.items() if precision in (None, kind)]
    for name in chosen:
        if Path(name).name != name:
            raise UserError(str(folder / NAME), f"must list files of its own folder, got {name!r}")
    return _Target(
        files=tuple(folder / name for name in chosen),
        name=str(manifest.get("digest", folder.name)),
        notes=_notes(folder, manifest),
        precisions=entries,
    )


def _notes(folder: Path, manifest: Manifest) -> tuple[StageNote, ...]:
    """What the architecture says about each stage; none where there is no readable architecture."""
    if not (folder / ARCHITECTURE).is_file():
        return ()
    network = read_architecture(folder / ARCHITECTURE).network
    slots = _slots(manifest, network)
    return tuple(
        StageNote(stage=_stage_name(index, stage), text=_stage_text(stage), slot=slots[index])
        for index, stage in enumerate(network.stages)
    )


def _stage_name(index: int, stage: Layer | Cell) -> str:
    """The name of a stage's module, which exporters write into the names of its operators."""
    return f"s{index}_{'cell' if isinstance(stage, Cell) else stage.op.rpartition('.')[2]}"


def _stage_text(stage: Layer | Cell) -> str:
    """``kernel 3, expansion 6, channels 24``, or a cell's edges."""
    if isinstance(stage, Cell):
        return ", ".join(f"{edge.source}>{edge.target} {edge.layer.op}" for edge in stage.edges)
    texts = []
    for name, value in stage.parameters.items():
        if isinstance(value, bool):
            texts += [name.replace("_", " ")] if value else []
        elif not (name == "stride" and value == 1):
            texts.append(str(value) if name == "activation" else f"{name} {value}")
    return ", ".join(texts)


def _slots(manifest: Manifest, network: Network) -> Sequence[str]:
    """For each stage the slot of the space that it stands in; "" where the space is not at hand as it was."""
    unknown = [""] * len(network.stages)
    try:
        space = find_space(str(manifest["space"]["name"]))
        if space.digest != manifest["space"]["digest"]:
            return unknown
        row = space.row(manifest["choices"])
    except (UserError, KeyError, TypeError):
        return unknown
    names = [choice.name for choice in space.choices]
    standing = [slot for slot in space.slots if slot.resolve(np.asarray(row)) is not None]
    if len(standing) != len(network.stages):  # folding merged or dropped a stage
        return unknown
    return [_slot_name([names[index] for index in slot.choices]) or slot.where for slot in standing]


def _slot_name(choices: Sequence[str]) -> str:
    """``stage1.0`` for a slot with the choices ``stage1.0.kernel`` and ``stage1.0.expansion``; the longest prefix."""
    prefixes = [prefix for name in choices if not (prefix := name.rpartition(".")[0]).isdigit()]
    return max(prefixes, key=lambda prefix: (prefix.count(".") if prefix else -1, len(prefix)), default="")


def _check_page(path: Path | None) -> None:
    """Refuses a place for the page before anything is timed."""
    if path is None:
        return
    if path.is_dir():
        raise UserError("out", f"must be a file, got the folder {path}", f"give out={path / PAGE}")
    if not path.parent.is_dir():
        raise UserError("out", f"must be in a folder that is there, got {path}", f"make {path.parent} first")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError("out", f"must end in .html, got {path}", f"give out={path.with_suffix('.html')}")
