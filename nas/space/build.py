"""Writing templates in Python: the same plain mappings that YAML gives, with less punctuation.

Responsible for nothing but spelling; ``SearchSpace.from_template`` reads the result.
"""

from __future__ import annotations


def choose(*options: object, name: str | None = None) -> dict[str, object]:
    """``{choose: [...]}``: a hole with these options, e.g. ``choose(3, 5, name="kernel")``."""
    hole: dict[str, object] = {"choose": list(options)}
    return hole if name is None else hole | {"name": name}


def use(name: str) -> dict[str, object]:
    """``{use: name}``: what the template's ``define`` section calls ``name``, decided once for all its uses."""
    return {"use": name}
