"""One measurement at a time on a machine: two at once would time each other.

Responsible for the lock and for saying who holds it. The system frees it when its holder ends, however that happens.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.device.host import utc_now
from nas.device.where.failures import BoardBusyError

if sys.platform != "win32":
    import fcntl


def lock_path(name: str = "") -> Path:
    """The lock of this machine, or of a phone ``name`` that is attached to it: one for all users."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in name)
    return Path(tempfile.gettempdir()) / f"nas-measuring{'-' + plain if plain else ''}.lock"


@contextmanager
def machine_lock(
    who: str, *, path: Path | None = None, where: str = "this machine", needed: bool = True
) -> Iterator[None]:
    """Holds the lock within. On Windows, which has no such lock, nothing is held.

    Args:
        who: holds it, for the next one's error.
        path: of the lock file; None: this machine's.
        where: the machine, for the error.
        needed: False: go on without it where somebody else holds it.

    Raises:
        BoardBusyError: somebody else holds it; with since when, and who.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = _open(path or lock_path())
    if descriptor is None:
        # Nobody can lock what cannot be opened: a measurement is still better than none, and the anchor watches.
        yield
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if needed:
                raise BoardBusyError(where, f"is busy, {_holder(descriptor)}", "try again when it is free") from None
        else:
            _sign(descriptor, who)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int | None:
    """A descriptor of the lock file; another user's file can often be read and locked, though not be written."""
    ways = (os.O_RDWR, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDONLY)
    for flags in ways:
        try:
            descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError:
            continue
        if flags & os.O_CREAT:
            os.fchmod(descriptor, 0o666)  # so that whoever holds it next can sign it
        return descriptor
    return None


def _sign(descriptor: int, who: str) -> None:
    text = json.dumps({"since": utc_now(), "who": who}).encode()
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)
    except OSError:
        pass  # opened for reading only


def _holder(descriptor: int) -> str:
    try:
        record = json.loads(os.pread(descriptor, 4096, 0))
        return f"{record['who']} has been measuring on it since {record['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "somebody is measuring on it"
