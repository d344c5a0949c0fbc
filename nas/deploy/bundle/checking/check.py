"""Checks a bundle: structure, checksums, and the answers of its files.

Responsible for everything that is believed of a bundle. Nothing in one is executed. A runtime that is not installed is
told, and its files are then checked by their sums only.
"""

from __future__ import annotations

import hashlib
import math
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas.deploy.bundle.checking.archive import check_name, names_in, opened, read_bytes
from nas.deploy.bundle.checking.findings import (
    FORMAT,
    KIND,
    MANIFEST,
    SCHEMA,
    BundleCheck,
    BundleError,
    FileCheck,
    first_line,
    sha256,
)
from nas.deploy.bundle.checking.json_schema import parse_json, violation
from nas.deploy.bundle.checking.runtimes import missing_runtime, run_golden

_MOST_BYTES = 1 << 30  # that an archive of arrays may stand for


def check_bundle(path: Path, *, schema: Mapping[str, Any] | None = None) -> BundleCheck:
    """Checks the bundle at ``path``, a folder or a zip file.

    Args:
        path: of the bundle.
        schema: that its manifest is held against; None: the one that it carries.

    Raises:
        BundleError: the first thing that does not hold.
    """
    with opened(path) as folder:
        content = read_bytes(folder / MANIFEST)
        manifest = parse_json(content, MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
            raise BundleError(str(path), f"must be a bundle, but its {MANIFEST} is none of one", "")
        if manifest.get("format") != FORMAT:
            problem = f"must be {FORMAT}, got {manifest.get('format')!r}"
            raise BundleError(f"{MANIFEST}: format", problem, "it needs another version of nas")
        schema = schema if schema is not None else parse_json(read_bytes(folder / SCHEMA), SCHEMA)
        wrong = violation(manifest, schema)
        if wrong:
            raise BundleError(f"{MANIFEST}: {wrong[0]}", wrong[1], "it was changed, or written by something else")
        _check_sums(folder, manifest)
        files = tuple(_check_model(folder, manifest))
        listed = {entry["path"] for entry in manifest["contents"]} | {MANIFEST}
        unlisted = sorted(set(names_in(folder)) - listed)
    return BundleCheck(
        fingerprint=hashlib.sha256(content).hexdigest(),
        num_contents=len(manifest["contents"]),
        files=files,
        unlisted=tuple(unlisted[:20]),
    )


def _check_sums(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Every listed file is there, is no link, stays inside, and has the size and sum that the manifest says."""
    for entry in manifest["contents"]:
        name = entry["path"]
        check_name(name, MANIFEST)
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise BundleError(name, "must be there as a plain file, the manifest lists it")
        if path.resolve() != folder.resolve() / name:
            raise BundleError(name, "must lie within the bundle, but leads out of it", "do not use it")
        if path.stat().st_size != entry["bytes"]:
            raise BundleError(name, f"must have {entry['bytes']} bytes, has {path.stat().st_size}")
        if sha256(path) != entry["sha256"]:
            raise BundleError(name, "was changed: its checksum is not that of the manifest")


def _check_model(folder: Path, manifest: Mapping[str, Any]) -> Iterator[FileCheck]:
    for model in manifest["models"]:
        for entry in model["files"]:
            _check_listed(entry["path"], manifest)
        _check_listed(model["golden"]["npz"], manifest)
        arrays = read_arrays(folder / model["golden"]["npz"])
        for entry in model["files"]:
            yield _check_file(folder, entry, arrays)


def _check_file(folder: Path, entry: Mapping[str, Any], arrays: Mapping[str, Any]) -> FileCheck:
    """Runs a file on the golden inputs, where its runtime is there."""
    path, expected = entry["path"], entry["expected"]
    if not expected:
        return FileCheck(path, None, None, f"its answers were not recorded, files of {entry['target']} do not run here")
    if expected not in arrays or "inputs" not in arrays:
        raise BundleError(f"{MANIFEST}: {path}", f"must name an array of the golden outputs, got {expected!r}")
    missing = missing_runtime(entry["target"])
    if missing:
        return FileCheck(path, None, None, missing)
    try:
        found = run_golden(entry["target"], folder / path, arrays["inputs"])
    except Exception as error:  # runtimes' errors share no public base class
        raise BundleError(path, f"cannot be run by {entry['target']}, {first_line(error)}", "") from error
    wanted = arrays[expected]
    if found is None or found.shape != wanted.shape:
        raise BundleError(path, f"must give outputs {wanted.shape}, got {None if found is None else found.shape}", "")
    off = float(np.abs(found - wanted).max()) if np.isfinite(found).all() else math.inf
    extent = float(np.ptp(wanted))
    relative = off / extent if extent else (0.0 if off == 0 else math.inf)
    if not relative <= entry["tolerance"]:
        problem = f"must give the golden outputs within {entry['tolerance']:.2%} of their range, is {relative:.2%} off"
        raise BundleError(path, problem, "do not ship it with this runtime on this machine")
    agreement = float((found.argmax(axis=1) == wanted.argmax(axis=1)).mean())
    return FileCheck(path, relative, agreement, "")


def _check_listed(name: str, manifest: Mapping[str, Any]) -> None:
    check_name(name, MANIFEST)
    names = [entry["path"] for entry in manifest["contents"]]
    if name not in names and not any(other.startswith(f"{name}/") for other in names):
        raise BundleError(f"{MANIFEST}: {name}", "must be listed among the contents, is not")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file. Raises `BundleError` where it is broken or holds objects."""
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
        if size > _MOST_BYTES:
            raise ValueError(f"it stands for {size} bytes, more than {_MOST_BYTES}")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # numpy raises what its parser meets
        raise BundleError(path.name, f"cannot be read, {first_line(error)}") from error


def lines_of(check: BundleCheck, path: Path) -> list[str]:
    """What a person is told of a bundle that holds."""
    ran = sum(file.relative_error is not None for file in check.files)
    head = f"ok  {path}  {check.num_contents} checksums hold, {ran} of {len(check.files)} model files run"
    lines = [f"{head}, fingerprint {check.fingerprint}", *(f"    {file}" for file in check.files)]
    if check.unlisted:
        names = ", ".join(check.unlisted[:5])
        lines.append(f"note: the manifest does not list {names}; nothing is known of such files")
    return lines


def main(arguments: Sequence[str]) -> int:
    """``verify.py [bundle]``. Gives the exit code: 0 it holds, 2 it does not."""
    path = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    try:
        sys.stdout.write("\n".join(lines_of(check_bundle(path), path)) + "\n")
    except BundleError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0
