"""The page itself: payload, styles and scripts in one file that needs nothing else.

Responsible for putting the parts together safely: whatever a run's files hold can neither end the script that
carries it, nor be run, nor fetch anything. The content security policy admits exactly the page's own style and
script, by their hashes, and no connection at all.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

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
    "devices.js",
    "latency.js",
    "history.js",
    "audit.js",
    "causes.js",
    "trade.js",
    "space.js",
    "about.js",
    "main.js",
)
STYLES = ("page.css", "blocks.css", "picker.css", "plots.css", "tables.css", "audit.css", "print.css")


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
    style = "\n".join(_asset(name) for name in STYLES)
    script = '(() => {\n"use strict";\n' + "\n".join(_asset(name) for name in SCRIPTS) + "\n})();\n"
    fields = {
        "policy": f"default-src 'none'; style-src '{_hash_source(style)}'; script-src '{_hash_source(script)}'",
        "title": html.escape(f"{payload['name']} · nas report"),
        "style": style,
        "table": html.escape(table),
        "payload": json_for_script(payload),
        "script": script,
    }
    parts = _asset("template.html")
    head, *rest = parts.split("{{")
    filled = [head]
    for part in rest:
        name, _, text = part.partition("}}")
        filled += [fields[name], text]
    return "".join(filled)


def json_for_script(value: object) -> str:
    """``value`` as JSON that can stand in a ``<script>`` element: no character in it can end or comment it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash_source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (files("nas.report") / "assets" / name).read_text(encoding="utf-8").rstrip("\n")
