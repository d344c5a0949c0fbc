"""A finished bundle, checked as whoever gets it will, packed, and put in its place.

Responsible for this: nothing that does not hold is left under the bundle's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.deploy.bundle.archive import write_zip
from nas.deploy.bundle.checking.findings import MANIFEST
from nas.deploy.bundle.verify import verify_bundle
from nas.deploy.manifest import sha256
from nas.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Published:
    """A bundle in its place.

    Attributes:
        folder: the bundle.
        archive: the same as a zip file; None where none was asked for.
        fingerprint: SHA-256 of its manifest.
    """

    folder: Path
    archive: Path | None
    fingerprint: str

    def to_record(self, place: Path) -> dict[str, str | None]:
        """As plain JSON, paths relative to ``place``."""
        return {
            "folder": self.folder.relative_to(place).as_posix(),
            "archive": None if self.archive is None else self.archive.relative_to(place).as_posix(),
            "fingerprint": self.fingerprint,
        }


def publish_bundle(bundle: Path, place: Path, *, archive: bool, where: str) -> Published:
    """Checks a bundle and moves it; one that is at ``place`` already is replaced.

    Args:
        bundle: its folder, in a folder of its own on the disk of ``place``.
        place: of the bundle; the zip file ``<place>.zip`` lies beside it.
        archive: write the zip file too.
        where: who wrote it, for the error.

    Raises:
        UserError: the bundle does not hold; nothing at ``place`` is changed then.
    """
    _check(bundle, where)
    return put_in_place(bundle, place, archive=archive)


def put_in_place(bundle: Path, place: Path, *, archive: bool) -> Published:
    """Moves a bundle that was checked; see `publish_bundle`."""
    fingerprint = sha256(bundle / MANIFEST)
    packed = place.with_name(f"{place.name}.zip") if archive else None
    if packed is not None:
        write_zip(bundle, packed)
    if place.exists():  # moved away first, as a folder cannot be renamed onto a full one
        place.rename(bundle.with_name(f"{bundle.name}.old"))
    bundle.rename(place)
    return Published(folder=place, archive=packed, fingerprint=fingerprint)


def _check(bundle: Path, where: str) -> None:
    try:
        verify_bundle(bundle)
    except UserError as error:
        raise UserError(where, f"wrote a bundle that does not hold, {error}", "leave that target out") from error
