"""Packages that single callbacks need beside what `nas` needs, and one line where one is missing."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

from nas.errors import UserError, first_line


def check_package(callback: str, package: str) -> None:
    """Raises `UserError` with the line that installs ``package``, where it is not installed."""
    if find_spec(package) is None:
        raise UserError(f"callbacks.{callback}", f"{package} is not installed", f"pip install {package}")


def load(callback: str, package: str, module: str) -> Any:
    """A module of ``package``, imported now: no search waits for it that does not ask for it.

    Raises:
        UserError: it is missing or cannot be imported.
    """
    check_package(callback, package)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        problem = f"{module} cannot be imported: {first_line(error)}"
        raise UserError(f"callbacks.{callback}", problem, f"pip install --upgrade {package}") from error
