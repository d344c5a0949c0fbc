"""The report: what a run's records say, written as one page into the run folder.

Responsible for the parts of the page; how they are put together safely is up to `nas.report.page`.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.report.page import fill_page, json_for_script
from nas.report.payload import build_payload
from nas.report.records import first_device, read_run
from nas.report.table import front_table

# In the order in which they are joined; the last one draws the page with what the others define.
SCRIPTS = (
    "format.js",
    "dom.js",
    "chart.js",
    "file.js",
    "picker.js",
    "ladder.js",
    "front.js",
    "models.js",
    "sensitivity.js",
    "devices.js",
    "latency.js",
    "history.js",
    "workers.js",
    "audit.js",
    "causes.js",
    "trade.js",
    "space.js",
    "about.js",
    "main.js",
)
STYLES = (
    "page.css",
    "blocks.css",
    "picker.css",
    "plots.css",
    "tables.css",
    "sensitivity.css",
    "audit.css",
    "print.css",
)


def write_report(folder: Path) -> Path:
    """Writes ``report.html`` into the run folder, from the files in it, and gives its path.

    The file is self-contained and works offline. It is written beside its place and moved there, so an earlier
    report is replaced whole or not at all.

    Raises:
        UserError: ``folder`` is no run folder.
    """
    records = read_run(Path(folder))
    payload = build_payload(records)
    device = first_device(records.manifest)
    confidence = next((budget["confidence"] for budget in payload["budgets"] if budget["confidence"]), None)
    estimated = [entry["name"] for entry in payload["devices"] if entry["estimated"]]
    table = front_table(records.front, device=device, width=160, confidence=confidence, estimated=estimated)
    page = render_page(payload, table=table)
    path = Path(folder) / "report.html"
    draft = path.with_name(".report.html.part")
    # Lone surrogates, from names of files that are no text, have no place in UTF-8.
    draft.write_text(page, encoding="utf-8", errors="replace")
    os.replace(draft, path)
    return path


def render_page(payload: Mapping[str, Any], *, table: str) -> str:
    """The page for a payload of `nas.report.payload.build_payload`; ``table`` is shown where scripts are off."""
    fields = {
        "title": html.escape(f"{payload['name']} · nas report"),
        "table": html.escape(table),
        "payload": json_for_script(payload),
    }
    return fill_page("template.html", scripts=SCRIPTS, styles=STYLES, fields=fields)
