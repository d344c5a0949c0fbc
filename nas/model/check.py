"""Checking a search space before anything is spent on it.

Responsible for finding every operator and parameter of a template that no network could be built with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.errors import UserError, in_file
from nas.model.build import DoesNotFit, build, check_data
from nas.model.operators.registry import operator_of
from nas.model.population_costs import PopulationCosts
from nas.model.shapes import InputShape
from nas.space.moves import canonical, sample
from nas.space.network import Cell, Layer, Network
from nas.space.space import SearchSpace

_NUM_SAMPLES = 64


def check_space(space: SearchSpace, *, input_shape: InputShape, num_classes: int, allow: Sequence[str] = ()) -> None:
    """Raises for a mistake in a space, with its file and the place in the template.

    Looks at every option of every choice at least once, with the other choices at their first option, and at 64
    random architectures: all operators must be known, with valid parameters, and at least one architecture must be
    buildable for the data. Parts of cells that reach no output are looked at too.

    Args:
        space: to check.
        input_shape: channels, height, width of the data.
        num_classes: of the classifier.
        allow: packages that custom operators may come from.

    Raises:
        UserError: an unknown operator or parameter, a value against its rule, a custom operator that cannot be
            imported or called, or no architecture that fits the data.
    """
    check_data(input_shape, num_classes)
    covering, random = _rows_with_every_option(space), sample(space, _NUM_SAMPLES, np.random.default_rng(0))
    try:
        seen: set[tuple[str, str]] = set()
        for row in np.concatenate([covering, random]):
            for layer in _layers(space.network(row, fold=False)):
                key = (layer.op, repr(sorted(layer.parameters.items())))
                if key not in seen:
                    seen.add(key)
                    operator_of(layer, allow=allow)
        costs = PopulationCosts(space, input_shape=input_shape, num_classes=num_classes, allow=allow)
        if not costs.buildable(covering).any() and not costs.buildable(random).any():
            _raise_for(space, covering[0], input_shape=input_shape, num_classes=num_classes, allow=allow)
    except UserError as error:
        raise UserError(in_file(space.source, error.where), error.problem, error.advice) from error


def _raise_for(
    space: SearchSpace, row: NDArray[np.int16], *, input_shape: InputShape, num_classes: int, allow: Sequence[str]
) -> None:
    try:
        build(space.network(row), input_shape=input_shape, num_classes=num_classes, allow=allow)
    except DoesNotFit as error:
        problem = f"{error.problem}; no architecture that was tried can be built for this data"
        raise UserError(error.where, problem, error.advice) from error


def _rows_with_every_option(space: SearchSpace) -> NDArray[np.int16]:
    """Canonical rows in which every option of every choice is taken at least once."""
    wanted: list[list[int]] = [[0] * len(space.choices)]
    for column, choice in enumerate(space.choices):
        for option in range(choice.num_options):
            row = [0] * len(space.choices)
            row[column] = option
            child = choice
            while child.parent is not None:
                row[child.parent] = min(child.when)
                child = space.choices[child.parent]
            wanted.append(row)
    return np.unique(canonical(space, np.array(wanted, dtype=np.int16).reshape(len(wanted), -1)), axis=0)


def _layers(network: Network) -> Iterator[Layer]:
    for stage in network.stages:
        if isinstance(stage, Cell):
            yield from (edge.layer for edge in stage.edges)
        else:
            yield stage
