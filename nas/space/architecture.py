"""An architecture: a value for every active choice of a space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache


@dataclass(frozen=True, kw_only=True, slots=True)
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", _Labels(self.choices))


class _Labels(Mapping[str, str]):
    """A mapping that shares its keys with those that have the same: a long run holds a hundred thousand of them."""

    __slots__ = ("_names", "_texts")

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._names = _shared(tuple(labels))
        self._texts = tuple(labels.values())

    def __getitem__(self, name: str) -> str:
        try:
            return self._texts[self._names.index(name)]
        except ValueError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return repr(dict(self))


@lru_cache(maxsize=4096)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    return names
