"""What whole populations ask for: precisions and sparsity of many rows at once.

Responsible for resolving the ``deploy`` section over columns instead of row by row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.space.deployment import FLOAT, PRECISIONS, TWO_OF_FOUR
from nas.space.moves import Population
from nas.space.network import Parameter
from nas.space.space import SearchSpace
from nas.space.template import Value, columns_of, value_at


class DeployedRows:
    """The deployments of a space's rows.

    Attributes:
        space: with or without a ``deploy`` section.
        states_precision: whether the space says what its networks are shipped in.
        states_sparsity: whether it says how many weights are zero.
    """

    def __init__(self, space: SearchSpace) -> None:
        deploy = space.deploy
        self.space = space
        self.states_precision = bool(space.precisions)
        self.states_sparsity = deploy is not None and deploy.sparsity is not None
        self._num_built = space.undeployed.num_choices
        self._width = len(space.choices)

    def built(self, population: Population) -> Population:
        """Rows ``(n, k)`` of ``space.undeployed``: what is built, whatever becomes of it."""
        return population[:, : self._num_built]

    def codes(self, population: Population) -> NDArray[np.intp]:
        """Positions in `PRECISIONS`: ``(n, 1)``, or ``(n, s)`` by entry of the network where these may differ."""
        deploy = self.space.deploy
        rows = np.asarray(population)
        if deploy is None:
            return np.full((len(rows), 1), PRECISIONS.index(FLOAT))
        whole = self._column(deploy.precision, rows, _code, PRECISIONS.index(FLOAT))
        if not deploy.stages:
            return whole[:, None].astype(np.intp)
        own = {name: self._column(value, rows, _code, 0) for name, value in deploy.stages.items()}
        return np.column_stack([own.get(name, whole) for name in self.space.stage_names]).astype(np.intp)

    def zeros(self, population: Population) -> NDArray[np.float64]:
        """Share of the weights that are zero: ``(n,)``."""
        deploy = self.space.deploy
        return self._column(None if deploy is None else deploy.sparsity, np.asarray(population), _zeros, 0.0)

    def _column(self, value: Value | None, rows: Population, number: object, otherwise: float) -> NDArray[np.float64]:
        """A value ``(n,)`` of each row, found once for each combination of the choices that decide it."""
        assert callable(number)
        if value is None:
            return np.full(len(rows), float(otherwise))
        columns = sorted(columns_of(value))
        if not columns:
            return np.full(len(rows), number(value_at(value, np.zeros(self._width, dtype=np.int16))))
        keys = np.zeros(len(rows), dtype=np.int64)
        for column in columns:
            keys = keys * (self.space.choices[column].num_options + 1) + rows[:, column] + 1
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        found = [number(value_at(value, rows[place])) for place in first.tolist()]
        return np.array(found)[inverse.reshape(-1)] if found else np.zeros(0)


def _code(value: Parameter) -> float:
    assert isinstance(value, str)
    return float([*PRECISIONS].index(value))  # type: ignore[arg-type]  # the grammar admits no other


def _zeros(value: Parameter) -> float:
    if value == TWO_OF_FOUR:
        return 0.5
    assert isinstance(value, int | float)
    return float(value)
