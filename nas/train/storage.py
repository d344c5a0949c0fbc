"""Files at addresses such as ``s3://bucket/photos``: reading them through a cache on this machine, and writing them.

Responsible for what a place elsewhere may be, and for the cache: each file is fetched once a machine, and its contents
are held against the checksum that was taken when it came, each time it is used.

Addresses are those of pyarrow (``s3``, ``gs``, ``abfss``, ``hdfs``, ``file``), and of any package for fsspec. Keys and
regions come from where these look for them: variables, profiles, the machine's role. None is written anywhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nas.errors import UserError, first_line

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.ASCII)
_OWN = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "file", "local", "fsspec+")  # of pyarrow itself
_BLOCK = 1 << 20
_CONTENTS = "contents.json"
_BEING_WRITTEN = re.compile(r"\.\d+\.part$", re.ASCII)  # and renamed when it is whole


def is_address(text: str | Path) -> bool:
    """Whether this names a place elsewhere, rather than a path."""
    return bool(_ADDRESS.match(str(text)))


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file below a `Place`.

    Attributes:
        path: below the place, with slashes; "" where the place itself is the file.
        size: in bytes.
        stamp: changes when the file does, as far as the place tells: its time of change in nanoseconds, else 0.
    """

    path: str
    size: int
    stamp: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A folder, or a file, at an address. Every method raises `OSError` for what fails on the way.

    Attributes:
        address: as given.
        files: pyarrow's file system.
        root: within it.
    """

    address: str
    files: Any
    root: str

    def listing(self) -> list[RemoteFile]:
        """All whole files below, by path; the file itself where the address is one; [] where there is nothing."""
        from pyarrow import fs

        with _as_os_error():
            own = self.files.get_file_info(self.root)
            if own.type == fs.FileType.File:
                return [_remote(own, "")]
            infos = self.files.get_file_info(fs.FileSelector(self.root, allow_not_found=True, recursive=True))
        found = [info for info in infos if info.type == fs.FileType.File and not _BEING_WRITTEN.search(info.path)]
        return sorted((_remote(info, _below(info.path, self.root)) for info in found), key=lambda one: one.path)

    def read(self, path: str) -> bytes:
        """The contents of a file. Raises `FileNotFoundError` where there is none."""
        with _as_os_error(), self.files.open_input_stream(self._at(path)) as stream:
            return bytes(stream.read())

    def download(self, path: str, target: Path) -> str:
        """Copies a file to ``target``, which appears as a whole; its sha256."""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")
        digest = hashlib.sha256()
        try:
            with _as_os_error(), self.files.open_input_stream(self._at(path)) as stream, partial.open("wb") as file:
                while block := stream.read(_BLOCK):
                    digest.update(block)
                    file.write(block)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        return digest.hexdigest()

    def write(self, path: str, content: bytes) -> None:
        """Puts a file there, as a whole: object stores do so, in folders it is renamed into place."""
        target = self._at(path)
        with _as_os_error():
            if not self._is_folder():
                with self.files.open_output_stream(target) as stream:
                    stream.write(content)
                return
            self.files.create_dir(target.rpartition("/")[0], recursive=True)
            partial = f"{target}.{os.getpid()}.part"
            with self.files.open_output_stream(partial) as stream:
                stream.write(content)
            self.files.move(partial, target)

    def remove(self, path: str) -> None:
        """Removes a file, if it is there."""
        with _as_os_error(), contextlib.suppress(FileNotFoundError):
            self.files.delete_file(self._at(path))

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def _is_folder(self) -> bool:
        return str(self.files.type_name) not in ("s3", "gcs", "abfs")


def place(address: str, *, where: str) -> Place:
    """What an address leads to; nothing is read yet, but for the region of a bucket.

    Raises:
        UserError: it is none, its kind is unknown, or it cannot be reached. ``where`` is the field to blame.
    """
    # Imported late, here and below: most searches know no address, and this takes a third of a second.
    import pyarrow as pa
    from pyarrow import fs

    kind = address.partition("://")[0]
    given = address if kind.startswith(_OWN) else f"fsspec+{address}"
    try:
        files, root = fs.FileSystem.from_uri(given)
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        advice = "known are s3://, gs://, abfss://, hdfs://, file:// and what packages for fsspec bring"
        raise UserError(where, f"{address} cannot be reached ({first_line(error)})", advice) from error
    return Place(address=address, files=files, root=str(root).rstrip("/"))


def fetched(address: str, *, where: str, cache: Path | None = None) -> Path:
    """A file or folder at an address, as it is on this machine; it is fetched as far as it is not there yet.

    Several processes of a machine may ask at once: one fetches, the others wait. A file that changed at its place is
    fetched again, one that changed here, too; one that is gone there is removed here.

    Args:
        address: of a file or a folder.
        where: the field that holds it, for errors.
        cache: folder of all that was fetched; None: ``$NAS_CACHE``, else ``~/.cache/nas``.

    Raises:
        UserError: there is nothing, it cannot be read, or it does not fit on the disk here.
    """
    source = place(address, where=where)
    name = PurePosixPath(source.root).name or "data"
    key = hashlib.sha256(address.encode()).hexdigest()[:16]
    folder = cache_folder(cache) / "data" / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / ".lock"):
            remote = source.listing()
            if not remote:
                raise UserError(where, f"there is nothing at {address}")
            _bring(source, remote, folder, folder / name)
    except OSError as error:
        raise UserError(where, f"{address} cannot be fetched ({first_line(error)})", f"it goes to {folder}") from error
    return folder / name


def cache_folder(given: Path | None = None) -> Path:
    """Where fetched files and working copies lie."""
    if given is not None:
        return given
    return Path(os.environ.get("NAS_CACHE") or Path.home() / ".cache" / "nas")


def sha256_of(path: Path) -> str:
    """Of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bring(source: Place, remote: list[RemoteFile], folder: Path, target: Path) -> None:
    """Makes ``target`` what is at the place; what was fetched is noted file by file, so that it can be gone on with."""
    known = _known(folder / _CONTENTS)
    for file in remote:
        local = _safe(target, file.path)
        note = known.get(file.path, {})
        fresh = (note.get("size"), note.get("stamp")) == (file.size, file.stamp) and local.is_file()
        if fresh and sha256_of(local) == note.get("sha256"):
            continue
        digest = source.download(file.path, local)
        if local.stat().st_size != file.size:
            raise OSError(f"{file.path or target.name} broke off after {local.stat().st_size} of {file.size} bytes")
        known[file.path] = {"size": file.size, "stamp": file.stamp, "sha256": digest}
        _note(folder / _CONTENTS, known)
    for path in known.keys() - {file.path for file in remote}:
        _safe(target, path).unlink(missing_ok=True)
        del known[path]
    _note(folder / _CONTENTS, known)


def _safe(target: Path, path: str) -> Path:
    """Where a file goes: below ``target``, whatever its name at the place says."""
    parts = PurePosixPath(path).parts
    if any(part in ("..", "/") for part in parts):
        raise OSError(f"{path} does not lie below its folder")
    return target.joinpath(*parts)


def _known(path: Path) -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _note(path: Path, known: Mapping[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(known), encoding="utf-8")
    os.replace(partial, path)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process of this machine at a time."""
    with path.open("w") as file:
        with contextlib.suppress(OSError):  # a cache on a file system without locks: files still appear as a whole
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Errors of pyarrow that are no `OSError` become one."""
    import pyarrow as pa

    try:
        yield
    except OSError:
        raise
    except (pa.ArrowException, ValueError) as error:
        raise OSError(first_line(error)) from error


def _remote(info: Any, path: str) -> RemoteFile:
    return RemoteFile(path=path, size=int(info.size), stamp=int(info.mtime_ns or 0))


def _below(path: str, root: str) -> str:
    return path.removeprefix(root).lstrip("/")
