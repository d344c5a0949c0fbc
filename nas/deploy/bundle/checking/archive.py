"""Bundles opened: a folder as it is, a zip file unpacked for the time being.

Responsible for names: a zip file is only unpacked once every name in it was found to stay inside, to be listed in the
manifest and to have the size that is said there.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas.deploy.bundle.checking.findings import CHUNK, MANIFEST, BundleError
from nas.deploy.bundle.checking.json_schema import parse_json

# A manifest is text of a few hundred kilobytes; more is no manifest.
_MANIFEST_BYTES = 64 * 2**20
_DAMAGED = (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, OSError, NotImplementedError, RuntimeError, zlib.error)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The bundle as a folder; a zip file is unpacked for the time being, once all its names were found harmless."""
    if path.is_dir():
        if not (path / MANIFEST).is_file():
            raise BundleError(str(path), f"must be a bundle, but has no {MANIFEST}", "give the folder or zip of one")
        yield path
        return
    if not path.is_file():
        raise BundleError(str(path), "must be a bundle, there is no such folder or file", "give <name> or <name>.zip")
    scratch = Path(tempfile.mkdtemp(prefix="nas-bundle-"))
    try:
        try:
            with zipfile.ZipFile(path) as archive:
                root = _unpack(archive, scratch, str(path))
        except _DAMAGED as error:
            text = str(error) or type(error).__name__
            raise BundleError(str(path), f"cannot be unpacked, it is truncated or damaged ({text})") from error
        yield root
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unpack(archive: zipfile.ZipFile, scratch: Path, where: str) -> Path:
    """Unpacks a bundle; gives the folder that holds its manifest."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    names = [entry.filename for entry in entries]
    for entry in entries:
        check_name(entry.filename, where)
        if entry.external_attr >> 28 == 0o12:
            raise BundleError(
                where, f"must hold plain files only, but {entry.filename!r} is a link", "do not unpack it"
            )
    if len(set(names)) != len(names):
        raise BundleError(where, "must hold each file once, but holds one name twice", "do not unpack it")
    tops = {name.partition("/")[0] for name in names}
    prefix = f"{next(iter(tops))}/" if len(tops) == 1 and MANIFEST not in names else ""
    if prefix + MANIFEST not in names:
        raise BundleError(where, f"must be a bundle, but holds no {MANIFEST}", "give the folder or zip of one")
    sizes = _declared_sizes(archive, prefix)
    for entry in entries:
        name = entry.filename[len(prefix) :]
        if name != MANIFEST and sizes.get(name) != entry.file_size:  # also keeps out what would unpack without end
            found = "is not listed in the manifest" if name not in sizes else "has another size than the manifest says"
            raise BundleError(where, f"must be as it was written, but {name} {found}")
        target = scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file, CHUNK)
    return scratch


def _declared_sizes(archive: zipfile.ZipFile, prefix: str) -> dict[str, Any]:
    """Name -> size of each file that the manifest lists."""
    if archive.getinfo(prefix + MANIFEST).file_size > _MANIFEST_BYTES:
        raise BundleError(MANIFEST, f"must be smaller than {_MANIFEST_BYTES // 2**20} MB")
    manifest = parse_json(archive.read(prefix + MANIFEST), MANIFEST)
    contents = manifest.get("contents") if isinstance(manifest, dict) else None
    if not isinstance(contents, list):
        raise BundleError(f"{MANIFEST}: contents", "must be the list of the bundle's files", "give a bundle")
    return {str(entry.get("path")): entry.get("bytes") for entry in contents if isinstance(entry, dict)}


def check_name(name: str, where: str) -> None:
    """Raises `BundleError` for a name that could mean a place outside of the bundle."""
    parts = name.split("/")
    if not name or name.startswith("/") or "\\" in name or ":" in name or _CONTROL.search(name):
        harmless = False
    else:
        harmless = all(part not in ("", ".", "..") for part in parts)
    if not harmless:
        raise BundleError(where, f"must hold names that stay inside, got {name!r}", "do not unpack it")


def names_in(folder: Path) -> Iterator[str]:
    for place, _, files in os.walk(folder):
        for name in files:
            yield (Path(place) / name).relative_to(folder).as_posix()


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(path.name, f"cannot be read, {error.strerror or error}") from error
