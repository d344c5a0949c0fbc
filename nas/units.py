"""Quantities with units: parsing what a user writes, and writing what a user reads.

Responsible for the canonical unit of each dimension. Everywhere else a number carries its unit in its name
(``latency_ms``, ``size_bytes``, ``energy_mj``), in the canonical unit of this module.
"""

from __future__ import annotations

import math
import re
from typing import Literal

from nas.errors import UserError

Dimension = Literal["time", "bytes", "energy", "power", "count", "share"]

CANONICAL: dict[Dimension, str] = {
    "time": "ms",
    "bytes": "B",
    "energy": "mJ",
    "power": "W",
    "count": "",
    "share": "%",
}
_EXAMPLE: dict[Dimension, str] = {
    "time": "12 ms",
    "bytes": "2 MB",
    "energy": "3 mJ",
    "power": "2.5 W",
    "count": "40 M",
    "share": "95 %",
}
# Factor to the canonical unit. Case matters only where SI needs it (m against M).
_UNITS: dict[Dimension, dict[str, float]] = {
    "time": {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4},
    "bytes": {
        "B": 1.0,
        "kB": 1e3,
        "KB": 1e3,
        "MB": 1e6,
        "GB": 1e9,
        "KiB": 2.0**10,
        "MiB": 2.0**20,
        "GiB": 2.0**30,
    },
    "energy": {"pJ": 1e-9, "nJ": 1e-6, "uJ": 1e-3, "µJ": 1e-3, "mJ": 1.0, "J": 1e3, "kJ": 1e6},
    "power": {"uW": 1e-6, "µW": 1e-6, "mW": 1e-3, "W": 1.0, "kW": 1e3},
    "count": {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9},
    "share": {"%": 1.0},
}
_PATTERN = re.compile(r"^\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([a-zA-Zµ%]*)\s*$")


def parse_quantity(text: object, dimension: Dimension, *, where: str) -> float:
    """A user's ``'12 s'`` as a number in the canonical unit of ``dimension`` (here 12000.0 ms).

    Args:
        text: a string with number and unit; a bare number only where the dimension is a count.
        dimension: what is expected.
        where: the field, for the error.

    Raises:
        UserError: not a quantity, a missing unit, a unit of another dimension, or not positive and finite.
    """
    expected = f"give it like '{_EXAMPLE[dimension]}'"
    match = _PATTERN.match(str(text))
    if match is None or isinstance(text, bool):
        raise UserError(where, f"must be a quantity of {dimension}, got {text!r}", expected)
    number, unit = float(match.group(1)), match.group(2)
    units = _UNITS[dimension]
    if unit not in units:
        known = ", ".join(u for u in units if u)
        if unit:
            problem = f"must be in a unit of {dimension} ({known}), got {str(text).strip()!r}"
        else:
            problem = f"must carry a unit ({known}), got the bare number {str(text).strip()}"
        raise UserError(where, problem, expected)
    value = number * units[unit]
    if not math.isfinite(value) or value <= 0:
        raise UserError(where, f"must be positive and finite, got {text!r}", expected)
    return value


def format_quantity(value: float | None, dimension: Dimension) -> str:
    """A canonical number as a person writes it, with three significant digits: ``0.38 ms``, ``212 kB``, ``4.1 M``."""
    if value is None or math.isnan(value):
        return "-"
    if dimension == "share":
        return f"{value:.1f} %"
    steps: list[tuple[float, str]]
    if dimension == "time":
        steps = [(1e3, "s"), (1.0, "ms"), (1e-3, "us")] if value >= 1e4 or value < 1e-3 else [(1.0, "ms")]
    elif dimension == "bytes":
        steps = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")]
    elif dimension == "energy":
        steps = [(1e3, "J"), (1.0, "mJ"), (1e-3, "uJ"), (1e-6, "nJ"), (1e-9, "pJ")]
    elif dimension == "power":
        steps = [(1.0, "W"), (1e-3, "mW"), (1e-6, "uW")]
    else:
        steps = [(1e12, "e12"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")]
        if abs(value) >= 1e15:
            return f"{value:.2g}"
    for factor, unit in steps:
        if abs(value) >= factor:
            return f"{_three_digits(value / factor)} {unit}".strip()
    factor, unit = steps[-1]
    return f"{_three_digits(value / factor)} {unit}".strip()


def format_size(count: int) -> str:
    """A number of architectures: ``15,625``, ``3.8e14``."""
    if count < 10**6:
        return f"{count:,}"
    exponent = len(str(count)) - 1
    digits = round(count / 10 ** (exponent - 1)) / 10
    return f"{digits:.1f}e{exponent}" if digits < 10 else f"1.0e{exponent + 1}"


def counted(count: int, noun: str) -> str:
    """``1 architecture``, ``15,625 architectures``."""
    return f"{format_size(count)} {noun}{'' if count == 1 else 's'}"


def format_seconds(seconds: float) -> str:
    """A duration for a progress line: ``0:31``, ``2:10``, ``1:05:00``."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        return f"{value:.0f}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
