"""The options that all data sources share.

Responsible for their meaning and their checks; what is done with them is in `nas.train.data.assembly`.
"""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from nas.errors import UserError
from nas.train.checks import check_number
from nas.train.storage import fetched, is_address


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options of every image source; the sources add where their images are.

    Attributes:
        resolution: all images are resized to this many pixels a side (the aspect ratio is not kept); None: they
            must have one size.
        channels: 1 (grey) or 3 (colour): all images are converted; None: they must agree.
        limit: at most so many images, drawn with ``seed`` in proportion to the classes and to the source's own
            splits; None: all.
        seed: of the draw and of the splits.
        validation_share: share of the training images that is set apart to judge candidates on (of all images,
            where the test split is cut from them too).
        test_share: share of the images that no step but the last one sees; without effect where the source has a
            test set of its own.

    Raises:
        UserError: a value out of its range.
    """

    resolution: int | None = None
    channels: int | None = None
    limit: int | None = None
    seed: int = 0
    validation_share: float = 0.1
    test_share: float = 0.1

    def __post_init__(self) -> None:
        if self.resolution is not None:
            check_number("data.resolution", self.resolution, low=1, high=4096, integer=True)
        if self.channels not in (None, 1, 3):
            raise UserError("data.channels", f"must be 1 (grey) or 3 (colour), got {self.channels!r}")
        if self.limit is not None:
            check_number("data.limit", self.limit, low=1, integer=True)
        check_number("data.seed", self.seed, low=0, integer=True)
        for field in ("validation_share", "test_share"):
            value = getattr(self, field)
            check_number(f"data.{field}", value, low=0, high=0.5, above_low=True, advice="0.1 is usual")


def given_path(path: str | Path | None, *, example: str, where: str = "data.path") -> Path:
    """The path that a field holds, with ``~`` resolved; what is at an address is fetched first.

    Raises:
        UserError: none was given, or what is at the address cannot be fetched.
    """
    if path is None or not str(path).strip():
        raise UserError(where, "must say where the images are, got nothing", f"e.g. {where}={example}")
    if not is_address(path):
        return Path(path).expanduser()
    if glob.has_magic(str(path)):
        raise UserError(where, f"must be a file or a folder where it is an address, got the pattern {path}")
    return fetched(str(path), where=where)


def no_such_path(path: Path | str) -> UserError:
    """The error for a path that leads nowhere."""
    return UserError("data.path", f"no such file or folder: {path}", f"relative paths start at {Path.cwd()}")
