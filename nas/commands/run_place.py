"""Where a search writes: a run folder on this machine, and the address that it is copied to where one was given.

Responsible for telling the two apart, so that no other step has to: all of them work in the folder (`nas.run.mirror`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nas.commands.settings import RunOptions
from nas.errors import UserError, first_line
from nas.run.folder import RunFolder, check_place, refuse_used
from nas.run.mirror import at_hand, mirrored, working_copy
from nas.train.storage import cache_folder, is_address, place


@dataclass(frozen=True, kw_only=True)
class RunPlace:
    """Where a run is written.

    Attributes:
        path: its folder on this machine; that of a new run is not made yet.
        address: where it is copied to; None: nowhere.
    """

    path: Path
    address: str | None = None

    def copied(self, tell: Callable[[str], None]) -> contextlib.AbstractContextManager[object]:
        """Within it, what is written into the folder goes to the address, if there is one.

        Args:
            tell: is told of a place that cannot be reached.

        Raises:
            UserError: see `nas.run.mirror.mirrored`.
        """
        return contextlib.nullcontext() if self.address is None else mirrored(self.path, self.address, tell=tell)


def check_run_place(run: RunOptions) -> None:
    """Refuses a place that cannot be used before anything is spent.

    Raises:
        UserError: it cannot be written, a run of that name is there, or there is none to go on with.
    """
    if run.resume is not None:
        resumed_place(run.resume)
        return
    if not is_address(run.folder):
        if run.name is not None:
            refuse_used(Path(run.folder) / run.name)
        check_place(Path(run.folder), where="run.folder")
        return
    check_place(cache_folder(), where="NAS_CACHE")
    _check_writable(run.folder)
    if run.name is not None:
        target = _below(run.folder, run.name)
        if _is_used(target):
            advice = f"go on with it by run.resume={target}, or give another run.name"
            raise UserError("run.name", f"there is something at {target}", advice)
        refuse_used(working_copy(target))


def resumed_place(given: str) -> RunPlace:
    """The place of a run that is gone on with; one at an address is fetched.

    A working copy goes on being copied to its address, also where its path is given. No other folder is, whatever its
    manifest says: a run folder does not decide where something is sent.

    Raises:
        UserError: there is no run.
    """
    folder = at_hand(given, where="run.resume")
    manifest = RunFolder(path=folder).manifest()
    if is_address(given):
        return RunPlace(path=folder, address=given)
    noted = manifest.get("address")
    own = isinstance(noted, str) and is_address(noted) and working_copy(noted).resolve() == folder.resolve()
    return RunPlace(path=folder, address=noted if own else None)  # type: ignore[arg-type]  # a string, where it is own


def new_place(run: RunOptions, name: str) -> RunPlace:
    """The place of a new run.

    Args:
        run: says which folder, and perhaps which name.
        name: where it does not; the first of ``name``, ``name-2``, ... that is free is taken.

    Raises:
        UserError: the address cannot be reached.
    """
    names = [run.name] if run.name else [name, *(f"{name}-{number}" for number in range(2, 10_000))]
    if not is_address(run.folder):
        paths = [Path(run.folder) / one for one in names]
        return RunPlace(path=next(path for path in paths if run.name or not path.exists()))
    targets = (_below(run.folder, one) for one in names)
    target = next(one for one in targets if run.name or not (working_copy(one).exists() or _is_used(one)))
    return RunPlace(path=working_copy(target), address=target)


def _below(address: str, name: str) -> str:
    return f"{address.rstrip('/')}/{name}"


def _is_used(address: str) -> bool:
    """Whether anything is there. Raises `UserError` where that cannot be found out."""
    try:
        return bool(place(address, where="run.folder").listing())
    except OSError as error:
        raise UserError("run.folder", f"{address} cannot be read ({first_line(error)})") from error


def _check_writable(address: str) -> None:
    """Writes a file there and removes it: a key that may only read would be found out hours later."""
    target, name = place(address, where="run.folder"), f".written-{os.getpid()}"
    try:
        target.write(name, b"")
        target.remove(name)
    except OSError as error:
        raise UserError("run.folder", f"{address} cannot be written ({first_line(error)})") from error
