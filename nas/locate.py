"""Where the data folders are: `conf`, `search_spaces` and `latency_models`, in a checkout and in an install.

Responsible for nothing else; a user's own folders are put before these by the callers.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource_folder(name: str) -> Path:
    """The shipped folder ``name``: inside the installed package, or beside it in a checkout."""
    installed = _PACKAGE / "_resources" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name
