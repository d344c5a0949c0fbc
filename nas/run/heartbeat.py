"""``status.json``: what the driver of a run tells, at most once a second, for whoever asks from another process.

Responsible for the file, and for the question whether the one who wrote it still lives. It needs standard modules only.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import one_line

STATUS = "status.json"
FORMAT = 1


def write_status(folder: Path, record: Mapping[str, Any]) -> None:
    """Replaces ``status.json`` as a whole. It is not forced onto the disk: what counts is in the history.

    Raises:
        OSError: it cannot be written; the earlier one is untouched.
    """
    path = folder / STATUS
    partial = path.with_name(f".{STATUS}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(record), encoding="utf-8")
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def this_driver() -> dict[str, object]:
    """What a later reader on this host finds out by whether this process lives."""
    return {"process": os.getpid(), "host": socket.gethostname(), "boot": _boot(), "born": _birth(os.getpid())}


def plain_text(path: Path) -> str:
    """What a plain file holds; from a pipe or a device one would wait for ever. Raises `OSError`, `ValueError`."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path.name} is no plain file")
    return path.read_text(encoding="utf-8")


def read_told(folder: Path, notes: list[str]) -> dict[str, Any]:
    """What the driver told last; {} where it told nothing that can be read, with a note on why."""
    try:
        told = json.loads(plain_text(folder / STATUS))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{STATUS} cannot be read: {one_line(error)}")
        return {}
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        notes.append(f"{STATUS} is not one of this version of nas and is passed over")
        return {}
    return told


def driver_lives(told: Mapping[str, Any]) -> bool | None:
    """Whether the process that told this is there; None where it cannot be seen from here."""
    here = this_driver()
    if (told.get("host"), told.get("boot")) != (here["host"], here["boot"]) or not here["boot"]:
        return None
    process = told.get("process")
    if type(process) is not int or process <= 0:
        return None
    # A process that was given the number later is another one.
    return bool(told.get("born")) and _birth(process) == told.get("born")


def _birth(process: int) -> str:
    """When a process began, in the kernel's ticks; "" where there is none, or only what is left of it."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = text.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def _boot() -> str:
    """Names the present start of this machine's kernel; "" where there is no such name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
