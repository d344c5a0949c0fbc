"""Optional runtimes: whether they are installed in a version that was tested, and how to get them.

Responsible for one clear line where one is missing. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nas.errors import UserError, first_line

_RELEASE = re.compile(r"\d+(?:\.\d+)*")


@dataclass(frozen=True, kw_only=True)
class Extra:
    """Packages that a target needs beside what `nas` needs.

    Attributes:
        name: of the pip extra: ``pip install 'nas[<name>]'``.
        pins: distribution -> (lowest version that was tested, first version that was not), e.g. ``("2.7", "3")``.
    """

    name: str
    pins: Mapping[str, tuple[str, str]]

    @property
    def command(self) -> str:
        """The line that installs it."""
        return f"pip install 'nas[{self.name}]'"

    def missing(self) -> str:
        """Empty where all packages are there in a tested version; else one line with what to do."""
        for package, (least, below) in self.pins.items():
            try:
                found = version(package)
            except PackageNotFoundError:
                return f"{package} is not installed; {self.command}"
            if not _release(least) <= _release(found) < _release(below):
                return f"{package} must be at least {least} and below {below}, {found} is installed; {self.command}"
        return ""

    def check(self, target: str) -> None:
        """Raises `UserError` with the line of `missing`."""
        problem, _, advice = self.missing().partition("; ")
        if problem:
            raise UserError(f"target {target}", problem, advice)

    def load(self, module: str, *, target: str) -> Any:
        """The module of one of the packages, imported now.

        Raises:
            UserError: a package is missing or of another version, or cannot be imported.
        """
        self.check(target)
        try:
            return importlib.import_module(module)
        except ImportError as error:
            raise UserError(
                f"target {target}", f"{module} cannot be imported, {first_line(error)}", self.command
            ) from error

    def versions(self) -> dict[str, str]:
        """Distribution -> installed version; "" where it is missing."""
        found = {}
        for package in self.pins:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = ""
        return found


def _release(text: str) -> tuple[int, ...]:
    """``2026.4.1-2039`` -> (2026, 4, 1); pre-releases count as their release."""
    match = _RELEASE.match(text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()
