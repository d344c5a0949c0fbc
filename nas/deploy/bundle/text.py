"""Texts of a bundle from templates, and values as literals of other languages.

Responsible for this: whatever a label or a path holds, it stays a literal in the code that is generated.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from importlib.resources import files

_PLAIN = frozenset(chr(code) for code in range(0x20, 0x7F)) - set('"\\$')


def template(name: str) -> str:
    """The text of a template, e.g. ``cpp/nas_model.hpp``."""
    place = files("nas.deploy.bundle") / "templates"
    for part in name.split("/"):
        place = place / part
    return place.read_text(encoding="utf-8")


def fill(text: str, fields: Mapping[str, str]) -> str:
    """``text`` with its places ``{{name}}`` filled; a name that is no field is a mistake of the template."""
    head, *rest = text.split("{{")
    filled = [head]
    for part in rest:
        name, _, after = part.partition("}}")
        filled += [fields[name], after]
    return "".join(filled)


def cpp_string(value: str) -> str:
    """A C++ string literal of the text's UTF-8 bytes, in octal where they are not plain."""
    return '"' + "".join(_cpp_byte(byte) for byte in value.encode("utf-8", "replace")) + '"'


def _cpp_byte(byte: int) -> str:
    # Three octal digits end by themselves, which hexadecimal ones do not; ? could begin a trigraph.
    return chr(byte) if chr(byte) in _PLAIN - {"?"} or byte == ord("$") else f"\\{byte:03o}"


def kotlin_string(value: str) -> str:
    """A Kotlin string literal; other characters as UTF-16 units."""
    units = value.encode("utf-16-be", "replace")
    pairs = [int.from_bytes(units[place : place + 2], "big") for place in range(0, len(units), 2)]
    return '"' + "".join(chr(unit) if chr(unit) in _PLAIN else f"\\u{unit:04x}" for unit in pairs) + '"'


def swift_string(value: str) -> str:
    """A Swift string literal; other characters as scalars."""
    text = value.encode("utf-8", "replace").decode("utf-8")
    return '"' + "".join(one if one in _PLAIN or one == "$" else f"\\u{{{ord(one):x}}}" for one in text) + '"'


def floats(values: Iterable[float], suffix: str = "") -> str:
    """Literals that give the same float32 again: ``0.5, 0.25``."""
    return ", ".join(f"{_float(value)}{suffix}" for value in values)


def _float(value: float) -> str:
    text = f"{value:.9g}"
    return text if any(mark in text for mark in ".en") else f"{text}.0"


def shell_words(values: Iterable[str]) -> str:
    """Words for a shell, each quoted where it has to be."""
    return " ".join(shlex.quote(value) for value in values)


def comment(value: str) -> str:
    """The text as it can stand in a comment of any of the languages, on one line."""
    line = " ".join("".join(one if one.isprintable() else " " for one in value).split())
    return line.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")


def markdown(value: object) -> str:
    """The text in a cell of a Markdown table."""
    text = " ".join(str(value).split())
    for mark in "\\`*_|<>[]":
        text = text.replace(mark, f"\\{mark}")
    return text
