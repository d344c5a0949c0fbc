"""Device cards: what a latency belongs to, beside the file that is timed.

Responsible for reading and checking `<folder>/<name>/device.yaml`; its figures are read in `nas.device.card_figures`.
The format is described in `latency_models/README.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

import yaml

from nas.device.card_figures import ENERGY, MEMORY, Figure, Peak, read_figures, read_peaks
from nas.device.where.places import Local, Place, place_from
from nas.errors import UserError, in_file, unknown_name
from nas.space.load import PlainLoader

Precision = Literal["float32", "float16", "int8", "int8-signed", "int8-dynamic", "int4", "int4-signed"]
"""Of an exported file. ``int8`` has unsigned activations, best on x86; ``int8-signed`` has symmetric ones. The same
holds for ``int4``, whose matrix products have weights of 4 bits and whose other operators are those of an INT8 file.
``int8-dynamic`` finds the ranges of activations at run time."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_SIGNED_MAPS = ("signed", "int8")  # how an option and a manifest begin that word it
Arithmetic = Literal["float32", "float16", "int8"]
ARITHMETIC: dict[Precision, Arithmetic] = {
    "float32": "float32",
    "float16": "float16",
    "int8": "int8",
    "int8-signed": "int8",
    "int8-dynamic": "int8",
    "int4": "int8",
    "int4-signed": "int8",
}
"""Precision of a file -> what its numbers are, as peaks and energies of a card are named. Weights of 4 bits are widened
to 8 by the kernels that multiply them."""

BYTES_PER_VALUE: dict[Arithmetic, int] = {"float32": 4, "float16": 2, "int8": 1}


def precision_on_device(exported: str, activations: object) -> str:
    """What a device knows an exported precision as: files of 8-bit maps differ by the sign of these.

    Args:
        exported: precision of the file.
        activations: ``signed``, or what the file's manifest says of them (``int8, symmetric, a scale a tensor``).
    """
    signed = f"{exported}-signed"
    return signed if signed in PRECISIONS and str(activations).startswith(_SIGNED_MAPS) else exported


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Bytes of a value in files of a precision.

    Attributes:
        activations: between operators.
        weights: in the file.
        products: of weights of matrix products, with the scales of their blocks.
    """

    activations: float
    weights: float
    products: float


WIDTHS: dict[Precision, Widths] = {
    "float32": Widths(activations=4, weights=4, products=4),
    "float16": Widths(activations=2, weights=2, products=2),
    "int8": Widths(activations=1, weights=1, products=1),
    "int8-signed": Widths(activations=1, weights=1, products=1),
    "int8-dynamic": Widths(activations=4, weights=1, products=1),
    "int4": Widths(activations=1, weights=1, products=0.625),
    "int4-signed": Widths(activations=1, weights=1, products=0.625),
}
"""A scale of four bytes for 32 weights of 4 bits makes 0.625. Files that are quantised at run time keep activations in
float32 between operators."""

UNFUSED: frozenset[Precision] = frozenset({"int8", "int8-signed", "int8-dynamic", "int4", "int4-signed"})
"""Precisions in which activations and sums that float32 convolutions take in run as kernels of their own."""

Kind = Literal["cpu", "gpu", "npu", "microcontroller"]
KINDS: tuple[Kind, ...] = get_args(Kind)
RUNTIMES = ("onnxruntime", "pytorch", "litert")
CARD = "device.yaml"
_MAX_BYTES = 250_000

Name = TypeVar("Name", bound=str)
_KEYS = (
    "name",
    "description",
    "kind",
    "runtime",
    "threads",
    "batch",
    "precision",
    "where",
    "peaks",
    "memory",
    "energy",
)


@dataclass(frozen=True, kw_only=True)
class Device:
    """Hardware, runtime and the way it is used: two latencies compare only if these are the same.

    Attributes:
        name: of the card's folder; the part behind the dot in ``latency_ms.<name>``.
        description: one line for people.
        kind: of hardware; decides how a latency is estimated where nothing was measured.
        runtime: what runs the files.
        threads: threads that one inference may use.
        batch: samples an inference takes.
        precision: of the files whose latency a search bounds and minimises.
        where: the place that files are timed at; `Nowhere` for a device that is known by its card only.
        peaks: peak figures by name (``memory_bandwidth``, ``float32``, ``float16``, ``int8``), where known, of what
            the given threads can do.
        memory: bytes by name, see `nas.device.card_figures.MEMORY`, where known.
        energy: mJ an operation or a byte, and W, by name, see `nas.device.card_figures.ENERGY`, where known.
    """

    name: str
    description: str = ""
    kind: Kind = "cpu"
    runtime: str = "onnxruntime"
    threads: int = 1
    batch: int = 1
    precision: Precision = "float32"
    where: Place = field(default_factory=Local)
    peaks: Mapping[str, Peak] = field(default_factory=dict)
    memory: Mapping[str, Figure] = field(default_factory=dict)
    energy: Mapping[str, Figure] = field(default_factory=dict)


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
        kind=_one_of(path, record, "kind", KINDS),
        runtime=_one_of(path, record, "runtime", RUNTIMES),
        threads=_positive_int(path, record, "threads"),
        batch=_positive_int(path, record, "batch"),
        precision=_one_of(path, record, "precision", PRECISIONS),
        where=place_from(record.get("where"), where=in_file(path, "where")),
        peaks=read_peaks(record.get("peaks"), where=in_file(path, "peaks")),
        memory=read_figures(record.get("memory"), MEMORY, "memory", where=in_file(path, "memory")),
        energy=read_figures(record.get("energy"), ENERGY, "energy", where=in_file(path, "energy")),
    )
    if device.name != path.parent.name:
        problem = f"must be the name of the card's folder, '{path.parent.name}', got '{device.name}'"
        raise UserError(in_file(path, "name"), problem)
    return device


def _read_yaml(path: Path) -> dict[object, object]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(str(path), f"must be at most {_MAX_BYTES // 1000} kB", "is it the card of a device?")
        record = yaml.load(path.read_text(encoding="utf-8"), Loader=PlainLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = "" if mark is None else f"line {mark.line + 1}"
        raise UserError(in_file(path, line), f"is not valid YAML, {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
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


def _one_of(path: Path, record: Mapping[object, object], key: str, known: Sequence[Name]) -> Name:
    value = _text(path, record, key, default=known[0])
    for name in known:
        if name == value:
            return name
    raise unknown_name(in_file(path, key), key, value, known)


def _positive_int(path: Path, record: Mapping[object, object], key: str) -> int:
    value = record.get(key, 1)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(in_file(path, key), f"must be a whole number of at least 1, got {value!r}")
    return value
