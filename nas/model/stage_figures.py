"""Figures of single stages, found once for each operator and shape.

Responsible for the cache between spaces of millions of networks and the few thousand blocks that they are made of.
A block is built without weights, once for its operator, parameters and input channels, and traced once for each
shape; a cell is put together from the traces of its edges.
"""

from __future__ import annotations

from collections.abc import Sequence

from nas.errors import UserError
from nas.model.build import build_layer, edges_differ
from nas.model.cell import execution_order
from nas.model.costs import Figures, figures_of
from nas.model.layer_table import LayerRow, LayerTable
from nas.model.operators.registry import at_key
from nas.model.shapes import DoesNotFit
from nas.model.trace import Tracer
from nas.model.without_data import without_data
from nas.space.network import Cell, Layer

_Key = tuple[str, str, tuple[int, ...]]


class StageFigures:
    """Finds and remembers the figures of layers and cells by input shape.

    Args:
        num_classes: of classifiers.
        allow: packages that custom operators may come from.
    """

    def __init__(self, *, num_classes: int, allow: Sequence[str] = ()) -> None:
        self._num_classes = num_classes
        self._allow = tuple(allow)
        self._modules: dict[tuple[str, str, int], tuple[Tracer, int]] = {}
        self._traces: dict[_Key, tuple[LayerTable, int]] = {}
        self._figures: dict[object, Figures] = {}

    def find(self, stage: Layer | Cell, in_shape: tuple[int, ...]) -> Figures:
        """Figures of a stage for an input of a shape.

        Raises:
            UserError: the stage is wrong or cannot take the shape; names its place.
        """
        key = (_identity(stage), in_shape)
        figures = self._figures.get(key)
        if figures is None:
            if isinstance(stage, Layer):
                table, parameters = self._layer(stage, in_shape)
            else:
                table, parameters = self._cell(stage, in_shape)
            figures = self._figures[key] = figures_of(table, parameters)
        return figures

    def forget_modules(self) -> None:
        """Lets go of the built operators, some 50 kB each; their figures stay, further shapes build them anew."""
        self._modules.clear()

    def _layer(self, layer: Layer, in_shape: tuple[int, ...]) -> tuple[LayerTable, int]:
        """Trace and number of parameters of one operator."""
        op, parameters = _layer_identity(layer)
        key = (op, parameters, in_shape)
        found = self._traces.get(key)
        if found is None:
            tracer, numbers = self._tracer(layer, in_shape)
            channels, height, width = in_shape
            try:
                found = self._traces[key] = (tracer.trace((channels, height, width)), numbers)
            except UserError as error:
                raise DoesNotFit(at_key(layer.where, error.where), error.problem, error.advice) from error
        return found

    def _tracer(self, layer: Layer, in_shape: tuple[int, ...]) -> tuple[Tracer, int]:
        """An operator's module, in inference mode, and its number of parameters. Height and width do not matter."""
        key = (*_layer_identity(layer), in_shape[0])
        found = self._modules.get(key) if len(in_shape) == 3 else None
        if found is None:
            with without_data():
                module = build_layer(layer, in_shape, num_classes=self._num_classes, allow=self._allow).eval()
            found = self._modules[key] = (Tracer(module), sum(parameter.numel() for parameter in module.parameters()))
        return found

    def _cell(self, cell: Cell, in_shape: tuple[int, ...]) -> tuple[LayerTable, int]:
        """The trace that running the cell's module would give, put together from those of its edges."""
        splice = _Splice(in_shape)
        nodes: dict[int, int] = {0: -1}  # node -> value
        parameters = 0
        for edge in execution_order(cell):
            source = nodes.get(edge.source)
            if source is None:
                source = nodes[edge.source] = splice.zeros()
            table, numbers = self._layer(edge.layer, splice.shape_of(source))
            parameters += numbers
            value = splice.run(table, source)
            total = nodes.get(edge.target)
            if total is None:
                nodes[edge.target] = value
                continue
            if splice.shape_of(total) != splice.shape_of(value):
                raise edges_differ(cell, edge.target, splice.shape_of(total), splice.shape_of(value))
            nodes[edge.target] = splice.add(total, value)
        output = nodes.get(cell.num_nodes - 1)
        return splice.table(splice.zeros() if output is None else output), parameters


class _Splice:
    """A layer table under construction."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        self.in_shape = in_shape
        self.rows: list[LayerRow] = []
        self.inputs: list[tuple[int, ...]] = []

    def shape_of(self, value: int) -> tuple[int, ...]:
        return self.in_shape if value < 0 else self.rows[value].out_shape

    def run(self, table: LayerTable, source: int) -> int:
        """Appends an operator's rows; gives its output's value."""
        start = len(self.rows)
        self.rows.extend(table.rows)
        self.inputs.extend(
            [tuple([source if value < 0 else start + value for value in inputs]) for inputs in table.inputs]
        )
        return source if table.output < 0 else start + table.output

    def add(self, one: int, other: int) -> int:
        shape = self.shape_of(one)
        return self._append(LayerRow(kind="add", in_shape=shape, out_shape=shape), (one, other))

    def zeros(self) -> int:
        return self._append(LayerRow(kind="zeros", in_shape=self.in_shape, out_shape=self.in_shape), (-1,))

    def table(self, output: int) -> LayerTable:
        return LayerTable(
            in_shape=self.in_shape,
            rows=tuple(self.rows),
            inputs=tuple(self.inputs),
            output=output,
            stage=("",) * len(self.rows),
        )

    def _append(self, row: LayerRow, inputs: tuple[int, ...]) -> int:
        self.rows.append(row)
        self.inputs.append(inputs)
        return len(self.rows) - 1


def _layer_identity(layer: Layer) -> tuple[str, str]:
    # As text, because True, 1 and 1.0 are equal as keys and are not equally valid.
    return layer.op, repr(sorted(layer.parameters.items()))


def _identity(stage: Layer | Cell) -> object:
    if isinstance(stage, Layer):
        return _layer_identity(stage)
    return stage.num_nodes, tuple([(edge.source, edge.target, *_layer_identity(edge.layer)) for edge in stage.edges])
