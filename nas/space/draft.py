"""What the grammar gathers while it reads a template: choices, their names and conditions, and the limits of size.

Responsible for positions (`Place`) and for the one mutable record of a parse (`Draft`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from nas.errors import UserError, in_file
from nas.space.choice import Choice, Condition, implies
from nas.space.network import Parameter
from nas.space.template import Value

MAX_DEPTH = 40
MAX_PARTS = 20_000
MAX_CHOICES = 2_000
MAX_OPTIONS = 1_000
MAX_TIMES = 200
MAX_CELL_NODES = 12
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in a template the reader is.

    Attributes:
        key: path in the file, for messages: ``network[2].repeat.block``.
        names: parts of the names of choices found here.
        open_name: True where an explicit ``name`` takes the place of the last part, False where it is added.
        condition: under which the place is reached, None where always.
        depth: of nesting.
        first: parameters that the first repetition sets, passed down to its operator.
        edge: True on the edge of a cell.
    """

    key: str
    names: tuple[str, ...] = ()
    open_name: bool = False
    condition: Condition | None = None
    depth: int = 0
    first: Mapping[str, Value] = field(default_factory=dict)
    edge: bool = False

    def inside(self, key: str, name: str | None = None) -> Place:
        """One level deeper: ``key`` is appended to the path as it is, ``name`` becomes a part that may be replaced."""
        return replace(
            self,
            key=f"{self.key}{key}" if self.key else key.lstrip("."),
            names=self.names if name is None else (*self.names, name),
            open_name=name is not None,
            depth=self.depth + 1,
        )

    def named(self, name: str | None) -> Place:
        """The same place with an explicit name, None leaves it as it is."""
        if name is None:
            return self
        kept = self.names[:-1] if self.open_name else self.names
        return replace(self, names=(*kept, name), open_name=False)

    def plain(self) -> Place:
        """The same place without what a repetition sets for its first operator."""
        return replace(self, first={})


@dataclass(kw_only=True)
class Draft:
    """The record of one parse. ``source`` names the file in messages."""

    source: str
    choices: list[Choice] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    parts: int = 0
    deepest: int = 0

    def error(self, place: Place | str, problem: str, advice: str = "") -> UserError:
        """A mistake in the template, with file and key."""
        key = place if isinstance(place, str) else place.key
        return UserError(in_file(self.source, key), problem, advice)

    def enter(self, place: Place, *, parts: int = 1, height: int = 0) -> None:
        """Counts parts of the template. Raises `UserError` where it gets too large or too deep."""
        self.parts += parts
        self.deepest = max(self.deepest, place.depth + height)
        if self.deepest > MAX_DEPTH:
            short = place.key if len(place.key) <= 60 else f"{place.key[:60]}..."
            raise self.error(short, f"must be nested at most {MAX_DEPTH} deep, got more", "flatten it")
        if self.parts > MAX_PARTS:
            raise self.error("", f"must have at most {MAX_PARTS} parts with all repetitions and uses", "repeat less")

    def mapping(self, raw: object, place: Place, required: Iterable[str], optional: Iterable[str]) -> dict[str, object]:
        """``raw`` as a mapping with these keys and no others."""
        required = list(required)
        known = [*required, *optional]
        listed = ", ".join(known)
        if not isinstance(raw, Mapping):
            raise self.error(place, f"must be a mapping with {listed}, got {shown(raw)}")
        for key in raw:
            if key not in known:
                near = nearest(key, known)
                raise self.error(place, f"has no key {shown(key)}", f"{near}Known: {listed}")
        for key in required:
            if key not in raw:
                raise self.error(place, f"must have the key '{key}', got {shown(raw)}")
        return dict(raw)

    def name(self, raw: object, place: Place) -> str | None:
        """An explicit name, None where there is none."""
        if raw is None:
            return None
        if not isinstance(raw, str) or NAME.fullmatch(raw) is None:
            rule = "must be a name of at most 64 letters, digits, '_' and '-' that starts with a letter"
            raise self.error(place.inside(".name"), f"{rule}, got {shown(raw)}")
        return raw

    def reserve(self, place: Place, explicit: str | None) -> tuple[int, Place]:
        """A column for a choice that stands at ``place``; its options are given later with `decide`."""
        place = place.named(explicit)
        if not place.names:
            place = replace(place, names=("network",))
        name = ".".join(place.names)
        if name in self.keys:
            other = self.keys[name]
            raise self.error(place, f"must have a name of its own, but '{name}' is also at {other}", "give it a name")
        if len(self.choices) >= MAX_CHOICES:
            raise self.error(place, f"must not be one of more than {MAX_CHOICES} choices", "repeat less often")
        self.keys[name] = place.key
        condition = place.condition
        self.choices.append(
            Choice(
                name=name,
                options=(),
                labels=(),
                ordered=False,
                parent=None if condition is None else condition.choice,
                when=frozenset() if condition is None else condition.when,
            )
        )
        return len(self.choices) - 1, place

    def decide(self, column: int, options: tuple[Parameter, ...], labels: tuple[str, ...]) -> None:
        """Gives a reserved choice its options."""
        numbers = [option for option in options if isinstance(option, int | float) and not isinstance(option, bool)]
        rising = all(a < b for a, b in pairwise(numbers))
        falling = all(a > b for a, b in pairwise(numbers))
        ordered = len(numbers) == len(options) and (rising or falling)
        self.choices[column] = replace(self.choices[column], options=options, labels=labels, ordered=ordered)

    def under(self, place: Place, more: Condition) -> Place | None:
        """``place`` with a further condition; None where that can never hold there.

        A choice hangs on one other choice only. Where two conditions do not imply each other (a repetition counted by
        a definition, inside an option), the outer one is kept: the choice may then be active without having a say.
        """
        outer = place.condition
        if outer is None or implies(self.choices, more, outer):
            return replace(place, condition=more)
        above: Condition | None = outer
        while above is not None:
            if above.choice == more.choice:
                both = above.when & more.when
                if not both:
                    return None
                return replace(place, condition=replace(outer, when=both)) if above is outer else place
            choice = self.choices[above.choice]
            above = None if choice.parent is None else Condition(choice=choice.parent, when=choice.when)
        return place


def nearest(name: object, known: Iterable[str]) -> str:
    """``did you mean kernel? `` or nothing."""
    near = difflib.get_close_matches(str(name)[:80], list(known), n=1)
    return f"did you mean {near[0]}? " if near else ""


def shown(raw: object) -> str:
    """A user's value on one short line, whatever it is."""
    if isinstance(raw, str):
        text = repr(raw[:60])
    elif isinstance(raw, Mapping):
        text = "a mapping with " + ", ".join(shown(key) for key in list(raw)[:4]) if raw else "an empty mapping"
    elif isinstance(raw, list | tuple):
        text = f"a list of {len(raw)}"
    elif raw is None:
        text = "nothing"
    elif isinstance(raw, int) and not isinstance(raw, bool) and abs(raw) > 10**18:
        text = "a very large number"
    else:
        text = str(raw)
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."
