"""Sums of table entries: what every linear model on encodings comes down to, at millions of rows a second.

Responsible for the value that such a model is folded into, and for evaluating it fast. A term is a table over the
options of one or more choices; the sum of the terms' entries is the model's output. Terms of one or two choices are
gathered into tables over *groups* of choices first, so that a row costs one look-up for two groups, not for two
choices.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.space.moves import Population
from nas.space.space import SearchSpace

Floats = NDArray[np.float64]

_CHUNK = 32_768
_MAX_STATES = 96  # of a group: a table over two groups stays within a core's second cache


@dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """A table over the options of choices.

    Attributes:
        columns: of the population, rising.
        table: one axis a column, each one longer than the choice has options: its last entry is what -1, an inactive
            choice, picks.
    """

    columns: tuple[int, ...]
    table: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Lookup:
    """``offset`` plus the entry that a row picks in each term.

    Attributes:
        widths: ``(m,)``, the number of options of each choice.
        offset: added to every row.
        terms: at most one for a set of columns; `Lookup.of` sees to that.
    """

    widths: tuple[int, ...]
    offset: float
    terms: tuple[Term, ...] = field(repr=False)

    @classmethod
    def of(cls, space: SearchSpace, offset: float, terms: Iterable[Term]) -> Lookup:
        """The sum of terms, those of the same columns added up."""
        summed: dict[tuple[int, ...], Floats] = {}
        for term in terms:
            summed[term.columns] = summed[term.columns] + term.table if term.columns in summed else term.table
        widths = tuple(choice.num_options for choice in space.choices)
        kept = tuple(Term(columns=columns, table=table) for columns, table in summed.items() if table.any())
        return cls(widths=widths, offset=float(offset), terms=kept)

    def scaled(self, factor: float) -> tuple[Term, ...]:
        """The terms times ``factor``, for a weighted sum of look-ups."""
        return tuple(Term(columns=term.columns, table=factor * term.table) for term in self.terms)

    def apply(self, population: Population) -> Floats:
        """The sums ``(n,)`` for canonical rows ``(n, m)``. A row's sum does not depend on the rows around it."""
        out = np.full(len(population), self.offset)
        for begin in range(0, len(population), _CHUNK):
            part = slice(begin, begin + _CHUNK)
            self._add(population[part], out[part])
        return out

    def _add(self, rows: Population, out: Floats) -> None:
        groups, tables, large = self._plan
        states = [self._states(rows, group) for group in groups]
        index = np.empty(len(rows), dtype=np.int32)
        for (one, other), table in tables:
            if one == other:
                out += table.take(states[one])
            else:
                np.multiply(states[one], np.int32(self._num_states(groups[other])), out=index)
                index += states[other]
                out += table.take(index)
        for term in large:
            out += term.table.ravel().take(self._states(rows, term.columns))

    def _states(self, rows: Population, columns: Sequence[int]) -> NDArray[np.int32]:
        """``(n,)``: the joint option of some choices, numbered as their table's entries are."""
        state = np.zeros(len(rows), dtype=np.int32)
        for column in columns:
            width = self.widths[column]
            values = rows[:, column].astype(np.int32)
            values[values < 0] = width
            state *= np.int32(width + 1)
            state += values
        return state

    def _num_states(self, columns: Sequence[int]) -> int:
        return math.prod(self.widths[column] + 1 for column in columns)

    @cached_property
    def _plan(self) -> tuple[list[list[int]], list[tuple[tuple[int, int], Floats]], list[Term]]:
        """Groups of columns, a flat table for each two groups (or one, twice) that a term needs, and larger terms."""
        small = [term for term in self.terms if len(term.columns) <= 2]
        groups: list[list[int]] = []
        for column in sorted({column for term in small for column in term.columns}):
            if groups and self._num_states([*groups[-1], column]) <= _MAX_STATES:
                groups[-1].append(column)
            else:
                groups.append([column])
        home = {column: k for k, group in enumerate(groups) for column in group}
        wanted: dict[tuple[int, int], list[Term]] = defaultdict(list)
        for term in small:
            wanted[home[term.columns[0]], home[term.columns[-1]]].append(term)
        # What needs one group only goes along with a table of two, if there is one.
        for key in [key for key in wanted if key[0] == key[1]]:
            host = next((other for other in wanted if other[0] != other[1] and key[0] in other), None)
            if host is not None:
                wanted[host] += wanted.pop(key)
        tables = [(key, self._joint(groups, key, terms)) for key, terms in wanted.items()]
        return groups, tables, [term for term in self.terms if len(term.columns) > 2]

    def _joint(self, groups: list[list[int]], key: tuple[int, int], terms: list[Term]) -> Floats:
        columns = groups[key[0]] if key[0] == key[1] else groups[key[0]] + groups[key[1]]
        joint = np.zeros([self.widths[column] + 1 for column in columns])
        for term in terms:
            shape = [self.widths[column] + 1 if column in term.columns else 1 for column in columns]
            joint += term.table.reshape(shape)
        return joint.ravel()


def one_hot_terms(space: SearchSpace, weights: Floats) -> tuple[Term, ...]:
    """The terms of ``one_hot(space, population) @ weights``."""
    terms, start = [], 0
    for column, choice in enumerate(space.choices):
        part = weights[start : start + choice.num_options]
        terms.append(Term(columns=(column,), table=np.append(part, 0.0)))
        start += choice.num_options
    return tuple(terms)


def pairwise_terms(space: SearchSpace, pairs: Sequence[tuple[int, int]], weights: Floats) -> tuple[Term, ...]:
    """The terms of ``pairwise(space, population) @ weights``, for ``pairs`` as `nas.space.encodings.pairs` has them."""
    terms, start = [], 0
    for i, j in pairs:
        shape = (space.choices[i].num_options, space.choices[j].num_options)
        size = shape[0] * shape[1]
        table = np.pad(weights[start : start + size].reshape(shape), ((0, 1), (0, 1)))
        terms.append(Term(columns=(i, j), table=table))
        start += size
    return tuple(terms)
