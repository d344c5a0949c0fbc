"""`nas runs`: listing, comparing, merging and exporting runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.errors import UserError, printable, unknown_name

_USAGE = """\
nas runs: the runs of a folder, side by side, joined, or for other tools

usage
  nas runs [list] [<folder>]                         lists the runs of a folder, runs/ without one
  nas runs compare <run> <run> ... [out=FILE]        fronts on one plot, hypervolumes in one box; writes a page
  nas runs merge <run> <run> ... out=<run folder>    the union of runs in one space on the same data
  nas runs export run=<run> storage=<url>            the history as an Optuna study, e.g. for optuna-dashboard

fields
  out=comparison.html    of compare: the page; out=null writes none. Of merge: the new run folder
  storage=...            of export: e.g. sqlite:///study.db; a path that ends in .log is a journal
  study=...              of export: the study's name; without it the run's

options
  --json     for scripts
  --quiet    only notes
"""
_PAGE = "comparison.html"
_OPTIONS = {"--json": "json", "--quiet": "quiet"}


@dataclass(frozen=True, kw_only=True)
class _Arguments:
    """What was given: plain ones in order, fields, and the name of the display."""

    plain: tuple[str, ...]
    fields: Mapping[str, str]
    shown: str

    def required(self, name: str, example: str) -> str:
        if not self.fields.get(name):
            raise UserError(name, "must be given, got nothing", f"e.g. {example}")
        return self.fields[name]


def run_runs(arguments: list[str]) -> int:
    """Runs `nas runs`. Returns the exit code; raises `UserError` for the user's mistakes."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(_USAGE, end="")
        return 0
    name = arguments[0] if arguments and arguments[0] in _COMMANDS else "list"
    rest = arguments[1:] if arguments and arguments[0] in _COMMANDS else arguments
    run, fields = _COMMANDS[name]
    run(_parsed(f"nas runs {name}" if name != "list" else "nas runs", rest, fields))
    return 0


def _list(given: _Arguments) -> None:
    from nas.commands.runs import list_runs

    if len(given.plain) > 1:
        rule = f"must be given one folder, got {', '.join(given.plain)}"
        raise UserError("nas runs", rule, f"or one of {', '.join(name for name in _COMMANDS if name != 'list')} first")
    folder = Path(given.plain[0]) if given.plain else Path("runs")
    if given.plain and str(folder).isidentifier() and not folder.exists():
        raise unknown_name("nas runs", "folder or command", folder, _COMMANDS)
    table, records = list_runs(folder)
    if given.shown == "json":
        for record in records:
            print(json.dumps(record))
    else:
        print(printable(table))


def _folders(runs: Sequence[str]) -> list[Path]:
    """Run folders as they lie on this machine. Raises `UserError` where there is none at an address."""
    from nas.run.mirror import at_hand

    return [at_hand(run, where="run") for run in runs]


def _compare(given: _Arguments) -> None:
    from nas.cli.display import display_named
    from nas.commands.runs import compare

    out = given.fields.get("out", _PAGE)
    page = None if out == "null" else Path(out)
    compare(_folders(given.plain), out=page, display=display_named(given.shown))


def _merge(given: _Arguments) -> None:
    from nas.cli.display import display_named
    from nas.commands.runs import merge

    out = Path(given.required("out", "out=runs/merged"))
    merge(_folders(given.plain), out, display=display_named(given.shown))


def _export(given: _Arguments) -> None:
    from nas.cli.display import display_named
    from nas.commands.runs import export

    runs = [*given.plain, *([given.fields["run"]] if given.fields.get("run") else [])]
    if len(runs) != 1:
        raise UserError("run", f"must name one run folder, got {', '.join(runs) or 'nothing'}", "e.g. run=runs/<name>")
    storage = given.required("storage", "storage=sqlite:///study.db")
    export(_folders(runs)[0], storage, study=given.fields.get("study") or None, display=display_named(given.shown))


_COMMANDS: dict[str, tuple[Callable[[_Arguments], None], tuple[str, ...]]] = {
    "list": (_list, ()),
    "compare": (_compare, ("out",)),
    "merge": (_merge, ("out",)),
    "export": (_export, ("run", "storage", "study")),
}


def _parsed(command: str, arguments: Sequence[str], known: Sequence[str]) -> _Arguments:
    plain: list[str] = []
    fields: dict[str, str] = {}
    shown = "auto"
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument in _OPTIONS:
            shown = _OPTIONS[argument]
        elif argument.startswith("-"):
            raise unknown_name(command, "option", argument, [*_OPTIONS, "--help"])
        elif equals and name in known:
            fields[name] = value
        elif equals and name.isidentifier() and not Path(argument).exists():
            raise unknown_name(command, "field", name, known)
        else:
            plain.append(argument)
    return _Arguments(plain=tuple(plain), fields=fields, shown=shown)
