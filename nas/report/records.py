"""The files of a run folder, read tolerantly: whatever is missing or torn becomes a note, not an error.

Responsible for turning files into plain records. Nothing is written, and nothing but files is looked at, so that
a report can be made again at any time, also of a run that was interrupted.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.run.utilisation import Spell, Timeline, spell_of, timeline

Record = Mapping[str, Any]

# Of an evaluation: no report shows them.
_UNUSED = ("row", "seed", "curve", "stop_below", "worker", "finished")
_FILE_LIMIT = 20  # bad lines that are named one by one before the rest is only counted


@dataclass(frozen=True, kw_only=True)
class RunRecords:
    """What a run folder holds.

    Attributes:
        folder: where it was read from.
        manifest: ``manifest.json``; empty if missing.
        history: the lines of ``history.jsonl`` in their order, one evaluation each.
        baseline: the lines of ``baseline.jsonl``; empty if no random baseline was run.
        front: the rows of ``front.csv``, all values as text.
        workers: who worked on the history when.
        models: digest -> ``models/<digest>/manifest.json``.
        notes: one line for each thing that could not be read.
    """

    folder: Path
    manifest: Record
    history: tuple[Record, ...]
    baseline: tuple[Record, ...]
    front: tuple[Mapping[str, str], ...]
    workers: Timeline
    models: Mapping[str, Record]
    notes: tuple[str, ...]


def read_run(folder: Path) -> RunRecords:
    """The records of the run in ``folder``.

    Raises:
        UserError: ``folder`` is no folder, or holds none of the files that a run leaves.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(str(folder), "must be a run folder, but there is no such folder", "give the path runs/<name>")
    names = ("manifest.json", "history.jsonl", "front.csv")
    if not any((folder / name).is_file() for name in names):
        raise UserError(str(folder), f"must hold {', '.join(names)} or one of them, but holds none", "give runs/<name>")
    notes: list[str] = []
    manifest = _read_object(folder / "manifest.json", notes)
    if not (folder / "manifest.json").is_file():
        notes.append("manifest.json is missing: the run was interrupted early, or the file was removed")
    models = {
        path.parent.name: _read_object(path, notes) for path in sorted((folder / "models").glob("*/manifest.json"))
    }
    spells: list[Spell] = []
    history = _read_lines(folder / "history.jsonl", notes, spells)
    return RunRecords(
        folder=folder,
        manifest=manifest,
        history=history,
        baseline=_read_lines(folder / "baseline.jsonl", notes, []),
        front=tuple(read_front(folder / "front.csv")),
        workers=timeline(spells),
        models=models,
        notes=tuple(notes),
    )


def read_front(path: Path) -> list[dict[str, str]]:
    """The rows of ``front.csv`` by column, as text (a digest of digits must not become a number); [] if missing.

    Raises:
        UserError: it is no CSV file.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as lines:
        try:
            return [
                {key: value or "" for key, value in row.items() if isinstance(key, str)}
                for row in csv.DictReader(lines)
                if row.get("digest")
            ]
        except csv.Error as error:
            raise UserError(
                str(path), f"cannot be read as CSV, {error}", "remove it: a resumed run writes it"
            ) from None


def first_device(manifest: Record) -> str:
    """The name of the run's first device; "" if it is not known."""
    devices = sequence(manifest.get("devices"))
    return str(mapping(devices[0]).get("name", "")) if devices else ""


def number(value: object) -> float | None:
    """``value`` as a finite float, or None if it is none (missing, text, NaN, infinite)."""
    if type(value) is float:  # the usual case, a million times a report
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or value is None:
        return None
    try:
        result = float(str(value))
    except ValueError:
        return None
    return result if math.isfinite(result) else None


def truth(value: object) -> bool | None:
    """A flag as JSON or CSV spell it; None where it says neither yes nor no."""
    text = str(value).strip().lower()
    if text in ("true", "1", "yes"):
        return True
    return False if text in ("false", "0", "no") else None


def mapping(value: object) -> dict[str, Any]:
    """``value`` if it is a JSON object, else an empty one; keys become text."""
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else {}


def sequence(value: object) -> list[Any]:
    """``value`` if it is a JSON array, else an empty one."""
    return list(value) if isinstance(value, list | tuple) else []


def _read_object(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    name = path.name if path.parent.parent.name != "models" else f"models/{path.parent.name}/{path.name}"
    try:
        value = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, RecursionError) as error:
        notes.append(f"{name} is not valid JSON and was left out: {error}")
        return {}
    if not isinstance(value, dict):
        notes.append(f"{name} must hold a JSON object and was left out, got {type(value).__name__}")
        return {}
    return value


def _lean(record: dict[str, Any], fidelities: dict[str, Any]) -> dict[str, Any]:
    """An evaluation without what no report shows, in a third of the memory: a history repeats few names.

    Args:
        record: as it was read; changed.
        fidelities: the different ones so far, by their text.
    """
    for key in _UNUSED:
        record.pop(key, None)
    if "fidelity" in record:
        record["fidelity"] = fidelities.setdefault(repr(record["fidelity"]), record["fidelity"])
    return {sys.intern(key): _shared(value) for key, value in record.items()}


def _shared(value: object) -> object:
    """The value, with one object for all names and labels that are alike."""
    if isinstance(value, dict):
        return {sys.intern(key): sys.intern(item) if type(item) is str else item for key, item in value.items()}
    return value


def _read_lines(path: Path, notes: list[str], spells: list[Spell]) -> tuple[dict[str, Any], ...]:
    """The JSON objects of a file, a line each; a bad line is left out with a note.

    Args:
        path: may be missing.
        notes: gets the note.
        spells: gets who worked on each when.
    """
    if not path.is_file():
        return ()
    records: list[dict[str, Any]] = []
    bad: list[int] = []
    fidelities: dict[str, Any] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for place, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                bad.append(place)
                continue
            if isinstance(record, dict):
                spells += [spell] if (spell := spell_of(record)) is not None else []
                records.append(_lean(record, fidelities))
            else:
                bad.append(place)
    if bad:
        named = ", ".join(str(place) for place in bad[:_FILE_LIMIT]) + (", …" if len(bad) > _FILE_LIMIT else "")
        notes.append(f"{path.name}: {len(bad)} of {len(bad) + len(records)} lines are torn and were left out ({named})")
    return tuple(records)
