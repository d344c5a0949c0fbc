"""Hardware-aware neural architecture search, from a data set and budgets to verified model files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nas.commands.search import search as search

__all__ = ["__version__", "search"]


def __getattr__(name: str) -> Any:
    # `nas.search` needs torch and ray; importing `nas` must not.
    if name == "search":
        from nas.commands.search import search

        return search
    raise AttributeError(f"module 'nas' has no attribute {name!r}")
