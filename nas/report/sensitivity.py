"""How each operator takes few bits, as a picture and a table.

Responsible for one section of a page, made of records of `nas.deploy.precision.sensitivity`, and for a page of that
section alone. Nothing in it needs a script.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.report.page import fill_page

Records = Sequence[Mapping[str, Any]]

STYLES = ("page.css", "plots.css", "tables.css", "sensitivity.css", "print.css")
_GENERATOR = '<meta name="generator" content="nas sensitivity">'
_PRECISIONS = ("int8", "int4", "int8-dynamic", "float16")
_NAME_WIDTH, _PLOT_WIDTH, _VALUE_WIDTH, _ROW, _TOP = 330, 520, 60, 19, 24
_LEAST_SCALE_DB, _STEP_DB = 40.0, 10
_MOST_ROWS = 60
_POOR_DB = 20.0
"""Below it an error is a tenth of the signal or more."""


def sensitivity_section(records: Records, *, heading: str = "Sensitivity to few bits", note: str = "") -> str:
    """A section with a bar an operator, the most sensitive first, and a table of all; safe HTML.

    Args:
        records: of `Sensitivity.to_record`; their order is kept.
        heading: of the section.
        note: one sentence below the picture, e.g. how many images were used.
    """
    title = f'<h2 id="sensitivity-title">{html.escape(heading)}</h2>'
    if not records:
        body = '<p class="empty">No operator of this network is quantised.</p>'
    else:
        shown = records[:_MOST_ROWS]
        left = len(records) - len(shown)
        more = f" The {left} least sensitive operators are in the table only." if left else ""
        explained = (
            "Signal to noise of each operator's output in decibels, on the float network's values: 20 dB is an error "
            f"of a tenth of the signal, 40 dB of a hundredth. Short bars are sensitive.{more} {note}"
        )
        body = f'{_keys(records)}<div class="sensitivity">{_picture(shown)}</div>'
        body += f'<p class="note">{html.escape(explained.strip())}</p>{_table(records)}'
    return f'<section id="sensitivity" aria-labelledby="sensitivity-title">{title}{body}</section>'


def render_sensitivity_page(records: Records, *, name: str, note: str = "") -> str:
    """A page that holds the section and nothing else, as text; ``name`` is that of the model."""
    fields = {
        "generator": _GENERATOR,
        "title": html.escape(f"{name} · nas sensitivity"),
        "name": html.escape(name),
        "section": sensitivity_section(records, heading="Operators", note=note),
    }
    return fill_page("sensitivity.html", scripts=(), styles=STYLES, fields=fields)


def write_sensitivity_page(records: Records, path: Path, *, name: str, note: str = "") -> None:
    """Writes the page; an earlier one there is replaced whole or not at all.

    Raises:
        UserError: ``path`` is another file, or cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and _GENERATOR not in path.read_text(encoding="utf-8", errors="replace")[:2000]:
            raise UserError("out", f"must not be a file of another kind, {path} is", "give out=<new file>.html")
        draft.write_text(render_sensitivity_page(records, name=name, note=note), encoding="utf-8", errors="replace")
        draft.replace(path)
    except OSError as error:
        raise UserError("out", f"cannot be written, {path}: {error.strerror}", "give out=<file>.html") from error
    finally:
        draft.unlink(missing_ok=True)


def _picture(records: Records) -> str:
    known = [value for record in records if (value := record["sqnr_db"]) is not None]
    scale = max([_LEAST_SCALE_DB, *(10 * -(-value // 10) for value in known)])
    height, width = _TOP + _ROW * len(records) + 4, _NAME_WIDTH + _PLOT_WIDTH + _VALUE_WIDTH
    label = f"Signal to noise of {len(records)} operators, from the most to the least sensitive"
    parts = [f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">']
    for value in range(0, int(scale) + 1, _STEP_DB):
        x = _NAME_WIDTH + _PLOT_WIDTH * value / scale
        kind = "limit" if value == _POOR_DB else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{height}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{_TOP - 10}">{value} dB</text>')
    parts += [_bar(record, number, scale) for number, record in enumerate(records)]
    return "".join([*parts, "</svg>"])


def _bar(record: Mapping[str, Any], number: int, scale: float) -> str:
    value, y = record["sqnr_db"], _TOP + _ROW * number
    length = _PLOT_WIDTH * (1.0 if value is None else min(max(value / scale, 0.0), 1.0))
    name, text = str(record["operator"]), "no noise" if value is None else f"{value:.1f}"
    shown = name if len(name) <= 48 else f"…{name[-47:]}"
    return (
        f'<g class="{_hue(record)}"><title>{html.escape(_sentence(record))}</title>'
        f'<text class="name" x="{_NAME_WIDTH - 8}" y="{y + 13}">{html.escape(shown)}</text>'
        f'<rect class="bar" x="{_NAME_WIDTH}" y="{y + 3}" width="{length:.1f}" height="{_ROW - 6}"/>'
        f'<text class="value" x="{_NAME_WIDTH + length + 6:.1f}" y="{y + 13}">{text}</text></g>'
    )


def _sentence(record: Mapping[str, Any]) -> str:
    value = record["sqnr_db"]
    noise = "without noise" if value is None else f"{value:.1f} dB"
    text = f"{record['operator']} ({record['op_type']}), {record['precision']}, {noise}"
    alone = record["alone"]
    return text if alone is None else f"{text}; with nothing else quantised {alone['agreement']:.1%} of classes stay"


def _keys(records: Records) -> str:
    found = dict.fromkeys(str(record["precision"]) for record in records)
    items = "".join(f'<li class="{_hue({"precision": name})}"><span></span>{html.escape(name)}</li>' for name in found)
    return f'<ul class="sensitivity-keys">{items}</ul>'


def _hue(record: Mapping[str, Any]) -> str:
    """The class that carries the colour of a precision."""
    name = str(record["precision"])
    return f"precision{_PRECISIONS.index(name)}" if name in _PRECISIONS else ""


def _table(records: Records) -> str:
    headings = (
        "operator",
        "type",
        "precision",
        "weights",
        "signal to noise",
        "alone: same class",
        "logits' signal to noise",
        "accuracy lost",
    )
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in headings)
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in _cells(record))}</tr>" for record in records
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    alone = record["alone"] or {}
    agreement, drop = alone.get("agreement"), alone.get("accuracy_drop")
    return (
        str(record["operator"]),
        str(record["op_type"]),
        str(record["precision"]),
        f"{record['num_weights']:,}",
        _decibels(record["sqnr_db"]),
        "" if agreement is None else f"{agreement:.1%}",
        _decibels(alone.get("output_sqnr_db")) if alone else "",
        "" if drop is None else f"{100 * drop:+.2f} points",
    )


def _decibels(value: float | None) -> str:
    return "no noise" if value is None else f"{value:.1f} dB"
