"""Files that are there as a whole or as they were before, also after a crash."""

from __future__ import annotations

import os
from pathlib import Path

from nas.errors import UserError


def write_atomically(path: Path, text: str) -> None:
    """Writes ``text`` as UTF-8 into ``path``, replacing what was there at once; returns when it is on the disk.

    Raises:
        UserError: the file could not be written; the earlier one is untouched.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(
            str(path), f"cannot be written: {error.strerror or error}", "make room or give permission"
        ) from error
