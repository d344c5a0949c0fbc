"""The page of a profile: one file that needs nothing else and works offline.

Responsible for what the page is told; it is put together like the report, by `nas.report.page`.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas.deploy.profiling.records import FileProfile
from nas.device.card import Device
from nas.errors import UserError
from nas.report.page import fill_page, json_for_script
from nas.report.profile_table import profile_table

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
    notes = {note.stage: note.text for note in page.notes}
    tables = [profile_table(profile, notes=notes, width=_TABLE_WIDTH) for profile in page.profiles]
    fields = {
        "generator": _GENERATOR,
        "title": html.escape(f"{page.name} · nas profile"),
        "table": html.escape("\n\n".join(tables)),
        "payload": json_for_script(profile_payload(page)),
    }
    return fill_page("profile.html", scripts=SCRIPTS, styles=STYLES, fields=fields)


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
