"""`nas profile`: arguments -> settings -> the command."""

from __future__ import annotations

import shutil
from pathlib import Path

from nas.errors import UserError, unknown_name

_USAGE = """\
nas profile: where the time of a model file goes, operator by operator

usage: nas profile <file.onnx | model folder> [field=value ...]

fields
  device=this-machine   the device card to use: threads and batch. It must be this machine
  precision=int8        of a model folder, only the file of this precision; without it, all of its files
  out=profile.html      the page to write, self-contained; out=null writes none

options
  --json     the profile as JSON, one object a line
  --quiet    only the page and notes

examples
  nas profile model.onnx
  nas profile runs/2026-11-23-digits/models/99342b0ee19fd36a
  nas profile runs/2026-11-23-digits/models/99342b0ee19fd36a precision=int8 out=int8.html

Shares come from onnxruntime's profiler, with the price of recording taken off; the total is the latency without it.
"""
_FIELDS = ("device", "precision", "out")
_OPTIONS = {"--json": "json", "--quiet": "quiet"}
_LOG_WIDTH = 120


def run_profile(arguments: list[str]) -> int:
    """Runs `nas profile`. Returns the exit code; raises `UserError` for the user's mistakes."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(_USAGE, end="")
        return 0
    target, fields, shown = _parsed(arguments)
    # Imported late: `--help` must not wait for onnxruntime.
    from nas.cli.display import display_named
    from nas.commands.profile import PAGE, ProfileSettings, profile

    out = fields.get("out", PAGE)
    settings = ProfileSettings(
        target=Path(target),
        device=fields.get("device", "this-machine"),
        precision=fields.get("precision"),
        out=None if out == "null" else Path(out),
        width=shutil.get_terminal_size((_LOG_WIDTH, 24)).columns,
    )
    profile(settings, display=display_named(shown))
    return 0


def _parsed(arguments: list[str]) -> tuple[str, dict[str, str], str]:
    """The target, the fields, and the name of the display."""
    targets: list[str] = []
    fields: dict[str, str] = {}
    shown = "auto"
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument in _OPTIONS:
            shown = _OPTIONS[argument]
        elif argument.startswith("-"):
            raise unknown_name("nas profile", "option", argument, [*_OPTIONS, "--help"])
        elif name in _FIELDS and equals:
            if not value:
                raise UserError(name, "must have a value, got nothing", f"give {name}=..., or leave it out")
            fields[name] = value
        elif equals and name.isidentifier() and not Path(argument).exists():
            raise unknown_name("nas profile", "field", name, _FIELDS)
        else:
            targets.append(argument)
    if len(targets) != 1:
        got = ", ".join(targets) or "nothing"
        raise UserError("nas profile", f"must be given one file or model folder, got {got}", "nas profile model.onnx")
    return targets[0], fields, shown
