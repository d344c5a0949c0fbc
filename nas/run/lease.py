"""``.lease``: who writes a run folder, for drivers on other machines that share it.

A lock of the kernel (`nas.run.folder`) keeps out other processes of this machine, and is gone with its holder. Not
every shared file system passes such locks on to other machines. So the holder also renews a small file. Whoever finds
one of another machine watches it: if it changes, the other one is at work; if it does not for three intervals, its
writer is gone. No clock is compared with another one, and none that can be set is used.

Should a holder have been asleep for that long, it finds the lease taken when it wakes: `check_holder`, which is asked
before each line of the history, refuses to write.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.run.heartbeat import driver_lives, this_driver

LEASE = ".lease"
_TRIES = 20  # others may come and go at the same moment


@dataclass(frozen=True, kw_only=True)
class LeaseTimes:
    """Seconds between renewals, how many of them a silent holder is watched for, and how long a take-over settles."""

    renew: float = 10.0
    missed: int = 3
    settle: float = 2.0


@contextlib.contextmanager
def leased(
    folder: Path, *, times: LeaseTimes | None = None, tell: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Holds the lease of a run folder.

    Args:
        folder: which exists.
        times: for tests.
        tell: is told where another machine's lease has to be watched.

    Raises:
        UserError: another driver writes there, or the lease cannot be written.
    """
    times = times or LeaseTimes()
    path = folder / LEASE
    mine = {**this_driver(), "token": secrets.token_hex(8), "beat": 0}
    try:
        _take(path, mine, times, tell)
    except OSError as error:
        raise UserError(str(path), f"cannot be written: {error.strerror or error}") from error
    ending = threading.Event()
    renewal = threading.Thread(target=_renew, args=(path, mine, times.renew, ending), name="nas-lease", daemon=True)
    renewal.start()
    try:
        yield
    finally:
        ending.set()
        renewal.join(5.0)
        with contextlib.suppress(OSError):
            if _read(path).get("token") == mine["token"]:
                path.unlink()


def check_holder(folder: Path, driver: Mapping[str, object]) -> None:
    """Refuses to write where another driver has taken the run folder over meanwhile.

    Args:
        folder: of the run.
        driver: `nas.run.heartbeat.this_driver`, asked for once.

    Raises:
        UserError: the lease is another driver's. Without a lease there is nothing to refuse.
    """
    try:
        held = _read(folder / LEASE)
    except OSError:  # storage that is away: writing will tell
        return
    if held and any(held.get(key) != value for key, value in driver.items()):
        problem = f"was taken over by {_name(held)} while this process did not answer"
        raise UserError(str(folder), problem, "what was recorded here until then is kept; this search ends")


def _take(path: Path, mine: Mapping[str, Any], times: LeaseTimes, tell: Callable[[str], None]) -> None:
    for _ in range(_TRIES):
        held = _read(path)
        if not held:
            if _create(path, mine):
                return
            continue
        lives = driver_lives(held)
        if lives or (lives is None and _is_renewed(path, held, times, tell)):
            problem = f"is being written by {_name(held)}"
            raise UserError(str(path.parent), problem, "wait for it, or give another run.name")
        _replace(path, mine)
        if lives is None:  # another machine may take it over at this moment, too: the last one has it
            time.sleep(times.settle)
        if _read(path).get("token") == mine["token"]:
            return
    raise UserError(str(path.parent), "is wanted by several searches at once", "start one of them again")


def _is_renewed(path: Path, held: Mapping[str, Any], times: LeaseTimes, tell: Callable[[str], None]) -> bool:
    """Whether a lease of another machine changes; False where it does not, or is given up."""
    seconds = times.missed * times.renew
    tell(f"{path.parent} was being written by {_name(held)}: watching for {seconds:g} s whether it still is")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(min(1.0, seconds / 20))
        now = _read(path)
        if not now:
            return False
        if (now.get("token"), now.get("beat")) != (held.get("token"), held.get("beat")):
            return True
    return False


def _renew(path: Path, mine: dict[str, Any], seconds: float, ending: threading.Event) -> None:
    while not ending.wait(seconds):
        with contextlib.suppress(OSError):  # storage that is away for a while; the next time will do
            held = _read(path)
            if held and held.get("token") != mine["token"]:
                return
            mine["beat"] += 1
            _replace(path, mine)


def _create(path: Path, record: Mapping[str, Any]) -> bool:
    """Puts a lease where there is none; False where another process was faster. Holds on NFS, too."""
    partial = _partial(path, record)
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links; the settling time is all there is
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return True


def _replace(path: Path, record: Mapping[str, Any]) -> None:
    os.replace(_partial(path, record), path)


def _partial(path: Path, record: Mapping[str, Any]) -> Path:
    partial = path.with_name(f"{path.name}.{record['token']}.partial")
    partial.write_text(json.dumps(record), encoding="utf-8")
    return partial


def _read(path: Path) -> dict[str, Any]:
    """The lease; {} where there is none. What is no lease counts as one of somebody unknown."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        record = None
    return record if isinstance(record, dict) and record else {"process": "?", "host": "an unknown machine"}


def _name(held: Mapping[str, Any]) -> str:
    return f"process {held.get('process')} on {held.get('host')}"
