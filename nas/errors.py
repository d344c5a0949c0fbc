"""Errors that a user of the library can act on.

Responsible for the one exception type that the border (command line, notebook) turns into a single line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(ValueError):
    """A mistake in what the user gave, told in one line: where, the rule, the value, what to do.

    Args:
        where: the field, file or key at fault, e.g. ``budget.latency`` or ``photos/cat/017.png``.
        problem: the rule that is broken and the value that breaks it, e.g. ``must be a time, got '12 MB'``.
        advice: what to do about it; may be empty.
    """

    def __init__(self, where: str, problem: str, advice: str = "") -> None:
        self.where = where
        self.problem = problem
        self.advice = advice
        super().__init__(f"{where}: {problem}" + (f"; {advice}" if advice else ""))

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str, str]]:
        return type(self), (self.where, self.problem, self.advice)


def unknown_name(where: str, kind: str, name: object, known: Iterable[str], *, also: str = "") -> UserError:
    """The error for a name that nothing answers to: suggests the nearest and lists what is known.

    Args:
        where: the field that holds the name.
        kind: what the name should have named (``space``, ``device``, ``field``).
        name: what was given.
        known: the names that would have been accepted.
        also: another accepted form, e.g. ``or a path to a YAML file``.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    listed = ", ".join(names) or "none"
    return UserError(where, f"no {kind} named '{name}'", f"{hint}Known: {listed}{', ' + also if also else ''}")


def in_file(path: Path | str, key: str) -> str:
    """``where`` for a key in a file: ``search_spaces/a.yaml: network[2].kernel``."""
    return f"{path}: {key}" if key else str(path)
