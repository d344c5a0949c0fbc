"""The grammar of values, holes and definitions: what may stand for a parameter, and what is common to all holes.

Responsible for ``{choose: [...]}`` and ``{use: name}`` wherever they stand, and for plain values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from nas.errors import in_file, unknown_name
from nas.space.choice import Condition
from nas.space.draft import MAX_OPTIONS, NAME, Draft, Place, shown
from nas.space.network import Parameter
from nas.space.options import fingerprint, labels_of, path_part
from nas.space.template import Constant, ListValue, Value, ValueHole

OPERATOR = re.compile(r"[A-Za-z_]\w{0,99}(\.[A-Za-z_]\w{0,99}){0,19}", re.ASCII)
_LARGEST = 2**53
_MAX_TEXT = 200

Node = TypeVar("Node")
Reader = Callable[[object, Place], Node]


@dataclass(frozen=True)
class _Definition(Generic[Node]):
    node: Node
    kind: str
    parts: int
    height: int


class Definitions:
    """The ``define`` section: each definition is read where it is first used, and decided once for all its uses."""

    def __init__(self, draft: Draft, raw: object) -> None:
        self._draft = draft
        place = Place(key="define")
        if not isinstance(raw, Mapping):
            raise draft.error(place, f"must be a mapping from names to templates, got {shown(raw)}")
        for name in raw:
            if not isinstance(name, str) or NAME.fullmatch(name) is None:
                raise draft.error(place, f"must have names of letters, digits, '_' and '-' as keys, got {shown(name)}")
        self._raw: dict[str, object] = dict(raw)
        self._read: dict[str, _Definition[object]] = {}
        self._open: list[str] = []

    def use(self, raw: Mapping[object, object], place: Place, kind: str, read: Reader[Node]) -> Node:
        """What ``{use: name}`` stands for. ``kind`` says how ``read`` reads it: ``value`` or ``stage``."""
        draft = self._draft
        name = draft.mapping(raw, place, ["use"], [])["use"]
        where = place.inside(".use")
        if not isinstance(name, str) or name not in self._raw:
            raise unknown_name(in_file(draft.source, where.key), "definition", shown(name).strip("'"), self._raw)
        if place.first:
            rule = f"must be an operator where 'first' sets parameters, got the definition '{name}'"
            raise draft.error(place, rule, "a definition is the same wherever it is used")
        if name in self._open:
            loop = " -> ".join([*self._open[self._open.index(name) :], name])
            raise draft.error(where, f"must not lead back to itself, got {loop}")
        if name not in self._read:
            self._read[name] = self._first_use(name, place, kind, read)
        else:
            known = self._read[name]
            draft.enter(place, parts=known.parts, height=known.height)
        known = self._read[name]
        if known.kind != kind:
            rule = f"must use the definition '{name}' as a {known.kind} everywhere, got it as a {kind}"
            raise draft.error(where, rule, "define it twice under two names")
        return known.node  # type: ignore[return-value]

    def check_all_used(self) -> None:
        """Raises `UserError` for a definition without a use: its choices would say nothing."""
        for name in self._raw:
            if name not in self._read:
                raise self._draft.error(f"define.{name}", "must be used somewhere, got no {use: " + name + "}")

    def _first_use(self, name: str, place: Place, kind: str, read: Reader[Node]) -> _Definition[object]:
        draft = self._draft
        parts, deepest = draft.parts, draft.deepest
        draft.deepest = place.depth
        self._open.append(name)
        inner = Place(key=f"define.{name}", names=(name,), open_name=True, depth=place.depth + 1, edge=place.edge)
        node = read(self._raw[name], inner)
        self._open.pop()
        height = draft.deepest - place.depth
        draft.deepest = max(deepest, draft.deepest)
        return _Definition(node=node, kind=kind, parts=draft.parts - parts, height=height)


@dataclass(frozen=True)
class Hole(Generic[Node]):
    """A hole as it was read: the column of its choice and its options."""

    choice: int
    options: tuple[Node, ...]


def read_hole(raw: Mapping[object, object], place: Place, draft: Draft, read: Reader[Node]) -> Hole[Node]:
    """``{choose: [a, b, ...], name: optional}`` with options as ``read`` reads them."""
    entries = draft.mapping(raw, place, ["choose"], ["name"])
    listed = entries["choose"]
    where = place.inside(".choose")
    if not isinstance(listed, list | tuple):
        raise draft.error(where, f"must be a list of options, got {shown(listed)}")
    if not 1 <= len(listed) <= MAX_OPTIONS:
        raise draft.error(where, f"must have 1 to {MAX_OPTIONS} options, got {len(listed)}")
    options = [option.item() if isinstance(option, np.generic) else option for option in listed]
    bare = [_without_label(option, where.inside(f"[{k}]"), draft) for k, option in enumerate(options)]
    labels = labels_of(options)
    for k, label in enumerate(labels):
        if label in labels[:k]:
            raise draft.error(where.inside(f"[{k}]"), f"must have a label of its own, got {shown(label)} again")
    column, place = draft.reserve(place, draft.name(entries.get("name"), place))
    nodes = []
    for k, (option, label) in enumerate(zip(bare, labels, strict=True)):
        inner = place.inside(f".choose[{k}]", path_part(label, k))
        nodes.append(read(option, replace(inner, condition=Condition(choice=column, when=frozenset({k})))))
    prints = [fingerprint(option) for option in bare]
    for k, text in enumerate(prints):
        if text in prints[:k]:
            twin = prints.index(text)
            raise draft.error(where.inside(f"[{k}]"), f"must differ from the other options, got option {twin} again")
    values = tuple(
        node.value if isinstance(node, Constant) else label for node, label in zip(nodes, labels, strict=True)
    )
    draft.decide(column, values, labels)
    return Hole(column, tuple(nodes))


def _without_label(raw: object, place: Place, draft: Draft) -> object:
    if not isinstance(raw, Mapping) or "label" not in raw:
        return raw
    label = raw["label"]
    if not isinstance(label, str) or not 1 <= len(label) <= 48 or not label.isprintable() or label != label.strip():
        raise draft.error(place.inside(".label"), f"must be printable text of 1 to 48 characters, got {shown(label)}")
    return {key: value for key, value in raw.items() if key != "label"}


def read_value(raw: object, place: Place, draft: Draft, definitions: Definitions) -> Value:
    """A parameter's value: plain, a list, a hole or a definition's name. ``{value: x}`` is x (to hang a label on)."""

    def read(inner: object, at: Place) -> Value:
        return read_value(inner, at, draft, definitions)

    draft.enter(place)
    if isinstance(raw, Mapping):
        if "choose" in raw:
            hole = read_hole(raw, place, draft, read)
            return ValueHole(hole.choice, hole.options)
        if "use" in raw:
            return definitions.use(raw, place, "value", read)
        entries = draft.mapping(raw, place, ["value"], ["choose", "use"]) if "value" in raw else None
        if entries is None:
            rule = f"must be a value, {{choose: [...]}} or {{use: name}}, got {shown(raw)}"
            raise draft.error(place, rule)
        return read(entries["value"], place.inside(".value"))
    if isinstance(raw, list | tuple):
        items = tuple(read(item, place.inside(f"[{k}]", str(k))) for k, item in enumerate(raw))
        constants = tuple(item.value for item in items if isinstance(item, Constant))
        return Constant(constants) if len(constants) == len(items) else ListValue(items)
    return Constant(_plain(raw, place, draft))


def _plain(raw: object, place: Place, draft: Draft) -> Parameter:
    if isinstance(raw, np.generic):
        raw = raw.item()
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, int):
        if abs(raw) > _LARGEST:
            raise draft.error(place, f"must be a whole number up to 2**53, got {shown(raw)}")
        return int(raw)
    if isinstance(raw, float):
        if not math.isfinite(raw):
            raise draft.error(place, f"must be finite, got {raw}")
        return float(raw) + 0.0  # -0.0 and 0.0 are one value
    if isinstance(raw, str):
        if len(raw) > _MAX_TEXT or not raw.isprintable():
            raise draft.error(place, f"must be printable text of at most {_MAX_TEXT} characters, got {shown(raw)}")
        return str(raw)
    raise draft.error(place, f"must be a number, text, true, false, a list or {{choose: [...]}}, got {shown(raw)}")


def constants_of(value: Value) -> Iterator[Parameter]:
    """Everything that a value may become; a list with holes as a tuple of its first options."""
    if isinstance(value, Constant):
        yield value.value
    elif isinstance(value, ValueHole):
        for option in value.options:
            yield from constants_of(option)
    else:
        yield tuple(next(constants_of(item)) for item in value.items)
