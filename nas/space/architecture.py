"""An architecture: a value for every active choice of a space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One member of a search space, as it crosses the border of `nas.space`.

    Attributes:
        row: its canonical row in a population, one option index a choice, -1 where the choice is inactive.
        choices: the active choices by name, each with the label of its option. Readable; follows from ``row``.
        digest: digest of the resolved network: two rows that build the same network share it.
    """

    row: tuple[int, ...]
    choices: Mapping[str, str] = field(compare=False)
    digest: str
