"""Device cards: what a latency belongs to, beside the file that is timed.

Responsible for reading and checking `<folder>/<name>/device.yaml`.
The format is described in `latency_models/README.md`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import yaml

from nas.errors import UserError, in_file, unknown_name
from nas.units import parse_quantity

Precision = Literal["float32", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
RUNTIMES = ("onnxruntime",)
CARD = "device.yaml"

# What a peak may name, with the unit that its figure is kept in.
_PEAKS: dict[str, str] = {"memory_bandwidth": "B/s", "float32": "OP/s", "float16": "OP/s", "int8": "OP/s"}
_PREFIX = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_RATE = re.compile(r"^\s*(\S+?)\s+([kMGTP]?)(B|FLOP|OP)/s\s*$")
_KEYS = ("name", "description", "runtime", "threads", "batch", "precision", "peaks")


@dataclass(frozen=True, kw_only=True)
class Peak:
    """A peak figure of the hardware.

    Attributes:
        per_second: bytes a second for ``memory_bandwidth``, operations a second (a MAC is two) for a precision.
        source: where the figure is from; never empty.
    """

    per_second: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Device:
    """Hardware, runtime and the way it is used: two latencies compare only if these are the same.

    Attributes:
        name: of the card's folder; the part behind the dot in ``latency_ms.<name>``.
        description: one line for people.
        runtime: what runs the files.
        threads: threads that one inference may use.
        batch: samples an inference takes.
        precision: of the files whose latency a search bounds and minimises.
        peaks: peak figures by name (``memory_bandwidth``, ``float32``, ``float16``, ``int8``), where known.
    """

    name: str
    description: str = ""
    runtime: str = "onnxruntime"
    threads: int = 1
    batch: int = 1
    precision: Precision = "float32"
    peaks: Mapping[str, Peak] = field(default_factory=dict)


def device_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """Names of all devices that have a card in one of ``folders``, sorted."""
    return tuple(sorted({card.parent.name for folder in folders for card in Path(folder).glob(f"*/{CARD}")}))


def load_device(name: str, folders: Sequence[Path], *, where: str = "device") -> Device:
    """The device called ``name``, from the first folder that has a card for it.

    Args:
        name: of the folder that holds the card.
        folders: searched in order: a user's own before the shipped one.
        where: the field that names the device, for the error.

    Raises:
        UserError: no such device (the known ones are listed), or a card that breaks a rule.
    """
    known = device_names(folders)
    if name not in known:
        raise unknown_name(where, "device", name, known, also="or a folder with a device.yaml, see latency_models/")
    path = next(card for folder in folders if (card := Path(folder) / name / CARD).is_file())
    return read_card(path)


def read_card(path: Path) -> Device:
    """The device that the card at ``path`` describes.

    Raises:
        UserError: a broken YAML (with its line), an unknown key, or a value that breaks a rule (with its key).
    """
    record = _read_yaml(path)
    for key in record:
        if key not in _KEYS:
            raise unknown_name(in_file(path, str(key)), "field", key, _KEYS)
    device = Device(
        name=_text(path, record, "name", default=""),
        description=_text(path, record, "description", default=""),
        runtime=_one_of(path, record, "runtime", RUNTIMES),
        threads=_positive_int(path, record, "threads"),
        batch=_positive_int(path, record, "batch"),
        precision="int8" if _one_of(path, record, "precision", PRECISIONS) == "int8" else "float32",
        peaks=_peaks(path, record.get("peaks") or {}),
    )
    if device.name != path.parent.name:
        problem = f"must be the name of the card's folder, '{path.parent.name}', got '{device.name}'"
        raise UserError(in_file(path, "name"), problem)
    return device


def _read_yaml(path: Path) -> dict[object, object]:
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = "" if mark is None else f"line {mark.line + 1}"
        raise UserError(in_file(path, line), f"is not valid YAML, {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(str(path), f"is not valid YAML, {error}".replace("\n", " ")) from error
    except OSError as error:
        raise UserError(str(path), f"cannot be read, {error.strerror}") from error
    if not isinstance(record, dict):
        raise UserError(str(path), "must be a mapping of fields", f"it takes {', '.join(_KEYS)}")
    return record


def _text(path: Path, record: Mapping[object, object], key: str, *, default: str) -> str:
    value = record.get(key, default)
    if not isinstance(value, str):
        raise UserError(in_file(path, key), f"must be text, got {value!r}")
    return value.strip()


def _one_of(path: Path, record: Mapping[object, object], key: str, known: Sequence[str]) -> str:
    value = _text(path, record, key, default=known[0])
    if value not in known:
        raise unknown_name(in_file(path, key), key, value, known)
    return value


def _positive_int(path: Path, record: Mapping[object, object], key: str) -> int:
    value = record.get(key, 1)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(in_file(path, key), f"must be a whole number of at least 1, got {value!r}")
    return value


def _peaks(path: Path, record: object) -> dict[str, Peak]:
    if not isinstance(record, Mapping):
        raise UserError(in_file(path, "peaks"), f"must be a mapping, got {record!r}", f"it takes {', '.join(_PEAKS)}")
    peaks = {}
    for name, entry in record.items():
        where = in_file(path, f"peaks.{name}")
        if name not in _PEAKS:
            raise unknown_name(where, "peak", name, _PEAKS)
        if not isinstance(entry, Mapping) or set(entry) != {"value", "source"} or not str(entry["source"]).strip():
            raise UserError(where, "must have a value and a source", "e.g. {value: 4.8 TB/s, source: data sheet, p. 2}")
        peaks[name] = Peak(per_second=_rate(where, entry["value"], _PEAKS[name]), source=str(entry["source"]))
    return peaks


def _rate(where: str, text: object, unit: str) -> float:
    """``'4.8 TB/s'`` in bytes a second, ``'1.2 TFLOP/s'`` in operations a second."""
    match = _RATE.match(str(text))
    if match is None or (match.group(3) == "B") != (unit == "B/s"):
        example = "4.8 TB/s" if unit == "B/s" else "1.2 TFLOP/s"
        raise UserError(where, f"must be a rate in {unit}, got {text!r}", f"give it like '{example}'")
    return parse_quantity(match.group(1), "count", where=where) * _PREFIX[match.group(2)]
