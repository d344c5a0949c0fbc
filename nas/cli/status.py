"""`nas status`: how a run is, from another shell."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from nas.errors import UserError, printable, unknown_name

_USAGE = """\
nas status: how a run is, from its files: it disturbs no search, and also tells of finished, stopped and killed ones

usage: nas status [<run folder>] [field=value ...]      without a folder: the latest run in runs/

fields
  watch=false    true, or --watch: again and again, until the run ends
  interval=2     seconds between two looks

options
  --json     one JSON object, with --watch one a line

It tells how far the search is, the rate and the time left, what runs where and its last sign of life, how busy the
workers are, the best so far, and failures by reason with the log of one of each.
"""
_FIELDS = ("watch", "interval")
_SWITCHES = {"--watch": ("watch", "true"), "--json": ("json", "true")}
_TRUTHS = {"true": True, "false": False}


def run_status(arguments: list[str]) -> int:
    """Runs `nas status`. Returns the exit code; raises `UserError` for the user's mistakes."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(_USAGE, end="")
        return 0
    folders, fields = _parsed(arguments)
    # Imported late: `--help` needs none of it.
    from nas.commands.status import latest_run, status, status_record, status_text

    folder = _here(folders[0]) if folders else latest_run()
    watch, interval = _truth(fields), _interval(fields)
    clear = "\x1b[H\x1b[J" if watch and "json" not in fields and sys.stdout.isatty() else ""
    last = ""
    while True:
        run = status(folder)
        text = json.dumps(status_record(run)) if "json" in fields else printable(status_text(run))
        if clear or text != last:
            print(clear + text, flush=True)
        last = text
        if not watch or not run.alive:
            return 0
        time.sleep(interval)


def _here(given: str) -> Path:
    """The folder in which a search of this machine writes what it then copies to an address; a path as it is."""
    from nas.run.mirror import working_copy
    from nas.train.storage import is_address

    return working_copy(given) if is_address(given) else Path(given)


def _parsed(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    folders: list[str] = []
    fields: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument in _SWITCHES:
            fields.update([_SWITCHES[argument]])
        elif argument.startswith("-"):
            raise unknown_name("nas status", "option", argument, [*_SWITCHES, "--help"])
        elif equals and name in _FIELDS:
            fields[name] = value
        elif equals and name.isidentifier() and not Path(argument).exists():
            raise unknown_name("nas status", "field", name, _FIELDS)
        else:
            folders.append(argument)
    if len(folders) > 1:
        raise UserError("nas status", f"must be given one run folder, got {', '.join(folders)}", "nas runs lists them")
    return folders, fields


def _truth(fields: dict[str, str]) -> bool:
    value = fields.get("watch", "false").lower()
    if value not in _TRUTHS:
        raise UserError("watch", f"must be true or false, got '{fields['watch']}'")
    return _TRUTHS[value]


def _interval(fields: dict[str, str]) -> float:
    text = fields.get("interval", "2")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise UserError("interval", f"must be seconds between 0.1 and 3600, got '{text}'")
    return seconds
