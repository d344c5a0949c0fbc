"""JSON, and the part of JSON Schema that the bundle's schema uses.

Responsible for structure: a manifest that passes can be read without looking again at each type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nas.deploy.bundle.checking.findings import BundleError, first_line

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def parse_json(content: bytes, name: str) -> Any:
    def refuse(number: str) -> None:
        raise ValueError(f"{number} is no JSON number")

    try:
        return json.loads(content.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BundleError(name, f"must be JSON, {first_line(error)}") from error


def violation(value: Any, schema: Mapping[str, Any]) -> tuple[str, str] | None:
    """Where and how ``value`` first breaks a JSON Schema; None where it does not.

    Of JSON Schema 2020-12 it knows what the bundle's schema uses: ``$ref`` to ``$defs``, ``type``, ``const``, ``enum``,
    ``required``, ``properties``, ``additionalProperties``, ``items``, ``minItems``, ``minimum``, ``exclusiveMinimum``,
    ``maximum``, ``minLength`` and ``pattern``.
    """
    return _violation(value, schema, schema, "")


def _violation(value: Any, rule: Any, root: Mapping[str, Any], where: str) -> tuple[str, str] | None:
    while "$ref" in rule:
        rule = root["$defs"][rule["$ref"].rpartition("/")[2]]
    simple = _breaks(value, rule)
    if simple:
        return where or "it", simple
    if isinstance(value, dict):
        known = rule.get("properties", {})
        others = rule.get("additionalProperties", True)
        for key, item in value.items():
            inner = f"{where}.{key}" if where else key
            if key not in known and others is False:
                return inner, "must not be there"
            found = _violation(item, known.get(key, others if isinstance(others, dict) else {}), root, inner)
            if found:
                return found
    if isinstance(value, list) and "items" in rule:
        for index, item in enumerate(value):
            found = _violation(item, rule["items"], root, f"{where}[{index}]")
            if found:
                return found
    return None


def _breaks(value: Any, rule: Mapping[str, Any]) -> str:
    """Which rule about the value itself is broken; "" if none."""
    kinds = rule.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return f"must be of type {' or '.join(kinds)}, got {_shown(value)}"
    if "const" in rule and not (value == rule["const"] and type(value) is type(rule["const"])):
        return f"must be {rule['const']!r}, got {_shown(value)}"
    if "enum" in rule and value not in rule["enum"]:
        return f"must be one of {', '.join(map(str, rule['enum']))}, got {_shown(value)}"
    if isinstance(value, dict):
        missing = [key for key in rule.get("required", []) if key not in value]
        return f"must have {missing[0]!r}" if missing else ""
    if isinstance(value, list):
        return f"must have at least {rule['minItems']} entries" if len(value) < rule.get("minItems", 0) else ""
    if isinstance(value, str):
        fits = re.search(rule.get("pattern", ""), value) and len(value) >= rule.get("minLength", 0)
        return "" if fits else f"must fit {rule.get('pattern', 'a text')}, got {_shown(value)}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, above, high = rule.get("minimum"), rule.get("exclusiveMinimum"), rule.get("maximum")
        if low is not None and value < low:
            return f"must be at least {low}, got {value}"
        if above is not None and value <= above:
            return f"must be above {above}, got {value}"
        return f"must be at most {high}, got {value}" if high is not None and value > high else ""
    return ""


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
