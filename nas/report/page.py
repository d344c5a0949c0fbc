"""Pages that are one file, need nothing else and work offline.

Responsible for putting the parts together safely: whatever a page carries can neither end the script that carries it,
nor be run, nor fetch anything. The content security policy admits exactly the page's own style and script, by their
hashes, and no connection at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files


def fill_page(template: str, *, scripts: Sequence[str], styles: Sequence[str], fields: Mapping[str, str]) -> str:
    """The page as text.

    Args:
        template: name of an asset with places ``{{field}}``.
        scripts: names of assets, in the order in which they are joined.
        styles: likewise.
        fields: texts for the places of the template, safe where they go; ``policy``, ``style`` and ``script`` are
            added.
    """
    style = "\n".join(_asset(name) for name in styles)
    script = '(() => {\n"use strict";\n' + "\n".join(_asset(name) for name in scripts) + "\n})();\n"
    policy = f"default-src 'none'; style-src '{_hash_source(style)}'; script-src '{_hash_source(script)}'"
    places = {**fields, "policy": policy, "style": style, "script": script}
    head, *rest = _asset(template).split("{{")
    filled = [head]
    for part in rest:
        name, _, text = part.partition("}}")
        filled += [places[name], text]
    return "".join(filled)


def json_for_script(value: object) -> str:
    """``value`` as JSON that can stand in a ``<script>`` element: no character in it can end or comment it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash_source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (files("nas.report") / "assets" / name).read_text(encoding="utf-8").rstrip("\n")
