"""Encodings of one space's populations, and the way back: weights of their columns as look-up tables.

Responsible for the encodings that latency models may use, by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.device.lookup import Floats, Term, one_hot_terms, pairwise_terms
from nas.space.encodings import num_pairwise, one_hot, operator_projection, pairs, pairwise
from nas.space.moves import Population
from nas.space.paths import CellPaths, cell_paths
from nas.space.space import SearchSpace

MAX_COLUMNS = 3_000  # of an encoding: a singular value decomposition takes a second then

# Encodings that are tried, as the parts that they put side by side.
ENCODINGS: dict[str, tuple[str, ...]] = {
    "one-hot": ("one-hot",),
    "operator counts": ("one-hot", "counts"),
    "pairwise": ("one-hot", "pairs"),
    "paths": ("one-hot", "paths"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """Encodings of the populations of ``space``. What is dear to find out about the space is found out once.

    Attributes:
        space: that populations belong to.
    """

    space: SearchSpace

    @cached_property
    def _cells(self) -> tuple[CellPaths, ...]:
        return cell_paths(self.space)

    @cached_property
    def _counts(self) -> tuple[Floats, ...]:
        return tuple(cell.counts.astype(np.float64) for cell in self._cells)

    @cached_property
    def _projection(self) -> NDArray[np.float32]:
        return operator_projection(self.space)

    @cached_property
    def encodings(self) -> tuple[str, ...]:
        """Names of the `ENCODINGS` that the space has and that are not too wide."""
        return tuple(
            name
            for name, parts in ENCODINGS.items()
            if all(self.num_columns(part) for part in parts)
            and sum(self.num_columns(part) for part in parts) <= MAX_COLUMNS
        )

    def num_columns(self, part: str) -> int:
        """Columns of a part; 0 where the space has no such thing."""
        if part == "one-hot":
            return sum(choice.num_options for choice in self.space.choices)
        if part == "counts":
            return int(self._projection.shape[1])
        if part == "pairs":
            return num_pairwise(self.space)
        assert part == "paths"
        return sum(len(cell.names) for cell in self._cells)

    def encode(self, part: str, population: Population) -> Floats:
        """A part's columns ``(n, d)``."""
        if part == "one-hot":
            return one_hot(self.space, population).astype(np.float64)
        if part == "counts":
            return (one_hot(self.space, population) @ self._projection).astype(np.float64)
        if part == "pairs":
            return pairwise(self.space, population).astype(np.float64)
        assert part == "paths"
        cells = [cell.encode(population) for cell in self._cells]
        return np.concatenate([np.zeros((len(population), 0)), *cells], axis=1)

    def terms(self, part: str, weights: Floats) -> tuple[Term, ...]:
        """The look-ups whose sum is ``encode(part, population) @ weights``."""
        if part == "one-hot":
            return one_hot_terms(self.space, weights)
        if part == "counts":
            return one_hot_terms(self.space, self._projection.astype(np.float64) @ weights)
        if part == "pairs":
            return pairwise_terms(self.space, pairs(self.space), weights)
        assert part == "paths"
        ends = np.cumsum([len(cell.names) for cell in self._cells])
        parts = np.split(weights, ends[:-1]) if self._cells else []
        return tuple(
            Term(columns=cell.columns, table=counts @ part)
            for cell, counts, part in zip(self._cells, self._counts, parts, strict=True)
        )
