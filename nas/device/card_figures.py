"""Figures of a device card: hardware peaks, memories, energies, each with the source that it is from.

Responsible for their names, their units and the checks of a card's ``peaks``, ``memory`` and ``energy``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nas.errors import UserError, unknown_name
from nas.units import Dimension, parse_quantity

# What a peak may name, with the unit that its figure is kept in.
PEAKS: dict[str, str] = {"memory_bandwidth": "B/s", "float32": "OP/s", "float16": "OP/s", "int8": "OP/s"}
MEMORY: dict[str, Dimension] = {
    "ram": "bytes",
    "ram_reserved": "bytes",
    "flash": "bytes",
    "flash_reserved": "bytes",
    "cache": "bytes",
}
"""Memories: what runs a network and what stores it, what programs already take of either, and the largest cache."""

ENERGY: dict[str, Dimension] = {
    "mac_float32": "energy",
    "mac_float16": "energy",
    "mac_int8": "energy",
    "dram_byte": "energy",
    "sram_byte": "energy",
    "static": "power",
}
"""Energies: of a multiply-accumulate by precision, of a byte moved, and the power that flows whatever is computed."""

_EXAMPLE: dict[Dimension, str] = {"bytes": "512 KiB", "energy": "4.6 pJ", "power": "2.5 W"}
_PREFIX = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_RATE = re.compile(r"^\s*(\S+?)\s+([kMGTP]?)(B|FLOP|OP)/s\s*$")


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
class Figure:
    """A figure of a memory or an energy.

    Attributes:
        value: bytes of a memory, mJ of an operation or of a byte, W of the static power.
        source: where the figure is from; never empty.
    """

    value: float
    source: str


def read_peaks(record: object, *, where: str) -> dict[str, Peak]:
    """The ``peaks`` of a card; {} where there are none. Raises `UserError` with the key that breaks a rule."""
    peaks = {}
    for name, place, entry in _entries(record, PEAKS, "peak", where=where, example="4.8 TB/s"):
        peaks[name] = Peak(per_second=_rate(place, entry["value"], PEAKS[name]), source=str(entry["source"]).strip())
    return peaks


def read_figures(record: object, known: Mapping[str, Dimension], kind: str, *, where: str) -> dict[str, Figure]:
    """The ``memory`` or ``energy`` of a card, by name.

    Args:
        record: the value of the card's key; None: there are none.
        known: names, with what each is measured in.
        kind: what an entry is, for the error.
        where: file and key.

    Raises:
        UserError: an unknown name, an entry without value or source, a quantity that does not fit.
    """
    example = _EXAMPLE[next(iter(known.values()))]
    return {
        name: Figure(
            value=parse_quantity(entry["value"], known[name], where=place), source=str(entry["source"]).strip()
        )
        for name, place, entry in _entries(record, known, kind, where=where, example=example)
    }


def _entries(
    record: object, known: Mapping[str, object], kind: str, *, where: str, example: str
) -> list[tuple[str, str, Mapping[str, object]]]:
    """Name, place and checked form of each entry."""
    if record is None:
        return []
    if not isinstance(record, Mapping):
        raise UserError(where, f"must be a mapping, got {record!r}", f"it takes {', '.join(known)}")
    found = []
    for name, entry in record.items():
        place = f"{where}.{name}"
        if name not in known:
            raise unknown_name(place, kind, name, known)
        if not isinstance(entry, Mapping) or set(entry) != {"value", "source"} or not _is_text(entry["source"]):
            advice = f"e.g. {{value: {example}, source: data sheet, p. 2}}"
            raise UserError(place, "must have a value and a source", advice)
        found.append((str(name), place, entry))
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _rate(where: str, text: object, unit: str) -> float:
    """``'4.8 TB/s'`` in bytes a second, ``'1.2 TFLOP/s'`` in operations a second."""
    match = _RATE.match(str(text))
    if match is None or (match.group(3) == "B") != (unit == "B/s"):
        example = "4.8 TB/s" if unit == "B/s" else "1.2 TFLOP/s"
        raise UserError(where, f"must be a rate in {unit}, got {text!r}", f"give it like '{example}'")
    return parse_quantity(match.group(1), "count", where=where) * _PREFIX[match.group(2)]
