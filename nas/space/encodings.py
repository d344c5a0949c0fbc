"""Encodings: populations as the real-valued matrices that models and samplers take.

Responsible for the order and the names of their columns. Paths through cells are `nas.space.paths`' business.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nas.space.moves import Population
from nas.space.space import SearchSpace


def one_hot(space: SearchSpace, population: Population) -> NDArray[np.float32]:
    """``(n, d)`` with a 1 for each chosen option, 0 elsewhere; an inactive choice has zeros only.

    ``d`` is the number of options of all choices; `one_hot_names` names the columns.
    """
    widths = [choice.num_options for choice in space.choices]
    out = np.zeros((len(population), sum(widths)), dtype=np.float32, order="F")
    start = 0
    for column, width in enumerate(widths):
        values = population[:, column]
        for option in range(width):
            out[:, start + option] = values == option
        start += width
    return out


def one_hot_names(space: SearchSpace) -> tuple[str, ...]:
    """Names of the columns of `one_hot`: ``stage1.0.kernel=3``."""
    return tuple(f"{choice.name}={label}" for choice in space.choices for label in choice.labels)


def ordinal(space: SearchSpace, population: Population) -> NDArray[np.float32]:
    """``(n, m)``: each choice's option index scaled to [0, 1]; 0 for inactive choices and those of one option."""
    out = np.empty((len(population), space.num_choices), dtype=np.float32, order="F")
    for column, choice in enumerate(space.choices):
        top = np.float32(max(1, choice.num_options - 1))
        np.divide(np.maximum(population[:, column], 0), top, out=out[:, column], dtype=np.float32)
    return out


def ordinal_names(space: SearchSpace) -> tuple[str, ...]:
    """Names of the columns of `ordinal`: the choices' names."""
    return tuple(choice.name for choice in space.choices)


def pairs(space: SearchSpace) -> tuple[tuple[int, int], ...]:
    """The pairs of columns that `pairwise` goes through, in its order: ``(0, 1), (0, 2), ..., (1, 2), ...``."""
    return tuple((i, j) for i in range(space.num_choices) for j in range(i + 1, space.num_choices))


def pairwise(space: SearchSpace, population: Population) -> NDArray[np.float32]:
    """``(n, d)`` with a 1 for each pair of chosen options of two different choices, 0 elsewhere.

    Pairs of choices are ordered as `pairs` gives them, and within one by the first choice's option, then the second's;
    a pair of which one is inactive has zeros only. ``d`` grows with the square of the number of options: count it
    with `num_pairwise` before asking for it.
    """
    out = np.zeros((len(population), num_pairwise(space)), dtype=np.float32, order="F")
    start = 0
    for i, j in pairs(space):
        width = space.choices[j].num_options
        joint = population[:, i].astype(np.int64) * width + population[:, j]
        rows = np.flatnonzero((population[:, i] >= 0) & (population[:, j] >= 0))
        out[rows, start + joint[rows]] = 1
        start += space.choices[i].num_options * width
    return out


def num_pairwise(space: SearchSpace) -> int:
    """Columns of `pairwise`."""
    return sum(space.choices[i].num_options * space.choices[j].num_options for i, j in pairs(space))


def pairwise_names(space: SearchSpace) -> tuple[str, ...]:
    """Names of the columns of `pairwise`: ``stage1.0.kernel=3 & stage1.width=16``."""
    first, second = space.choices, space.choices
    return tuple(
        f"{first[i].name}={a} & {second[j].name}={b}"
        for i, j in pairs(space)
        for a in first[i].labels
        for b in second[j].labels
    )


def operator_counts(space: SearchSpace, population: Population) -> NDArray[np.float32]:
    """``(n, d)``: how many choices of a kind have each option; inactive choices count for nothing.

    Two choices are of one kind if the labels of one are all among the other's: the kernels of all blocks, or the
    operators of all edges. Kinds with a single choice are left out, since one-hot has them. ``d`` may be 0.
    """
    return np.asarray(one_hot(space, population) @ operator_projection(space), dtype=np.float32)


def operator_projection(space: SearchSpace) -> NDArray[np.float32]:
    """``(d_one_hot, d)``, 0 or 1: ``one_hot(...) @ operator_projection(space)`` is `operator_counts`."""
    columns = list(_counted(space))
    rows = [(column, label) for column, choice in enumerate(space.choices) for label in choice.labels]
    out = np.zeros((len(rows), len(columns)), dtype=np.float32)
    for place, (column, label) in enumerate(rows):
        for k, (members, counted) in enumerate(columns):
            out[place, k] = label == counted and column in members
    return out


def operator_counts_names(space: SearchSpace) -> tuple[str, ...]:
    """Names of the columns of `operator_counts`: ``0.kernel and 7 more: 3``."""
    return tuple(
        f"{space.choices[members[0]].name} and {len(members) - 1} more: {label}" for members, label in _counted(space)
    )


def kinds_of_choices(space: SearchSpace) -> tuple[tuple[int, ...], ...]:
    """Columns that decide the same kind of thing, by kind, in the order of their first column."""
    labels = [frozenset(choice.labels) for choice in space.choices]
    kind = list(range(len(labels)))
    for later, own in enumerate(labels):
        for earlier, other in enumerate(labels[:later]):
            if own <= other or other <= own:
                old, new = kind[later], kind[earlier]
                kind = [new if value == old else value for value in kind]
    return tuple(tuple(c for c, value in enumerate(kind) if value == first) for first in dict.fromkeys(kind))


def _counted(space: SearchSpace) -> Iterator[tuple[tuple[int, ...], str]]:
    """What `operator_counts` counts: columns of one kind and a label of theirs."""
    for members in kinds_of_choices(space):
        if len(members) > 1:
            for label in dict.fromkeys(label for column in members for label in space.choices[column].labels):
                yield members, label
