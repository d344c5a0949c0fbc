"""The front as a plain-text table for a terminal, a log, or a page without scripts."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.report.quantities import latency_keys
from nas.report.records import number, truth
from nas.units import Dimension, format_quantity

Row = Mapping[str, str]

_GAP = "  "
_MARKS = (("*", "non-dominated"), ("!", "breaks a budget"))


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A column: headings from long to short, cells, and when to drop it (higher goes first; 0 never does)."""

    headings: tuple[str, ...]
    cells: tuple[str, ...]
    drop: int = 0
    right: bool = False

    def width(self, level: int) -> int:
        return max(map(_width, (self.heading(level), *self.cells)))

    def heading(self, level: int) -> str:
        return self.headings[min(level, len(self.headings) - 1)]


def front_table(rows: Sequence[Row], *, device: str = "", width: int = 100, confidence: float | None = 0.95) -> str:
    """The exported files, most accurate first, one line each, with marks explained and broken budgets named.

    Args:
        rows: the rows of ``front.csv`` as text, see `nas.report.records.read_front`.
        device: whose latency to show; the first device of the columns if it has none there.
        width: columns of the terminal. Paths, MACs, peak RAM and size give way in this order, and headings shorten;
            model, precision, accuracy and latency always stay, so very narrow terminals wrap.
        confidence: of the bound, for the heading; None if unknown.

    Returns:
        Lines without trailing spaces or a final newline; a sentence when there are no rows.
    """
    if not rows:
        return "no model was exported"
    latency = latency_keys(rows[0], first=device)
    ordered = sorted(rows, key=lambda row: (-(number(row.get("accuracy")) or 0.0), _latency(row, latency)))
    columns = _columns(ordered, latency[0].partition(".")[2] if latency else "", confidence)
    level = 0
    while _total(columns, level) > width and level < 2:
        level += 1
    while _total(columns, level) > width and any(column.drop for column in columns):
        last = max(column.drop for column in columns)
        columns = [column for column in columns if column.drop != last]
    lines = [_line(columns, [column.heading(level) for column in columns], level)]
    lines += [_line(columns, [column.cells[place] for column in columns], level) for place in range(len(ordered))]
    return "\n".join([*lines, *_legend(ordered)])


def _columns(rows: Sequence[Row], device: str, confidence: float | None) -> list[_Column]:
    bound = f"{confidence * 100:.3g} % bound" if confidence is not None else "bound"
    headings = (f"latency (measured / predicted / {bound})", "latency (meas. / pred. / bound)", "ms (meas/pred/bound)")

    def cells(name: str, dimension: Dimension) -> tuple[str, ...]:
        return tuple(format_quantity(number(row.get(name)), dimension) for row in rows)

    accuracy = tuple(
        "-" if (share := number(row.get("accuracy"))) is None else f"{share:.1%}".replace("%", " %") for row in rows
    )
    latency = tuple(_latency_cell(row, device) for row in rows)
    return [
        _Column(headings=("",), cells=tuple(_marks(row) for row in rows)),
        _Column(headings=("model",), cells=tuple(_clean(row.get("digest", ""))[:6] for row in rows)),
        _Column(headings=("precision",), cells=tuple(_clean(row.get("precision", "")) for row in rows)),
        _Column(headings=("accuracy",), cells=accuracy, right=True),
        _Column(headings=headings, cells=latency),
        _Column(headings=("size",), cells=cells("size_bytes", "bytes"), drop=1, right=True),
        _Column(headings=("peak RAM",), cells=cells("peak_activation_bytes", "bytes"), drop=2, right=True),
        _Column(headings=("MACs",), cells=cells("macs", "count"), drop=3, right=True),
        _Column(headings=("file",), cells=tuple(_clean(row.get("path", "")) for row in rows), drop=4),
    ]


def _latency_cell(row: Row, device: str) -> str:
    """``0.38 / 0.36 / 0.40 ms``: one unit behind all three, that of the largest."""
    names = (f"latency_ms.{device}", f"predicted_latency_ms.{device}", f"latency_upper_ms.{device}")
    values = [number(row.get(name)) for name in names]
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    unit = format_quantity(max(known), "time").rpartition(" ")[2]
    factor = {"s": 1e-3, "ms": 1.0, "us": 1e3}[unit]
    texts = ["-" if value is None else f"{value * factor:#.3g}".rstrip(".") for value in values]
    return " / ".join(texts) + f" {unit}"


def _latency(row: Row, keys: Sequence[str]) -> float:
    value = number(row.get(keys[0])) if keys else None
    return float("inf") if value is None else value


def _marks(row: Row) -> str:
    return ("*" if truth(row.get("non_dominated")) else " ") + ("!" if truth(row.get("accepted")) is False else " ")


def _legend(rows: Sequence[Row]) -> list[str]:
    used = "".join(_marks(row) for row in rows)
    lines = [", ".join(f"{mark} {meaning}" for mark, meaning in _MARKS if mark in used)]
    for row in rows:
        if truth(row.get("accepted")) is False and row.get("reason"):
            reason = _clean(row["reason"])
            lines.append(f"! {_clean(row.get('digest', ''))[:6]} {_clean(row.get('precision', ''))}: {reason}")
    return [line for line in lines if line]


def _total(columns: Sequence[_Column], level: int) -> int:
    return sum(column.width(level) for column in columns) + len(_GAP) * (len(columns) - 1)


def _line(columns: Sequence[_Column], texts: Sequence[str], level: int) -> str:
    cells = []
    for column, text in zip(columns, texts, strict=True):
        space = " " * (column.width(level) - _width(text))
        cells.append(space + text if column.right else text + space)
    return _GAP.join(cells).rstrip()


def _clean(text: str) -> str:
    """``text`` without control characters, which could move a terminal's cursor or break the line."""
    return "".join("�" if unicodedata.category(character).startswith("C") else character for character in text)


def _width(text: str) -> int:
    """Columns that ``text`` takes in a terminal: wide characters take two, combining ones none."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)
