"""A bundle's folder as one zip file.

Responsible for equal bytes: the same files give the same archive, whenever and by whomever it is written.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that the format knows
_FILE, _SCRIPT = 0o100644, 0o100755
_LEVEL = 6


def write_zip(folder: Path, path: Path) -> None:
    """Writes the folder's files into a zip file, below one folder of the same name; replaces it in one step."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
            for file in sorted((file for file in folder.rglob("*") if file.is_file()), key=lambda one: one.as_posix()):
                entry = zipfile.ZipInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}", date_time=_DATE)
                entry.create_system = 3  # as on Unix, on any system
                entry.external_attr = (_SCRIPT if os.access(file, os.X_OK) else _FILE) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes(), compresslevel=_LEVEL)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
