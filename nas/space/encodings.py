"""Encodings: populations as the real-valued matrices that models and samplers take.

Responsible for the order and the names of their columns.
"""

from __future__ import annotations

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
