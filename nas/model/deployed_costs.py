"""Costs of populations as they are shipped: in the precision, and with the zeros, that each row asks for.

Responsible for the rows of a space with a ``deploy`` section. What is built is counted by `PopulationCosts` over the
space without the choices of precision and sparsity, whose rows are the first columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.model.packing import packed_bytes
from nas.model.population_costs import PopulationCosts
from nas.space.deployed_rows import DeployedRows
from nas.space.moves import Population
from nas.space.space import SearchSpace

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class DeployedCosts:
    """Exact figures of a space's rows in their own precision; satisfies `nas.strategy.screening.Costs`.

    Attributes:
        space: that rows belong to.
        built: figures of ``space.undeployed``.
    """

    space: SearchSpace
    built: PopulationCosts

    @cached_property
    def rows(self) -> DeployedRows:
        """What the rows of the space ask for."""
        return DeployedRows(self.space)

    def costs(self, population: ArrayLike) -> dict[str, Floats]:
        """``macs``, ``parameters``, ``size_bytes`` and ``peak_activation_bytes``, each ``(n,)``, of each row's file.

        Where the space says something about sparsity, ``compressed_bytes`` too: of the file when it is packed, an
        estimate (`nas.model.packing`). Sparsity changes neither the size of the file nor what it needs to run. NaN
        where the network cannot be built.
        """
        rows = np.asarray(population)
        asked = self.rows
        found = self.built.costs(asked.built(rows))
        if not (asked.states_precision or asked.states_sparsity):
            return found
        files = self.files(rows)
        if asked.states_precision:
            found |= {"size_bytes": files["size_bytes"], "peak_activation_bytes": files["peak_bytes"]}
        if asked.states_sparsity:
            found["compressed_bytes"] = packed_bytes(files, asked.zeros(rows), asked.codes(rows).max(axis=1))
        return found

    def files(self, population: Population) -> dict[str, Floats]:
        """See `PopulationCosts.files`, in the precision of each row."""
        return self.built.files(self.rows.built(population), self.rows.codes(population))

    def buildable(self, population: ArrayLike) -> NDArray[np.bool_]:
        """As `PopulationCosts.buildable`: ``(n,)``."""
        return self.built.buildable(self.rows.built(np.asarray(population)))
