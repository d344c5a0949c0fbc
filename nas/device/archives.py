"""Arrays from ``npz`` files that anybody may have written.

Responsible for looking before unpacking: each array is plain numbers or text, is as long as its header says, and all of
them together stay below a limit. A zip file of a few kilobytes can stand for more than a machine holds.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
import psutil
from numpy.lib import format as npy

LARGEST = 1 << 30
"""Bytes of all arrays of a file, by default."""

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError)


def read_arrays(path: Path, *, largest: int | None = LARGEST) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name. Nothing in it is unpickled.

    Args:
        path: of the file.
        largest: bytes that all arrays may have together; None: what this machine has.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no npz file, is damaged, holds objects, or stands for more than ``largest``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive, psutil.virtual_memory().total if largest is None else largest)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except _BROKEN as error:
        raise ValueError(str(error) or type(error).__name__) from error
    except MemoryError as error:
        raise ValueError("does not fit into memory") from error


def _check(archive: zipfile.ZipFile, largest: int) -> None:
    entries = archive.infolist()
    total = sum(entry.file_size for entry in entries)
    if total > largest:
        raise ValueError(f"stands for {total / 1e6:.0f} MB, more than {largest / 1e6:.0f} MB")
    if len({entry.filename for entry in entries}) < len(entries):
        raise ValueError("holds one name twice")
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        with archive.open(entry) as stream:
            version = npy.read_magic(stream)
            if version not in _READERS:
                raise ValueError(f"{name} is of version {version} of the npy format")
            shape, _, kind = _READERS[version](stream)
            held = entry.file_size - stream.tell()
        if kind.hasobject:
            raise ValueError(f"{name} holds pickled objects")
        if math.prod(shape) * kind.itemsize != held:
            raise ValueError(f"{name} holds {held} bytes, its shape {shape} does not fit")
