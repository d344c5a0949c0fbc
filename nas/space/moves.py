"""Moves over whole populations: drawing, changing, mixing and listing rows of choices.

Responsible for rows staying canonical. A population is a matrix ``(n, m)`` int16 of option indices with -1 exactly
where a choice is inactive. Everything works column by column, parents first, so that a column's parent is final when
the column is looked at; matrices are stored column by column (Fortran order) for that reason.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.errors import UserError
from nas.space.space import SearchSpace

Population = NDArray[np.int16]


def sample(space: SearchSpace, n: int, rng: np.random.Generator) -> Population:
    """``n`` rows ``(n, m)``; each active choice is drawn uniformly from its options, independently of the others."""
    out = _empty(space, n)
    active = _Activity(space, out)
    for column, choice in enumerate(space.choices):
        drawn = _draw(choice.num_options, n, rng)
        mask = active.of(column)
        out[:, column] = drawn if mask is None else np.where(mask, drawn, np.int16(-1))
    return out


def mutate(
    space: SearchSpace, population: ArrayLike, rng: np.random.Generator, *, rate: float | None = None
) -> Population:
    """Each row ``(n, m)`` with at least one of its active choices changed.

    Args:
        space: of the population.
        population: canonical rows ``(n, m)``.
        rng: source of randomness.
        rate: probability with which an active choice with more than one option changes; None is one over their
            number, so that one changes on average. A row in which none would change gets one, drawn uniformly.

    Choices that a change switches on are drawn uniformly. A row in which nothing can change comes back as it was.

    Raises:
        UserError: ``rate`` outside (0, 1].
    """
    if rate is not None and not 0 < rate <= 1:
        raise UserError("rate", f"must be above 0 and at most 1, got {rate}")
    old = _matrix(space, population)
    n, m = old.shape
    counts = np.array([choice.num_options for choice in space.choices], dtype=np.int64)
    can_change = (old >= 0) & (counts > 1)
    num = can_change.sum(axis=1, keepdims=True)
    draws = rng.random((n, m))
    flips = can_change & (draws < (1.0 / np.maximum(num, 1) if rate is None else rate))
    lacking = np.flatnonzero(~flips.any(axis=1) & (num[:, 0] > 0))
    if lacking.size:
        # Conditional on no draw below the rate, the smallest draw is still a uniform pick.
        flips[lacking, np.where(can_change[lacking], draws[lacking], 2.0).argmin(axis=1)] = True
    out = _empty(space, n)
    active = _Activity(space, out)
    for column, choice in enumerate(space.choices):
        values, k = old[:, column], choice.num_options
        drawn = _draw(k, n, rng)
        if k > 1:
            other = (values + 1 + _draw(k - 1, n, rng)) % k
            values = np.where(flips[:, column], other, values)
        values = np.where(values < 0, drawn, values)
        mask = active.of(column)
        out[:, column] = values if mask is None else np.where(mask, values, np.int16(-1))
    return out


def crossover(space: SearchSpace, a: ArrayLike, b: ArrayLike, rng: np.random.Generator) -> Population:
    """Children ``(n, m)`` of the pairs ``a[i], b[i]``: each active choice from either parent with probability 1/2.

    A choice that is active in the child and in one parent only takes that parent's value; as a child's choices come
    from its parents, there is always one.
    """
    first, second = _matrix(space, a), _matrix(space, b)
    if first.shape != second.shape:
        raise UserError("crossover", f"must have two populations of one shape, got {first.shape} and {second.shape}")
    n = len(first)
    out = _empty(space, n)
    active = _Activity(space, out)
    for column in range(space.num_choices):
        mine, theirs = first[:, column], second[:, column]
        take_first = (_draw(2, n, rng) == 0) & (mine >= 0) | (theirs < 0)
        values = np.where(take_first, mine, theirs)
        mask = active.of(column)
        out[:, column] = values if mask is None else np.where(mask, values, np.int16(-1))
    return out


def neighbours(space: SearchSpace, row: ArrayLike) -> Population:
    """All rows ``(k, m)`` that differ from a canonical ``row`` ``(m,)`` in one active choice and what hangs on it.

    Choices that the change switches on take their first option; those that it switches off become -1. Ordered by
    choice, then option; distinct, and ``row`` itself is not among them.
    """
    origin = _matrix(space, np.asarray(row)[np.newaxis])[0]
    places = [
        (column, option)
        for column, choice in enumerate(space.choices)
        for option in range(choice.num_options)
        if 0 <= origin[column] != option
    ]
    near = np.repeat(origin[np.newaxis], len(places), axis=0)
    if places:
        columns, options = np.array(places).T
        near[np.arange(len(places)), columns] = options
    return canonical(space, near)


def enumerate_rows(space: SearchSpace, *, limit: int = 1_000_000) -> Population:
    """All canonical rows ``(size, m)``, in lexicographic order.

    Raises:
        UserError: there are more than ``limit``.
    """
    if space.size > limit:
        rule = f"must have at most {limit:,} architectures to be listed, got {space.size:.3g}"
        raise UserError(space.name, rule.replace(",", " "), "draw a sample instead")
    rows = np.full((1, space.num_choices), -1, dtype=np.int16)
    for column, choice in enumerate(space.choices):
        mask = _Activity(space, rows).of(column)
        active = np.ones(len(rows), dtype=bool) if mask is None else mask
        copies = np.where(active, choice.num_options, 1)
        starts = np.repeat(np.cumsum(copies) - copies, copies)
        rows = np.repeat(rows, copies, axis=0)
        offsets = np.arange(len(rows)) - starts
        rows[:, column] = np.where(np.repeat(active, copies), offsets, -1)
    return np.asfortranarray(rows)


def canonical(space: SearchSpace, population: ArrayLike) -> Population:
    """The rows ``(n, m)`` with -1 for inactive choices, and the first option for active ones that have none.

    Raises:
        UserError: an index that no option has.
    """
    given = _matrix(space, population)
    out = _empty(space, len(given))
    active = _Activity(space, out)
    for column, choice in enumerate(space.choices):
        values = given[:, column]
        if values.size and (values.max() >= choice.num_options or values.min() < -1):
            rule = f"must have -1 to {choice.num_options - 1} for '{choice.name}'"
            raise UserError(f"population of {space.name}", f"{rule}, got {values.min()} to {values.max()}")
        values = np.maximum(values, 0)
        mask = active.of(column)
        out[:, column] = values if mask is None else np.where(mask, values, np.int16(-1))
    return out


def is_canonical(space: SearchSpace, population: ArrayLike) -> NDArray[np.bool_]:
    """Whether each row ``(n, m)`` is canonical: ``(n,)``."""
    given = _matrix(space, population)
    good = np.ones(len(given), dtype=bool)
    active = _Activity(space, given)
    for column, choice in enumerate(space.choices):
        values = given[:, column]
        fits = (values >= 0) & (values < choice.num_options)
        mask = active.of(column)
        good &= fits if mask is None else np.where(mask, fits, values == -1)
    return good


class _Activity:
    """Which rows have a choice active, for columns in rising order; siblings under one condition share the answer."""

    def __init__(self, space: SearchSpace, population: Population) -> None:
        self._choices = space.choices
        self._population = population
        self._known: dict[tuple[int, frozenset[int]], NDArray[np.bool_]] = {}

    def of(self, column: int) -> NDArray[np.bool_] | None:
        """Mask ``(n,)``, None where the choice is always active. The parent's column must be final."""
        choice = self._choices[column]
        if choice.parent is None:
            return None
        key = (choice.parent, choice.when)
        if key not in self._known:
            values = self._population[:, choice.parent]
            count = self._choices[choice.parent].num_options
            if choice.when == frozenset(range(count)):
                mask = values >= 0
            elif choice.when == frozenset(range(min(choice.when), count)):
                mask = values >= min(choice.when)
            else:
                mask = np.logical_or.reduce([values == option for option in choice.when])
            self._known[key] = mask
        return self._known[key]


def _empty(space: SearchSpace, n: int) -> Population:
    return np.empty((n, space.num_choices), dtype=np.int16, order="F")


def _draw(count: int, n: int, rng: np.random.Generator) -> Population:
    return rng.integers(0, count, size=n, dtype=np.int16)


def _matrix(space: SearchSpace, population: ArrayLike) -> Population:
    matrix = np.asarray(population)
    if matrix.ndim != 2 or matrix.shape[1] != space.num_choices or (matrix.dtype.kind not in "iu" and matrix.size):
        rule = f"must be option indices of shape (n, {space.num_choices})"
        raise UserError(f"population of {space.name}", f"{rule}, got {matrix.shape} of {matrix.dtype}")
    return matrix.astype(np.int16, copy=False)
