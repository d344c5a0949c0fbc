"""Path encoding: which sequences of operators lead from a cell's input to its output.

Responsible for cells as sets of paths [White2021]. Absent edges, dead ends and plain connections are folded away
first, so cells that compute the same look the same, however their edges are spelled.

References:
    [White2021] C. White, W. Neiswanger, Y. Savani. BANANAS: Bayesian Optimization with Neural Architectures for Neural
        Architecture Search. AAAI 2021.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.space.choice import is_active
from nas.space.moves import Population
from nas.space.network import Cell, Layer
from nas.space.slot import Slot
from nas.space.space import SearchSpace
from nas.space.template import CellTemplate

MAX_CELLS = 50_000


@dataclass(frozen=True, kw_only=True, eq=False)
class CellPaths:
    """The paths of one cell, for every way to fill it.

    Attributes:
        where: the cell's place in the template.
        columns: the choices that decide it.
        names: of the sequences of operators, ``relu_conv_norm(kernel=3) > avg_pool(kernel=3)``; ``-`` is a plain
            connection.
        counts: ``(*options, p)`` float32: how many paths of each sequence there are. Each leading axis is a column and
            one longer than it has options: its last entry is that of an inactive choice.
    """

    where: str
    columns: tuple[int, ...]
    names: tuple[str, ...]
    counts: NDArray[np.float32]

    def encode(self, population: Population) -> NDArray[np.float32]:
        """``(n, p)``: the counts for the rows of a population ``(n, m)``."""
        # An inactive choice is -1: the last entry of its axis.
        return np.asarray(self.counts[tuple(population[:, column] for column in self.columns)])


def cell_paths(space: SearchSpace) -> tuple[CellPaths, ...]:
    """The cells of a space, each set of choices once; without cells that can be filled in over `MAX_CELLS` ways.

    A space without cells, a flat one among them, has none. Entries that no canonical row asks for are zeros.
    """
    found: dict[tuple[int, ...], CellPaths] = {}
    for slot in space.slots:
        ways = math.prod(space.choices[column].num_options + 1 for column in slot.choices)
        if isinstance(slot.stage, CellTemplate) and slot.choices not in found and ways <= MAX_CELLS:
            found[slot.choices] = _paths_of(space, slot)
    return tuple(found.values())


def path_names(space: SearchSpace) -> tuple[str, ...]:
    """Names of the columns of `path_encoding`."""
    return tuple(f"{cell.where}: {name}" for cell in cell_paths(space) for name in cell.names)


def path_encoding(space: SearchSpace, population: Population) -> NDArray[np.float32]:
    """``(n, d)``: the paths of all cells side by side; ``(n, 0)`` where the space has none that `cell_paths` lists."""
    parts = [cell.encode(population) for cell in cell_paths(space)]
    return np.concatenate([np.zeros((len(population), 0), dtype=np.float32), *parts], axis=1)


def _paths_of(space: SearchSpace, slot: Slot) -> CellPaths:
    shape = tuple(space.choices[column].num_options + 1 for column in slot.choices)
    row = np.full(space.num_choices, -1, dtype=np.int16)
    filled: dict[tuple[int, ...], Counter[str]] = {}
    for options in np.ndindex(*shape):
        row[list(slot.choices)] = [k if k < size - 1 else -1 for k, size in zip(options, shape, strict=True)]
        if _is_possible(space, slot.choices, row):
            filled[options] = _sequences(slot.resolve(row))
    names = tuple(sorted(set().union(*filled.values())))
    place = {name: k for k, name in enumerate(names)}
    counts = np.zeros((*shape, len(names)), dtype=np.float32)
    for options, sequences in filled.items():
        for name, count in sequences.items():
            counts[(*options, place[name])] = count
    return CellPaths(where=slot.where, columns=slot.choices, names=names, counts=counts)


def _is_possible(space: SearchSpace, columns: tuple[int, ...], row: NDArray[np.int16]) -> bool:
    """Whether a canonical row may look like this in ``columns``; choices that hang on others are taken as active."""
    for column in columns:
        parent = space.choices[column].parent
        active = is_active(space.choices, column, row) if parent in columns else True
        if active != (row[column] >= 0):
            return False
    return True


def _sequences(stage: Layer | Cell | None) -> Counter[str]:
    """How many paths of each sequence a folded stage has: a vanished one is a plain connection."""
    if stage is None:
        return Counter({"-": 1})
    if isinstance(stage, Layer):
        return Counter({_name(stage): 1})
    at_node: list[Counter[str]] = [Counter() for _ in range(stage.num_nodes)]
    at_node[0][""] = 1
    for edge in sorted(stage.edges, key=lambda edge: (edge.target, edge.source)):
        for path, count in at_node[edge.source].items():
            step = "" if edge.layer.op == "identity" else _name(edge.layer)
            at_node[edge.target][" > ".join(part for part in (path, step) if part)] += count
    return Counter({path or "-": count for path, count in at_node[-1].items()})


def _name(layer: Layer) -> str:
    listed = ", ".join(f"{key}={layer.parameters[key]}" for key in sorted(layer.parameters))
    return f"{layer.op}({listed})" if listed else layer.op
