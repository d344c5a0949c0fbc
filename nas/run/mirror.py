"""A run folder at an address: a working copy on this machine, which is copied there while the search goes on.

Responsible for the layout there and for the promise that goes with it. Object stores cannot append to a file and do not
lock, so that a search does not write there directly: it works in a folder here, and what is new goes to the address
every few seconds, on a thread of its own. **If this machine is lost with its disk, what ended since the last copy is
lost**; if only the driver is, nothing is. From the address alone the run goes on anywhere (`restore`).

There: ``<file>.d/<offset>-<checksum>.part`` for each piece of a file that only grows (the history, the baseline), all
others under their names, ``lease.json`` while a search writes. A piece holds whole lines. Logs, checkpoints and locks
stay here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from nas.errors import UserError, first_line
from nas.run.atomic import write_atomically
from nas.run.heartbeat import driver_lives, this_driver
from nas.train.storage import Place, RemoteFile, cache_folder, is_address, place

GROWING = ("history.jsonl", "baseline.jsonl")
_LEASE = "lease.json"
_BUSY = "wait for it, or give another run.name"
_LEFT_OUT = re.compile(r"(^|/)\.|^(logs|checkpoints)/|\.part(ial)?$|^status\.json$")
_PIECE = re.compile(r"(?P<file>[^/]+)\.d/(?P<offset>\d{16})-(?P<digest>[0-9a-f]{16})\.part")
_log = logging.getLogger(__name__)


class Mirror:
    """Copies a run folder to an address.

    Args:
        folder: the working copy, locked by this process.
        target: where it goes.
    """

    def __init__(self, folder: Path, target: Place) -> None:
        self._folder = folder
        self._target = target
        self._token = secrets.token_hex(8)
        self._beat = 0
        self._sent: dict[str, int] = {}  # bytes of each growing file that are there
        self._stamps: dict[str, tuple[int, int]] = {}  # size and time of change of each other file as it was copied
        self._lock = threading.Lock()

    def start(self, *, silence: float, tell: Callable[[str], None] = _log.warning) -> None:
        """Finds out what is there, and that nobody else writes there.

        Args:
            silence: seconds after which another search that does not renew its lease is taken for dead.
            tell: is told where that has to be waited for.

        Raises:
            UserError: another search writes there, or what is there is no beginning of what is here.
            OSError: the place cannot be reached.
        """
        _wait_for_silence(self._target, silence, tell)
        pieces = _pieces(self._target.listing())
        for name in GROWING:
            there, here = _joined(self._target, pieces.get(name, [])), _content(self._folder / name)
            if not here.startswith(there):
                problem = f"holds another {name} than {self._folder}"
                raise UserError(self._target.address, problem, "go on from there in a fresh folder")
            self._sent[name] = len(there)
        self.sync()

    def sync(self) -> None:
        """Copies what is new. May be called from any thread.

        Raises:
            UserError: another search writes there.
            OSError: the place cannot be reached; the next call takes up what this one left.
        """
        with self._lock:
            self._renew()
            for name in GROWING:
                self._send_piece(name)
            for path in sorted(self._folder.rglob("*")):
                relative = path.relative_to(self._folder).as_posix()
                if relative not in GROWING and not _LEFT_OUT.search(relative) and path.is_file():
                    self._send_file(path, relative)

    def close(self) -> None:
        """Copies the rest and gives up the lease. Raises as `sync` does."""
        self.sync()
        self._target.remove(_LEASE)

    def _send_piece(self, name: str) -> None:
        start = self._sent.get(name, 0)
        path = self._folder / name
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(start)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]  # a line that is being written comes with the next piece
        if whole:
            digest = hashlib.sha256(whole).hexdigest()[:16]
            self._target.write(f"{name}.d/{start:016d}-{digest}.part", whole)
            self._sent[name] = start + len(whole)

    def _send_file(self, path: Path, relative: str) -> None:
        try:
            info = path.stat()
            stamp = (info.st_size, info.st_mtime_ns)
            if self._stamps.get(relative) == stamp:
                return
            content = path.read_bytes()
        except FileNotFoundError:  # it was replaced or removed just now
            return
        self._target.write(relative, content)
        self._stamps[relative] = stamp

    def _renew(self) -> None:
        held = _lease(self._target)
        if self._beat and held and held.get("token") != self._token:
            problem = f"was taken over by process {held.get('process')} on {held.get('host')}"
            raise UserError(self._target.address, problem, f"what ended here is in {self._folder}")
        self._beat += 1
        record = {**this_driver(), "token": self._token, "beat": self._beat}
        self._target.write(_LEASE, json.dumps(record).encode())


@contextlib.contextmanager
def mirrored(
    folder: Path, address: str, *, every: float = 10.0, tell: Callable[[str], None] = _log.warning
) -> Iterator[Mirror]:
    """Within it, what a search writes into ``folder`` is copied to ``address`` every few seconds; the rest at the end.

    Args:
        folder: the working copy, locked by this process.
        address: where it goes.
        every: seconds between copies. So much, and the time of a copy, is lost at most with this machine.
        tell: is told of a place that cannot be reached, once, and when it can again; called on another thread.

    Raises:
        UserError: another search writes there, the place cannot be reached at the beginning, or the last copy failed.
    """
    mirror = Mirror(folder, place(address, where="run.folder"))
    try:
        mirror.start(silence=3 * every, tell=tell)
    except OSError as error:
        raise UserError("run.folder", f"{address} cannot be written ({first_line(error)})") from error
    ending, failed = threading.Event(), ""

    def copy() -> None:
        nonlocal failed
        while not ending.wait(every):
            try:
                mirror.sync()
            except (OSError, UserError) as error:
                if not failed:
                    tell(f"{address} cannot be written ({first_line(error)}): the run goes on in {folder}")
                failed = first_line(error)
            else:
                if failed:
                    tell(f"{address} can be written again and holds all there is")
                failed = ""

    thread = threading.Thread(target=copy, name="nas-mirror", daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        ending.set()
        thread.join()
        _finish(mirror, folder, address)


def _finish(mirror: Mirror, folder: Path, address: str) -> None:
    try:
        mirror.close()
    except OSError as error:
        problem = f"the last copy failed ({first_line(error)}); the run is complete in {folder}"
        raise UserError(address, problem, f"go on with run.resume={folder}, which copies the rest") from error


def working_copy(address: str, *, cache: Path | None = None) -> Path:
    """Where the run at an address lies on this machine: the same folder each time."""
    key = hashlib.sha256(address.rstrip("/").encode()).hexdigest()[:16]
    return cache_folder(cache) / "runs" / key / PurePosixPath(address.rstrip("/")).name


def at_hand(given: str, *, where: str) -> Path:
    """A run folder as it lies on this machine: one at an address is fetched, as far as it is further there.

    Args:
        given: a path or an address.
        where: the field that holds it, for errors.

    Raises:
        UserError: see `restore`.
    """
    if not is_address(given):
        return Path(given)
    folder = working_copy(given)
    restore(given, folder, where=where)
    return folder


def restore(address: str, folder: Path, *, where: str = "run.resume") -> bool:
    """Makes a working copy what is at the address, where that is further; nothing there and here is another's.

    A folder here that is further, because its last copy did not get through, stays as it is.

    Args:
        address: of a run folder.
        folder: the working copy; it may be missing.
        where: the field that holds the address, for errors.

    Returns:
        Whether anything was fetched.

    Raises:
        UserError: there is no run, it cannot be read, a piece is missing or damaged, or both have gone on apart.
    """
    source = place(address, where=where)
    try:
        found = source.listing()
        if not any(file.path == "manifest.json" for file in found):
            raise UserError(where, f"must be a run folder, but there is no manifest.json at {address}")
        pieces = _pieces(found)
        there = {name: _joined(source, pieces.get(name, [])) for name in GROWING}
        here = {name: _content(folder / name) for name in GROWING}
        for name in GROWING:
            if not (here[name].startswith(there[name]) or there[name].startswith(here[name])):
                problem = f"{name} at {address} and in {folder} have gone on apart"
                raise UserError(where, problem, "move one of them away")
        if (folder / "manifest.json").is_file() and all(here[name].startswith(there[name]) for name in GROWING):
            return False
        folder.mkdir(parents=True, exist_ok=True)
        for name in GROWING:
            if len(there[name]) > len(here[name]):
                write_atomically(folder / name, there[name].decode())
        for file in found:
            if not _PIECE.fullmatch(file.path) and file.path != _LEASE and ".." not in PurePosixPath(file.path).parts:
                source.download(file.path, folder / file.path)
    except OSError as error:
        raise UserError(where, f"{address} cannot be fetched ({first_line(error)})") from error
    return True


def _wait_for_silence(target: Place, seconds: float, tell: Callable[[str], None]) -> None:
    held = _lease(target)
    if not held:
        return
    name = f"process {held.get('process')} on {held.get('host')}"
    lives = driver_lives(held)
    if lives is False:
        return
    if lives:
        raise UserError(target.address, f"is being written by {name}", _BUSY)
    tell(f"{target.address} was being written by {name}: watching for {seconds:g} s whether it still is")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(min(1.0, seconds / 10))
        now = _lease(target)
        if not now:
            return
        if now != held:
            raise UserError(target.address, f"is being written by {name}", _BUSY)


def _lease(target: Place) -> dict[str, object]:
    try:
        record = json.loads(target.read(_LEASE))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _pieces(found: list[RemoteFile]) -> dict[str, list[RemoteFile]]:
    """The pieces of each growing file, in order."""
    pieces: dict[str, list[RemoteFile]] = {}
    for file in found:
        match = _PIECE.fullmatch(file.path)
        if match:
            pieces.setdefault(match["file"], []).append(file)
    return pieces


def _joined(source: Place, pieces: list[RemoteFile]) -> bytes:
    """What the pieces hold together. Raises `UserError` for one that is missing, damaged or there twice."""
    content = b""
    for piece in pieces:
        match = _PIECE.fullmatch(piece.path)
        assert match is not None, "pieces are what the pattern found"
        part = source.read(piece.path)
        if int(match["offset"]) != len(content):
            problem = f"{piece.path} does not follow on what is before it ({len(content)} bytes)"
            raise UserError(source.address, problem, "a piece is missing, or two searches have written there")
        if hashlib.sha256(part).hexdigest()[:16] != match["digest"]:
            raise UserError(source.address, f"{piece.path} is damaged: its checksum does not fit")
        content += part
    return content


def _content(path: Path) -> bytes:
    """The whole lines of a file; b"" where there is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return b""
    return content[: content.rfind(b"\n") + 1]
