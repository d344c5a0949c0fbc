"""Options of a choice: whether they are distinct, and what they are called.

Responsible for labels. What an option means is the grammar's business.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

_MAX_LABEL = 48
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def fingerprint(raw: object, seen: dict[int, str] | None = None) -> str:
    """Equal for equal templates. ``label`` and ``name`` say nothing about what is meant, and are left out.

    Anchors make a template a graph; ``seen`` keeps the work linear in its size. The template must not hold itself.
    """
    seen = {} if seen is None else seen
    if id(raw) in seen:
        return seen[id(raw)]
    if isinstance(raw, Mapping):
        items = [(str(key), fingerprint(value, seen)) for key, value in raw.items() if key not in ("label", "name")]
        if [key for key, _ in items] == ["value"]:
            return items[0][1]
        text = json.dumps(["mapping", sorted(items)])
    elif isinstance(raw, list | tuple):
        text = json.dumps(["list", [fingerprint(item, seen) for item in raw]])
    else:
        text = json.dumps([type(raw).__name__, str(raw)])
    digest = hashlib.sha256(text.encode("ascii")).hexdigest()
    if isinstance(raw, Mapping | list | tuple):
        seen[id(raw)] = digest
    return digest


def labels_of(raw_options: Sequence[object]) -> tuple[str, ...]:
    """A readable name for each option: its ``label``, its value, its operator, or its operator and parameters.

    Names that come out alike get the option's number behind them; explicit labels are taken as they are.
    """
    explicit = [_explicit(raw) for raw in raw_options]
    short = [given or _short(raw) for given, raw in zip(explicit, raw_options, strict=True)]
    long = [given or _long(raw) for given, raw in zip(explicit, raw_options, strict=True)]
    names = [a if short.count(a) == 1 else b for a, b in zip(short, long, strict=True)]
    taken: set[str] = {given for given in explicit if given}
    labels = []
    for k, (name, given) in enumerate(zip(names, explicit, strict=True)):
        label = name
        while given is None and label in taken:
            label = f"{name}#{k}" if label == name else f"{label}+"
        taken.add(label)
        labels.append(label)
    return tuple(labels)


def path_part(label: str, option: int) -> str:
    """How an option appears in the names of the choices inside it."""
    return label if _PLAIN.fullmatch(label) and "." not in label else f"option{option}"


def scalar_text(value: object) -> str:
    """A plain value as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _explicit(raw: object) -> str | None:
    if isinstance(raw, Mapping) and isinstance(raw.get("label"), str):
        return str(raw["label"])
    return None


def _short(raw: object) -> str:
    if isinstance(raw, Mapping):
        for kind in ("op", "use", "value"):
            if kind in raw and not isinstance(raw[kind], Mapping | list | tuple):
                return _clipped(scalar_text(raw[kind]))
        return next((kind for kind in ("op", "choose", "repeat", "sequence", "cell") if kind in raw), "option")
    if isinstance(raw, list | tuple):
        inner = ",".join("*" if isinstance(item, Mapping | list | tuple) else scalar_text(item) for item in raw[:8])
        return _clipped(f"[{inner}]") if raw else "nothing"
    return _clipped(scalar_text(raw))


def _long(raw: object) -> str:
    if not isinstance(raw, Mapping) or "op" not in raw:
        return _short(raw)
    values = [
        f"{key}={'*' if isinstance(value, Mapping) else _short(value)}"
        for key, value in raw.items()
        if key not in ("op", "name", "label")
    ]
    return _clipped(f"{_short(raw['op'])}({','.join(values)})")


def _clipped(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 3]}..."
