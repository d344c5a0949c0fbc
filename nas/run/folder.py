"""The run folder, ``runs/<name>/``: making it, going on with it, and keeping two searches out of one.

Responsible for the places in it and for its ``manifest.json``. The contract is `docs/run-folder.md`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nas.errors import UserError
from nas.run.atomic import write_atomically
from nas.run.heartbeat import plain_text
from nas.run.identity import differences
from nas.run.lease import LEASE, leased
from nas.run.runner import now
from nas.units import format_quantity

FORMAT = 1
FREE_BYTES = 200_000_000  # that a run must find; models of a front and their files take a part of it
_LOCK = ".lock"
_UNFINISHED = (".*.partial", "checkpoints/*.part")
_log = logging.getLogger(__name__)
GIVEN_AGAIN = ("allow", "callbacks", "runner.address", "runner.pip", "runner.working_dir", "runner.env")
"""Fields of a search that run code or send something: a folder that is resumed does not decide them."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A folder that holds a run. Made by `create` and `resume`, which also checks it.

    Attributes:
        path: as the user gave it.
    """

    path: Path

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def manifest_file(self) -> Path:
        return self.path / "manifest.json"

    @property
    def history_file(self) -> Path:
        return self.path / "history.jsonl"

    @property
    def baseline_file(self) -> Path:
        """Evaluations of the random baseline, in the form of the history."""
        return self.path / "baseline.jsonl"

    @property
    def front_file(self) -> Path:
        return self.path / "front.csv"

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    @property
    def models(self) -> Path:
        return self.path / "models"

    def model(self, digest: str) -> Path:
        """Where the files of an architecture belong; not made yet."""
        return self.models / digest

    @classmethod
    def create(cls, path: Path | str, manifest: Mapping[str, object]) -> RunFolder:
        """Makes the folder and writes its first manifest.

        Args:
            path: of a folder that does not exist, or is empty.
            manifest: its sections; ``space`` and ``data`` (`nas.run.identity`) are what a resume is held against.

        Raises:
            UserError: the folder holds something, cannot be made, or its disk is full.
        """
        folder = cls(path=Path(path))
        assert {"space", "data"} <= manifest.keys(), "a run is about a space and data"
        refuse_used(folder.path)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"cannot be made: {error.strerror or error}"
            raise UserError(str(folder.path), problem, "run.folder and run.name say where it goes") from error
        check_free_space(folder.path)
        folder._write({"format": FORMAT, "name": folder.name, "created": now(), **manifest})
        return folder

    @classmethod
    def resume(cls, path: Path | str, *, space: Mapping[str, object], data: Mapping[str, object]) -> RunFolder:
        """Opens a run to go on with it.

        Args:
            path: its folder.
            space: record of the space now, see `nas.run.identity.space_record`.
            data: record of the data now.

        Raises:
            UserError: there is no run, it is of another format, its space or data have changed, or the disk is full.
        """
        folder = cls(path=Path(path))
        check_plain(folder.path)
        manifest = folder.manifest()
        for kind, record in (("space", space), ("data", data)):
            before = manifest.get(kind)
            if not isinstance(before, Mapping):
                raise UserError(str(folder.manifest_file), f"must say what {kind} the run is about", "start a new run")
            changed = differences(before, record)
            if changed:
                problem = f"the {kind} of {folder.path} has changed: {'; '.join(changed)}"
                raise UserError("run.resume", problem, f"give the {kind} the run was begun with, or start a new run")
        check_free_space(folder.path)
        return folder

    def manifest(self) -> dict[str, object]:
        """The manifest as it is on the disk.

        Raises:
            UserError: it is missing, no JSON object, or of another format.
        """
        file = self.manifest_file
        try:
            manifest = json.loads(plain_text(file))
        except FileNotFoundError:
            raise UserError("run.resume", f"must be a run folder, but there is no {file}", "give runs/<name>") from None
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(str(file), f"cannot be read: {error}", "start a new run") from error
        found = manifest.get("format") if isinstance(manifest, dict) else None
        if found != FORMAT:
            problem = f"must be of format {FORMAT}, got {found!r}"
            raise UserError(str(file), problem, "go on with the version of nas that wrote it, or start a new run")
        assert isinstance(manifest, dict)
        return manifest

    def update(self, sections: Mapping[str, object]) -> None:
        """Replaces sections of the manifest; all others stay. Readers see the old or the new one, never a part."""
        self._write({**self.manifest(), **sections})

    @contextlib.contextmanager
    def locked(self, *, tell: Callable[[str], None] = _log.warning) -> Iterator[None]:
        """Keeps other searches out of the folder, on this machine and on others that share it.

        The lock of a process that was killed is gone with it; what it was writing is removed. One of another machine is
        watched for half a minute, see `nas.run.lease`.

        Raises:
            UserError: another process writes into it.
        """
        try:
            descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(str(self.path), f"cannot be written: {error.strerror or error}") from error
        try:
            self._lock(descriptor)
            with leased(self.path, tell=tell):
                self._sweep()
                yield
        finally:
            os.close(descriptor)  # and with it the lock

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                return  # a file system without locks: the lease has to do
            owner = os.pread(descriptor, 64, 0).decode(errors="replace").strip() or "another process"
            problem = f"is being written by {owner}"
            raise UserError(str(self.path), problem, "wait for it, or give another run.name") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)

    def _sweep(self) -> None:
        """Removes files that a killed process had not finished; only the holder of the lock may."""
        for pattern in _UNFINISHED:
            for path in self.path.glob(pattern):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _write(self, manifest: Mapping[str, object]) -> None:
        text = json.dumps({**manifest, "updated": now()}, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(self.manifest_file, text + "\n")


def check_plain(path: Path) -> None:
    """Refuses a run folder in which something is no plain file or leads out of it: what is written must stay inside.

    The folder itself may be a link.

    Raises:
        UserError: a link, a pipe or a device is in it.
    """
    root = path.resolve()
    for place, folders, names in os.walk(root):
        for name in (*folders, *names):
            entry = Path(place) / name
            mode = entry.lstat().st_mode
            plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
            if not plain and not (stat.S_ISLNK(mode) and entry.resolve().is_relative_to(root) and entry.exists()):
                problem = f"must hold plain files, but {entry.relative_to(root)} is none or leads out of it"
                raise UserError("run.resume", f"{path} {problem}", "put there what it stands for, if you trust it")


def check_place(path: Path, *, where: str, needed: int = FREE_BYTES) -> None:
    """Finds out whether a folder can be made and written, without doing so.

    Args:
        path: of the folder; it and those above it may be missing.
        where: the field that says so, for the error.
        needed: bytes that must be free.

    Raises:
        UserError: a file stands in the way, there is no permission, or the disk is full.
    """
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UserError(where, f"must be a folder, but {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(where, f"must be in a folder that can be written, but {place.resolve()} cannot")
    try:
        check_free_space(place.resolve(), needed=needed)
    except UserError as error:
        raise UserError(where, f"{error.where}: {error.problem}", error.advice) from error


def check_free_space(path: Path, *, needed: int = FREE_BYTES) -> None:
    """Raises `UserError` if the disk that ``path`` lies on has fewer than ``needed`` bytes free."""
    free = shutil.disk_usage(path).free
    if free < needed:
        least = format_quantity(needed, "bytes")
        problem = f"its disk must have at least {least} free, has {format_quantity(free, 'bytes') if free else '0 B'}"
        raise UserError(str(path), problem, "make room, or name another disk")


def refuse_used(path: Path) -> None:
    """Raises `UserError` if ``path`` is a file, or a folder that holds a run or anything else."""
    if path.exists() and not path.is_dir():
        raise UserError(str(path), "must be a folder, but a file of that name exists", "give another run.name")
    held = [entry for entry in path.iterdir() if entry.name not in (_LOCK, LEASE)] if path.is_dir() else []
    if not held:
        return
    if (path / "manifest.json").is_file():
        advice = f"go on with it by run.resume={path}, or give another run.name"
        raise UserError("run.name", f"the run folder {path} exists", advice)
    raise UserError("run.name", f"the folder {path} exists and is not empty", "give another run.name")
