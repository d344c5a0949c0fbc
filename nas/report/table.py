"""The front as a plain-text table for a terminal, a log, or a page without scripts."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nas.report.quantities import latency_keys
from nas.report.records import number, truth
from nas.units import Dimension, format_quantity

Row = Mapping[str, str]

_GAP = "  "
_MARKS = (("*", "non-dominated"), ("!", "kept out of the front"))
_LEVELS = 2  # of shortening


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A column: headings and cells from long to short, and when to drop it (higher goes first; 0 never does)."""

    headings: tuple[str, ...]
    variants: tuple[tuple[str, ...], ...]
    drop: int = 0
    right: bool = False

    def width(self, level: int) -> int:
        return max(map(_width, (self.heading(level), *self.cells(level))))

    def heading(self, level: int) -> str:
        return self.headings[min(level, len(self.headings) - 1)]

    def cells(self, level: int) -> tuple[str, ...]:
        return self.variants[min(level, len(self.variants) - 1)]


def front_table(
    rows: Sequence[Row],
    *,
    device: str = "",
    width: int = 100,
    confidence: float | None = 0.95,
    estimated: Collection[str] = (),
) -> str:
    """The exported files, most accurate first, one line each, with marks explained and broken budgets named.

    With several devices each has a column. What was not measured there is marked as such, so that no prediction is
    taken for a measurement.

    Args:
        rows: the rows of ``front.csv`` as text, see `nas.report.records.read_front`.
        device: whose latency stands first; the first device of the columns if it has none there.
        width: columns of the terminal. Paths, MACs, peak RAM and size give way in this order, headings shorten, and
            with several devices cells shrink to what was measured; model, precision, accuracy and latencies always
            stay, so very narrow terminals wrap.
        confidence: of the bound, for the heading; None if unknown.
        estimated: devices whose predictions are estimates from their cards.

    Returns:
        Lines without trailing spaces or a final newline; a sentence when there are no rows.
    """
    if not rows:
        return "no model was exported"
    latency = latency_keys(rows[0], first=device)
    ordered = sorted(rows, key=lambda row: (-(number(row.get("accuracy")) or 0.0), _latency(row, latency)))
    devices = [key.partition(".")[2] for key in latency]
    columns = _columns(ordered, devices, confidence, estimated)
    level = 0
    while _total(columns, level) > width and level < _LEVELS:
        level += 1
    while _total(columns, level) > width and any(column.drop for column in columns):
        last = max(column.drop for column in columns)
        columns = [column for column in columns if column.drop != last]
    lines = [_line(columns, [column.heading(level) for column in columns], level)]
    lines += [
        _line(columns, [column.cells(level)[place] for column in columns], level) for place in range(len(ordered))
    ]
    return "\n".join([*lines, *_legend(ordered, lines, estimated)])


def _columns(
    rows: Sequence[Row], devices: Sequence[str], confidence: float | None, estimated: Collection[str]
) -> list[_Column]:
    def cells(name: str, dimension: Dimension) -> tuple[tuple[str, ...], ...]:
        return (tuple(format_quantity(number(row.get(name)), dimension) for row in rows),)

    def texts(name: str, length: int | None = None) -> tuple[tuple[str, ...], ...]:
        return (tuple(_clean(row.get(name, ""))[:length] for row in rows),)

    accuracy = tuple(
        "-" if (share := number(row.get("accuracy"))) is None else f"{share:.1%}".replace("%", " %") for row in rows
    )
    return [
        _Column(headings=("",), variants=(tuple(_marks(row) for row in rows),)),
        _Column(headings=("model",), variants=texts("digest", 6)),
        _Column(headings=("precision",), variants=texts("precision")),
        _Column(headings=("accuracy",), variants=(accuracy,), right=True),
        *_latency_columns(rows, devices, confidence, estimated),
        _Column(headings=("size",), variants=cells("size_bytes", "bytes"), drop=1, right=True),
        _Column(headings=("peak RAM",), variants=cells("peak_activation_bytes", "bytes"), drop=2, right=True),
        _Column(headings=("MACs",), variants=cells("macs", "count"), drop=3, right=True),
        _Column(headings=("file",), variants=texts("path"), drop=4),
    ]


def _latency_columns(
    rows: Sequence[Row], devices: Sequence[str], confidence: float | None, estimated: Collection[str]
) -> list[_Column]:
    """One for a single device, with all three figures; with several, one each, that shrinks to a single figure."""
    bound = f"{confidence * 100:.3g} % bound" if confidence is not None else "bound"
    if len(devices) < 2:
        device = devices[0] if devices else ""
        long = f"latency (measured / predicted / {bound})"
        headings = (long, "latency (meas. / pred. / bound)", "ms (meas/pred/bound)")
        return [_Column(headings=headings, variants=(tuple(_latency_cell(row, device) for row in rows),))]
    columns = []
    for device in devices:
        name = _clean(device) + (" (est.)" if device in estimated else "")
        full = tuple(_latency_cell(row, device) for row in rows)
        columns.append(
            _Column(
                headings=(f"{name} (meas. / pred. / {bound})", f"{name} (m/p/b)", name),
                variants=(full, full, tuple(_single_cell(row, device) for row in rows)),
                right=True,
            )
        )
    return columns


def _single_cell(row: Row, device: str) -> str:
    """What was measured; what was not is given by its bound, or its prediction, and marked."""
    measured = number(row.get(f"latency_ms.{device}"))
    if measured is not None:
        return format_quantity(measured, "time")
    names = (("<", f"latency_upper_ms.{device}"), ("~", f"predicted_latency_ms.{device}"))
    known = [f"{mark}{format_quantity(value, 'time')}" for mark, name in names if (value := number(row.get(name)))]
    return next(iter(known), "-")


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


def _legend(rows: Sequence[Row], shown: Sequence[str], estimated: Collection[str]) -> list[str]:
    used = "".join(_marks(row) for row in rows)
    meanings = [f"{mark} {meaning}" for mark, meaning in _MARKS if mark in used]
    body = "\n".join(shown[1:])
    meanings += ["(m/p/b) measured / predicted / bound"] if "(m/p/b)" in shown[0] else []
    meanings += ["< not measured: upper bound"] if " <" in body else []
    meanings += ["~ not measured: prediction"] if " ~" in body else []
    meanings += ["(est.) predictions estimated from the device's card"] if estimated and "(est.)" in shown[0] else []
    lines = [", ".join(meanings)]
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
