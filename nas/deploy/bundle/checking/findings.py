"""What a check of a bundle finds, and the names that all of it agrees on.

Responsible for the value types. Like every module here it needs nothing but Python 3.9 and numpy, because `joined`
makes the script of it that a bundle carries.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

KIND, FORMAT = "nas-bundle", 1


MANIFEST, SCHEMA = "manifest.json", "manifest.schema.json"


class BundleError(Exception):
    """What does not hold, in one line.

    Args:
        where: file or key.
        problem: the rule and what was found.
        advice: what to do; may be empty.
    """

    def __init__(self, where: str, problem: str, advice: str = "copy the bundle again") -> None:
        self.where, self.problem, self.advice = where, problem, advice
        super().__init__(f"{where}: {problem}" + (f"; {advice}" if advice else ""))


@dataclass(frozen=True)
class FileCheck:
    """What came of one model file.

    Attributes:
        path: within the bundle.
        relative_error: largest deviation from the recorded outputs as a share of their range; None: it was not run.
        agreement: share of golden samples with the recorded class; None likewise.
        note: why it was not run; "" if it was.
    """

    path: str
    relative_error: float | None
    agreement: float | None
    note: str

    def __str__(self) -> str:
        if self.relative_error is None:
            return f"{self.path}  checksum holds, not run: {self.note}"
        return f"{self.path}  off by {self.relative_error:.1g} of the range, same class {self.agreement:.0%}"


@dataclass(frozen=True)
class BundleCheck:
    """What came of a bundle that holds.

    Attributes:
        fingerprint: SHA-256 of its manifest, which names the sum of every other file.
        num_contents: files whose sums were compared.
        files: the model files.
        unlisted: files of the folder that the manifest does not name, at most 20.
    """

    fingerprint: str
    num_contents: int
    files: tuple[FileCheck, ...]
    unlisted: tuple[str, ...]


def sha256(path: Path) -> str:
    """Of a file's bytes, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


CHUNK = 1 << 20
