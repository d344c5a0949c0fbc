"""A profile as a plain-text table.

Responsible for what fits into a terminal: stages with their sums, and below each its operators in the order in which
they ran.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nas.deploy.profiling.records import FileProfile, OperatorProfile, Part
from nas.units import format_quantity

_GAP = "  "
_LEAST = 12
_UNKNOWN = "(not in the network)"


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A column; ``drop`` says when it gives way (the highest first, 0 never), ``shrinks`` whether its cells may."""

    heading: str
    cells: tuple[str, ...]
    right: bool = True
    drop: int = 0
    shrinks: bool = False

    @property
    def width(self) -> int:
        return max(map(len, (self.heading, *self.cells)))


def profile_table(profile: FileProfile, *, notes: Mapping[str, str], width: int = 120) -> str:
    """The profile of a file, in lines of at most ``width`` columns where that is not under about 60.

    Args:
        profile: of the file.
        notes: stage -> what the architecture says about it; may be empty.
        width: columns of the terminal. MAC rate, MACs, bytes, shapes and bandwidth give way in this order; then layer
            and kernel are shortened.
    """
    rows: list[tuple[Part | None, OperatorProfile | None]] = []
    for stage in profile.stages():
        rows.append((stage, None))
        rows += [(None, operator) for operator in profile.operators if operator.stage == stage.name]
    columns = _fitted(_columns(rows, *_unit(profile.latency.latency_ms)), width)
    lines = [*_head(profile), "", _line(columns, [column.heading for column in columns])]
    for place, (part, _) in enumerate(rows):
        line = _line(columns, [column.cells[place] for column in columns])
        text = notes.get(part.name, "") if part is not None else ""
        lines.append(_with_note(line, columns, text) if part is not None else line)
    return "\n".join([*lines, ""])


def _head(profile: FileProfile) -> list[str]:
    latency = profile.latency
    threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
    families = ", ".join(f"{part.name} {_percent(part.share)}" for part in profile.families()[:4])
    return [
        f"{_clean(profile.file.name)} on {profile.device}, {threads}, batch {profile.batch}",
        f"latency   {format_quantity(latency.latency_ms, 'time')} without profiler; "
        f"{format_quantity(profile.profiled_ms, 'time')} under it, {profile.inflation:.1f} times as long",
        f"mapped    {_percent(profile.mapped_share('name', 'tensor'))} of the time to layers by name, "
        f"{_percent(profile.mapped_share('neighbour'))} by what is around",
        f"spent on  {families}",
    ]


def _columns(rows: Sequence[tuple[Part | None, OperatorProfile | None]], unit: str, per_ms: float) -> list[_Column]:
    def cells(of: Sequence[str]) -> tuple[str, ...]:
        return tuple(of)

    items = [part or operator for part, operator in rows]
    known = [item for item in items if item is not None]
    return [
        _Column(heading="stage and layer", cells=cells([_name(item) for item in known]), right=False, shrinks=True),
        _Column(heading="kernel", cells=cells([_kernel(item) for item in known]), right=False, shrinks=True),
        _Column(heading="shape", cells=cells([_shapes(item) for item in known]), right=False, drop=2),
        _Column(heading=unit, cells=cells([f"{item.time_ms * per_ms:.2f}" for item in known])),
        _Column(heading="share", cells=cells([_percent(item.share) for item in known])),
        _Column(heading="bytes", cells=cells([format_quantity(item.total_bytes, "bytes") for item in known]), drop=3),
        _Column(heading="GB/s", cells=cells([_rate(item.total_bytes, item.time_ms) for item in known]), drop=1),
        _Column(heading="MACs", cells=cells([_macs(item) for item in known]), drop=4),
        _Column(heading="GMAC/s", cells=cells([_rate(item.macs, item.time_ms) for item in known]), drop=5),
    ]


def _name(item: Part | OperatorProfile) -> str:
    if isinstance(item, Part):
        return _clean(item.name) or _UNKNOWN
    return "  " + (_clean(item.layer.removeprefix(item.stage).strip("/")) or "·")


def _kernel(item: Part | OperatorProfile) -> str:
    if isinstance(item, Part):
        return ""
    plain = item.kind.removeprefix("QLinear").removeprefix("Fused")
    more = "+".join(name for name in item.computes if name != plain)
    return item.kind + (f"+{more}" if more and len(item.computes) > 1 else f" ({more})" if more else "")


def _shapes(item: Part | OperatorProfile) -> str:
    if isinstance(item, Part):
        return ""
    return f"{_shape(item.in_shape)} > {_shape(item.out_shape)}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[1:] if len(shape) > 1 and shape[0] == 1 else shape)) or "1"


def _unit(latency_ms: float) -> tuple[str, float]:
    """The unit of the column of times, and what a ms is in it."""
    return ("us", 1e3) if latency_ms < 2 else ("ms", 1.0)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _macs(item: Part | OperatorProfile) -> str:
    return "?" if item.macs is None else format_quantity(item.macs, "count") if item.macs else ""


def _rate(amount: int | None, time_ms: float) -> str:
    if not amount:
        return "" if amount == 0 else "?"
    rate = amount / time_ms / 1e6
    return f"{rate:.1f}" if rate >= 0.1 else f"{rate:.2f}"


def _fitted(columns: list[_Column], width: int) -> list[_Column]:
    while _total(columns) > width and any(column.drop for column in columns):
        last = max(column.drop for column in columns)
        columns = [column for column in columns if column.drop != last]
    while _total(columns) > width:
        widest = max((column for column in columns if column.shrinks), key=lambda column: column.width)
        room = max(_LEAST, widest.width - (_total(columns) - width))
        if room == widest.width:
            break
        narrow = replace(
            widest,
            heading=_short(widest.heading, room, middle=False),
            cells=tuple(_short(cell, room, middle=True) for cell in widest.cells),
        )
        columns = [narrow if column is widest else column for column in columns]
    return columns


def _short(text: str, room: int, *, middle: bool) -> str:
    """``text`` in ``room`` columns; what goes is in the middle, as names differ at their ends, or at the end."""
    if len(text) <= room:
        return text
    head = (room - 1) // 3 if middle else room - 1
    tail = room - 1 - head
    return f"{text[:head]}…{text[len(text) - tail :]}" if tail else f"{text[:head]}…"


def _total(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)


def _line(columns: Sequence[_Column], texts: Sequence[str]) -> str:
    cells = [
        text.rjust(column.width) if column.right else text.ljust(column.width)
        for column, text in zip(columns, texts, strict=True)
    ]
    return _GAP.join(cells).rstrip()


def _with_note(line: str, columns: Sequence[_Column], text: str) -> str:
    """A stage's line with a note where its operators have kernel and shape, as far as it fits."""
    texts = [column for column in columns if not column.right]
    start = texts[0].width + len(_GAP)
    room = sum(column.width for column in texts[1:]) + len(_GAP) * (len(texts) - 2)
    return line[:start] + _short(_clean(text), room, middle=False).ljust(room) + line[start + room :]


def _clean(text: str) -> str:
    """``text`` without control characters, which could move a terminal's cursor."""
    return "".join("�" if unicodedata.category(character).startswith("C") else character for character in text)
