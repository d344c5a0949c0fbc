"""The check of a bundle with the schema that `nas` has, and its errors as users' mistakes.

Responsible for the border: it imports neither torch nor any converter, so that a bundle can be checked wherever numpy
and a runtime are.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from nas.deploy.bundle.checking.check import check_bundle
from nas.deploy.bundle.checking.findings import KIND, MANIFEST, SCHEMA, BundleCheck, BundleError
from nas.errors import UserError


def is_bundle(path: Path) -> bool:
    """Whether a path is meant as a bundle: a zip file, or a folder whose manifest says so. Never raises."""
    if path.is_file():
        return path.suffix.lower() == ".zip" or zipfile.is_zipfile(path)
    try:
        record = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return (path / SCHEMA).is_file() and (path / "verify.py").is_file()
    return isinstance(record, dict) and record.get("kind") == KIND


def verify_bundle(path: Path) -> BundleCheck:
    """Checks a bundle, a folder or a zip file; see `nas.deploy.bundle.checking.check.check_bundle`.

    Raises:
        UserError: the first thing that does not hold.
    """
    schema = json.loads(Path(__file__).with_name(SCHEMA).read_text(encoding="utf-8"))
    try:
        return check_bundle(path, schema=schema)
    except BundleError as error:
        raise UserError(error.where, error.problem, error.advice) from error
