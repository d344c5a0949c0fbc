"""The page of a profile: one file that needs nothing else and works offline.

Responsible for what the page is told, and for putting it together under the same rule as the report: nothing that a
model file holds can be run or fetch anything, as the content security policy admits exactly the page's own style and
script, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from nas.deploy.profiling.records import FileProfile
from nas.device.card import Device
from nas.errors import UserError
from nas.report.profile_table import profile_table
from nas.report.write import json_for_script

# In the order in which they are joined; the last one draws the page with what the others define.
SCRIPTS = ("format.js", "dom.js", "chart.js", "profile_parts.js", "profile_strip.js", "profile_rates.js", "profile.js")
STYLES = ("page.css", "blocks.css", "plots.css", "tables.css", "profile.css", "print.css")
_GENERATOR = '<meta name="generator" content="nas profile">'
_TABLE_WIDTH = 160


@dataclass(frozen=True, kw_only=True)
class StageNote:
    """What is known about a stage beside its times.

    Attributes:
        stage: its name in the profile.
        text: what the architecture says, e.g. ``kernel 3, expansion 6``.
        slot: of the search space that it stands in; "" where not known.
    """

    stage: str
    text: str
    slot: str = ""


@dataclass(frozen=True, kw_only=True)
class ProfilePage:
    """What a page shows.

    Attributes:
        name: of the model or file.
        device: with its peak rates, which draw the roofline.
        profiles: at least one; all of one model.
        notes: on stages.
        precisions: file name -> precision, where known.
    """

    name: str
    device: Device
    profiles: Sequence[FileProfile]
    notes: Sequence[StageNote] = ()
    precisions: Mapping[str, str] = field(default_factory=dict)


def write_profile_page(page: ProfilePage, path: Path) -> None:
    """Writes the page to ``path``; an earlier profile there is replaced whole or not at all.

    Raises:
        UserError: ``path`` is another file, or cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and _GENERATOR not in path.read_text(encoding="utf-8", errors="replace")[:2000]:
            raise UserError("out", f"must not be a file of another kind, {path} is", "give out=<new file>.html")
        draft.write_text(render_profile_page(page), encoding="utf-8", errors="replace")
        draft.replace(path)
    except OSError as error:
        raise UserError("out", f"cannot be written, {path}: {error.strerror}", "give out=<file>.html") from error
    finally:
        draft.unlink(missing_ok=True)


def render_profile_page(page: ProfilePage) -> str:
    """The page as text."""
    style = "\n".join(_asset(name) for name in STYLES)
    script = '(() => {\n"use strict";\n' + "\n".join(_asset(name) for name in SCRIPTS) + "\n})();\n"
    notes = {note.stage: note.text for note in page.notes}
    tables = [profile_table(profile, notes=notes, width=_TABLE_WIDTH) for profile in page.profiles]
    fields = {
        "generator": _GENERATOR,
        "policy": f"default-src 'none'; style-src '{_hash_source(style)}'; script-src '{_hash_source(script)}'",
        "title": html.escape(f"{page.name} · nas profile"),
        "style": style,
        "table": html.escape("\n\n".join(tables)),
        "payload": json_for_script(profile_payload(page)),
        "script": script,
    }
    head, *rest = _asset("profile.html").split("{{")
    filled = [head]
    for part in rest:
        name, _, text = part.partition("}}")
        filled += [fields[name], text]
    return "".join(filled)


def profile_payload(page: ProfilePage) -> dict[str, object]:
    """What the page's script draws, as plain JSON."""
    device = page.device
    return {
        "name": page.name,
        "device": {
            "name": device.name,
            "description": device.description,
            "runtime": device.runtime,
            "threads": device.threads,
            "batch": device.batch,
            "peaks": {
                name: {"per_second": peak.per_second, "source": peak.source} for name, peak in device.peaks.items()
            },
        },
        "notes": {note.stage: {"text": note.text, "slot": note.slot} for note in page.notes},
        "profiles": [
            {"precision": page.precisions.get(profile.file.name, ""), **profile.to_record()}
            for profile in page.profiles
        ],
    }


def _hash_source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (files("nas.report") / "assets" / name).read_text(encoding="utf-8").rstrip("\n")
