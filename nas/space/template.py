"""A parsed template: the tree that the grammar yields and that a row of choices resolves.

Responsible for the node types and for putting values into holes. Folding is `nas.space.folding`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from nas.space.choice import Condition
from nas.space.network import Cell, Edge, Layer, Parameter

# Nodes compare by identity: a definition that is used twice is one node with one set of choices.


@dataclass(frozen=True, eq=False, slots=True)
class Constant:
    """A plain value."""

    value: Parameter


@dataclass(frozen=True, eq=False, slots=True)
class ListValue:
    """A list with holes in it; becomes a tuple."""

    items: tuple[Value, ...]


@dataclass(frozen=True, eq=False, slots=True)
class ValueHole:
    """A value that the choice in column ``choice`` decides."""

    choice: int
    options: tuple[Value, ...]


Value = Constant | ListValue | ValueHole


@dataclass(frozen=True, eq=False, slots=True)
class LayerTemplate:
    """One operator whose kind and parameters may have holes."""

    op: Value
    parameters: Mapping[str, Value]
    where: str


@dataclass(frozen=True, eq=False, slots=True)
class CellTemplate:
    """A cell whose edges are layers or holes of layers; edges ordered by target, then source."""

    num_nodes: int
    edges: tuple[tuple[int, int, Stage], ...]
    where: str


@dataclass(frozen=True, eq=False, slots=True)
class Sequence:
    """Stages one after the other."""

    items: tuple[Stage, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Repeat:
    """Up to ``len(repetitions)`` stages, of which a row takes the first ``times``."""

    times: Value
    repetitions: tuple[Stage, ...]


@dataclass(frozen=True, eq=False, slots=True)
class StageHole:
    """A stage that the choice in column ``choice`` decides."""

    choice: int
    options: tuple[Stage, ...]
    where: str


Stage = LayerTemplate | CellTemplate | Sequence | Repeat | StageHole


def value_at(value: Value, row: np.ndarray) -> Parameter:
    """The value with the holes filled as ``row`` ``(m,)`` says. The row must be canonical."""
    if isinstance(value, Constant):
        return value.value
    if isinstance(value, ListValue):
        return tuple(value_at(item, row) for item in value.items)
    return value_at(value.options[row[value.choice]], row)


def layer_at(stage: Stage, row: np.ndarray) -> Layer:
    """The layer of a stage that can only be a layer: `LayerTemplate`, or a hole of such."""
    while isinstance(stage, StageHole):
        stage = stage.options[row[stage.choice]]
    assert isinstance(stage, LayerTemplate)
    parameters = {key: value_at(value, row) for key, value in stage.parameters.items()}
    return Layer(op=str(value_at(stage.op, row)), parameters=parameters, where=stage.where)


def cell_at(cell: CellTemplate, row: np.ndarray) -> Cell:
    """The cell with all its edges, ``none`` and ``identity`` among them."""
    edges = tuple(Edge(source=i, target=j, layer=layer_at(stage, row)) for i, j, stage in cell.edges)
    return Cell(num_nodes=cell.num_nodes, edges=edges, where=cell.where)


def stages_at(stage: Stage, row: np.ndarray, cells: dict[CellTemplate, Cell] | None = None) -> Iterator[Layer | Cell]:
    """The layers and cells that ``row`` asks for, flattened, not folded, in network order.

    A cell that a definition puts in several places comes as one object each time; ``cells`` remembers them.
    """
    cells = {} if cells is None else cells
    if isinstance(stage, LayerTemplate):
        yield layer_at(stage, row)
    elif isinstance(stage, CellTemplate):
        if stage not in cells:
            cells[stage] = cell_at(stage, row)
        yield cells[stage]
    elif isinstance(stage, StageHole):
        yield from stages_at(stage.options[row[stage.choice]], row, cells)
    elif isinstance(stage, Repeat):
        times = value_at(stage.times, row)
        assert isinstance(times, int)
        for item in stage.repetitions[:times]:
            yield from stages_at(item, row, cells)
    else:
        for item in stage.items:
            yield from stages_at(item, row, cells)


def columns_of(node: Value | Stage) -> set[int]:
    """The choices that resolving ``node`` may look at."""
    if isinstance(node, Constant):
        return set()
    if isinstance(node, ValueHole | StageHole):
        return {node.choice}.union(*(columns_of(option) for option in node.options))
    if isinstance(node, LayerTemplate):
        return columns_of(node.op).union(*(columns_of(value) for value in node.parameters.values()))
    if isinstance(node, CellTemplate):
        return set[int]().union(*(columns_of(stage) for _, _, stage in node.edges))
    if isinstance(node, Repeat):
        return columns_of(node.times).union(*(columns_of(item) for item in node.repetitions))
    return set[int]().union(*(columns_of(item) for item in node.items))


def times_conditions(times: Value, index: int) -> list[Condition] | None:
    """What must hold for repetition ``index`` (from 0) to stand; None: it never does, []: it always does."""
    if isinstance(times, Constant):
        assert isinstance(times.value, int)
        return [] if times.value > index else None
    assert isinstance(times, ValueHole)
    counts = [option.value for option in times.options if isinstance(option, Constant)]
    when = frozenset(k for k, count in enumerate(counts) if isinstance(count, int) and count > index)
    if len(when) == len(counts):
        return []
    return [Condition(choice=times.choice, when=when)] if when else None


def plain_form(node: Value | Stage) -> object:
    """The tree as plain lists, equal for templates that were read the same; for digests."""
    if isinstance(node, Constant):
        return ["=", type(node.value).__name__, node.value]
    if isinstance(node, ValueHole | StageHole):
        return ["choose", node.choice, [plain_form(option) for option in node.options]]
    if isinstance(node, LayerTemplate):
        return ["op", plain_form(node.op), [[key, plain_form(node.parameters[key])] for key in sorted(node.parameters)]]
    if isinstance(node, CellTemplate):
        return ["cell", node.num_nodes, [[i, j, plain_form(stage)] for i, j, stage in node.edges]]
    if isinstance(node, Repeat):
        return ["repeat", plain_form(node.times), [plain_form(item) for item in node.repetitions]]
    return ["sequence", [plain_form(item) for item in node.items]]
