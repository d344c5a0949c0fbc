"""`nas verify`: bundles and model folders held against their checksums and golden outputs.

Responsible for what is printed, and for going on to the next one where one does not hold. A bundle is checked without
torch, so that it can be wherever numpy and a runtime are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.errors import UserError, printable, printable_line, unknown_name

_USAGE = "nas verify [--quiet | --json] [--allow PACKAGE] <bundle folder | bundle.zip | run folder | model folder> ..."
_HELP = f"""\
usage: {_USAGE}

Checks that nothing was changed (checksums, schema), and that each file whose runtime is installed here still gives the
golden outputs. A run folder stands for all of its model folders. Nothing in a bundle or a folder is executed.
  --quiet          only what does not hold
  --json           an object a line, for scripts
  --allow PACKAGE  that custom operators of model folders may come from; several times for several
Exit code 0: all of it holds; 2: something does not, one line each on standard error.
"""
_HOLDS, _BROKEN = 0, 2


@dataclass(frozen=True, kw_only=True)
class _Verified:
    """What came of a bundle or a model folder that holds."""

    text: str
    record: dict[str, Any]


def run_verify(arguments: list[str]) -> int:
    """Runs `nas verify`.

    Returns:
        The exit code: 0 where all that was named holds, 2 where something does not; that is told in a line each.

    Raises:
        UserError: nothing to check, or an option that is not known.
    """
    if {"-h", "--help"} & set(arguments):
        print(_HELP, end="")
        return _HOLDS
    options, places, allow = _parsed(arguments)
    if not places:
        raise UserError("nas verify", "must be given a bundle or a folder, got nothing", _USAGE)
    code = _HOLDS
    for place in places:
        try:
            for found in _verified(Path(place), allow):
                if "--json" in options:
                    print(json.dumps({"event": "verified", **found.record}), flush=True)
                elif "--quiet" not in options:
                    print(printable(found.text), flush=True)
        except UserError as error:
            code = _BROKEN
            head = "" if str(error).startswith(place) else f"{place}: "
            print(f"error: {printable_line(head + str(error))}", file=sys.stderr, flush=True)
    return code


def _parsed(arguments: Sequence[str]) -> tuple[set[str], list[str], list[str]]:
    """Options, places to check, and packages to allow."""
    options: set[str] = set()
    places: list[str] = []
    allow: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument in ("--quiet", "--json"):
            options.add(argument)
        elif argument == "--allow":
            if not rest:
                raise UserError("--allow", "must be followed by a package, got nothing", "e.g. --allow mine")
            allow.append(rest.pop(0))
        elif argument.startswith("-"):
            raise unknown_name("nas verify", "option", argument, ("--help", "--quiet", "--json", "--allow"))
        else:
            places.append(argument)
    return options, places, allow


def _verified(place: Path, allow: Sequence[str]) -> Iterator[_Verified]:
    from nas.deploy.bundle.verify import is_bundle

    if is_bundle(place):
        yield _bundle(place)
    else:
        yield from _models(place, allow)


def _bundle(place: Path) -> _Verified:
    from nas.deploy.bundle.checking.check import lines_of
    from nas.deploy.bundle.verify import verify_bundle

    found = verify_bundle(place)
    record = {"kind": "bundle", "path": str(place), **asdict(found)}
    return _Verified(text="\n".join(lines_of(found, place)), record=record)


def _models(place: Path, allow: Sequence[str]) -> Iterator[_Verified]:
    from nas.deploy.load import verify_model_folder

    if not place.is_dir():
        what = "is a file" if place.exists() else "there is no such folder or file"
        raise UserError(str(place), f"must be a bundle, a run folder or a model folder, {what}", _USAGE)
    if allow and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # an installed `nas` does not look here by itself
    # A folder with a dot in front is one that was being written when its worker died.
    folders = sorted((place / "models").glob("[!.]*/")) if (place / "models").is_dir() else [place]
    if not folders:
        raise UserError(str(place), "holds no models", "finish the search first")
    for folder in folders:
        checks = verify_model_folder(folder, allow=allow)
        record = {"kind": "model", "path": str(folder), "files": [asdict(check) for check in checks]}
        yield _Verified(text=f"ok  {folder}  {', '.join(str(check) for check in checks)}", record=record)
