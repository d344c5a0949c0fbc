"""Cells: operators on the edges of a directed acyclic graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nas.space.network import Cell, Edge


def execution_order(cell: Cell) -> tuple[Edge, ...]:
    """Edges in the order in which they are computed: by target, then as they stand in the cell."""
    return tuple(sorted(cell.edges, key=lambda edge: edge.target))


class CellModule(nn.Module):
    """Applies the operators of a cell; a node is the sum of its edges.

    A node that no edge reaches gives zeros of the input's shape; so does the output. Operators that do not reach
    the output are kept and computed, as the cell says.

    Args:
        cell: the graph.
        operators: one module an edge, in `execution_order`.
    """

    def __init__(self, cell: Cell, operators: Sequence[nn.Module]) -> None:
        super().__init__()
        self.num_nodes = cell.num_nodes
        self.links = tuple((edge.source, edge.target) for edge in execution_order(cell))
        self.edges = nn.ModuleDict()
        for k, ((source, target), operator) in enumerate(zip(self.links, operators, strict=True)):
            self.edges[f"{source}_to_{target}_{k}"] = operator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes: list[torch.Tensor | None] = [x] + [None] * (self.num_nodes - 1)
        for (source, target), operator in zip(self.links, self.edges.values(), strict=True):
            value = nodes[source]
            if value is None:
                value = nodes[source] = torch.zeros_like(x)
            result = operator(value)
            total = nodes[target]
            nodes[target] = result if total is None else total + result
        output = nodes[-1]
        return torch.zeros_like(x) if output is None else output
