"""Hardware-aware neural architecture search, from a data set and budgets to verified model files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nas.commands.compress import compress as compress
    from nas.commands.retrain import retrain as retrain
    from nas.commands.search import search as search

__all__ = ["__version__", "compress", "retrain", "search"]


def __getattr__(name: str) -> Any:
    # These need torch and ray; importing `nas` must not.
    if name == "search":
        from nas.commands.search import search

        return search
    if name == "compress":
        from nas.commands.compress import compress

        return compress
    if name == "retrain":
        from nas.commands.retrain import retrain

        return retrain
    raise AttributeError(f"module 'nas' has no attribute {name!r}")
