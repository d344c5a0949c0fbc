"""What a search space resolves to: a network with no choice left.

Responsible for the value types that `nas.model` builds from. Nothing here knows torch or choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nas.space.deployment import Deployment

Parameter = bool | int | float | str | tuple["Parameter", ...]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One operator with its parameters.

    Attributes:
        op: a built-in operator (see `nas.model.operators`), or an import path ``package.module.Name``.
        parameters: the operator's arguments; scalars or tuples of scalars.
        where: its place in the template, e.g. ``network[2].repeat.block``, for error messages only.
    """

    op: str
    parameters: Mapping[str, Parameter]
    where: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True)
class Edge:
    """An operator from node ``source`` to node ``target`` of a cell (``source < target``)."""

    source: int
    target: int
    layer: Layer


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A directed acyclic graph. Node 0 is the input, node ``num_nodes - 1`` the output, a node sums its edges.

    A cell without edges into its output yields zeros of its input's shape.
    """

    num_nodes: int
    edges: tuple[Edge, ...]
    where: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A resolved template: applied from first to last stage.

    Attributes:
        resolution: pixels (int), a multiple of the data's resolution (float), or None for the data's own.
        stages: layers and cells, in order, as they are shipped.
        digest: 16 hexadecimal digits over the canonical form; equal for two networks that are built the same. A
            deployment that is not the default counts, and then what is trained first.
        deployment: how it is shipped, in its canonical form.
        trained: digest of the wider network that is trained first and then shrunk; empty where there is none.
        stage_names: of the entry of the template that each stage comes from; empty where it is not known.
    """

    resolution: int | float | None
    stages: tuple[Layer | Cell, ...]
    digest: str
    deployment: Deployment = field(default_factory=Deployment)
    trained: str = ""
    stage_names: tuple[str, ...] = field(default=(), compare=False)

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precision of each stage."""
        if not self.deployment.is_mixed:
            return (self.deployment.precision,) * len(self.stages)
        return tuple(self.deployment.of_stage(name) for name in self.stage_names)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the network's input for data of that size, in pixels."""
        if self.resolution is None:
            return height, width
        if isinstance(self.resolution, int):
            return self.resolution, self.resolution
        return max(1, round(height * self.resolution)), max(1, round(width * self.resolution))
