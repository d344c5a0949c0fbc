"""Errors that a user of the library can act on.

Responsible for the one exception type that the border (command line, notebook) turns into a single line.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from pathlib import Path

_LONGEST = 300
_LONGEST_LINE = 4000  # a field that is not known lists those that are
# Control characters, those of format (directions of writing among them), surrogates, ends of lines and paragraphs.
_ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")


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


def printable(text: str) -> str:
    """Text from elsewhere as it may go to a terminal: what would move a cursor, colour, hide or reorder is spelt out.

    Newlines and tabs stay. All other control characters, those that turn the direction of writing, and lone surrogates
    become ``\\x1b`` and the like.
    """
    return "".join(map(_shown, text)) if any(map(_acts, text)) else text


def printable_line(text: str) -> str:
    """`printable` text as one line, of at most 4,000 characters."""
    line = printable(" ".join(part.strip() for part in text.splitlines()))
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"


def _acts(character: str) -> bool:
    return character not in "\n\t" and unicodedata.category(character) in _ACTING


def _shown(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii") if _acts(character) else character


def first_line(error: BaseException | str) -> str:
    """The first line of an error's text that says something, at most 300 characters; its type's name if none does."""
    nothing = type(error).__name__ if isinstance(error, BaseException) else ""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), nothing)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def one_line(error: BaseException) -> str:
    """``RuntimeError: the first line of it``, at most 300 characters: for errors that are not the user's."""
    kind, text = type(error).__name__, first_line(error)
    whole = kind if text == kind else f"{kind}: {text}"
    return whole if len(whole) <= _LONGEST else whole[: _LONGEST - 1] + "…"
