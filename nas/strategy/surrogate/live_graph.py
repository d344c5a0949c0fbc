"""What is alive in a cell: features of the graph that is left once absent edges and dead nodes are gone.

Responsible for describing the cells of whole populations without resolving a network for each row: every node and edge
is looked at once, for all rows together. Nothing depends on which cell it is.

References:
    [White2021] White, Neiswanger, Savani. BANANAS: Bayesian optimization with neural architectures for neural
        architecture search. AAAI 2021. (Paths from input to output as features.)
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from nas.space.network import Layer
from nas.space.space import SearchSpace
from nas.space.template import CellTemplate, columns_of, layer_at
from nas.strategy.problem import Population

Floats = NDArray[np.float64]

PATHS_AT_MOST = 64  # paths from input to output beyond which they are not followed one by one
PATH_COLUMNS_AT_MOST = 256  # kinds of paths that get a column of their own; more share columns
COMBINATIONS_AT_MOST = 1024  # ways to fill one edge
WEIGHTLESS = frozenset({"none", "identity", "avg_pool", "max_pool"})
ABSENT, COPY = 0, 1  # numbers of the operators "none" and "identity"


@dataclass(frozen=True, kw_only=True)
class CellView:
    """One cell of a template, as its edges depend on the choices.

    Attributes:
        num_nodes: of the cell; node 0 is the input, the last the output.
        ends: source and target of each edge.
        columns: the choices that decide an edge, for each edge.
        options: for each edge, an array over the options of ``columns``: the number of the operator there.
        sizes: weights of each operator relative to a 1x1 convolution: 0 for pooling and copies.
    """

    num_nodes: int
    ends: tuple[tuple[int, int], ...]
    columns: tuple[tuple[int, ...], ...]
    options: tuple[NDArray[np.int64], ...]
    sizes: Floats

    @property
    def num_operators(self) -> int:
        """Kinds of operators, absent and copy included."""
        return len(self.sizes)

    def operators(self, population: Population) -> NDArray[np.int64]:
        """``(n, num_edges)`` number of the operator on each edge; all absent where the cell's choices are inactive."""
        numbers = np.zeros((len(population), len(self.ends)), dtype=np.int64)
        for edge, (columns, table) in enumerate(zip(self.columns, self.options, strict=True)):
            picked = population[:, list(columns)].astype(np.int64)
            found = table[tuple(np.maximum(picked, 0).T)] if columns else np.full(len(population), table[()])
            numbers[:, edge] = np.where((picked >= 0).all(axis=1), found, ABSENT)
        return numbers

    @cached_property
    def paths(self) -> tuple[tuple[int, ...], ...]:
        """The paths from input to output, each as its edges; none where there are too many."""
        found: list[tuple[int, ...]] = []
        todo: list[tuple[int, tuple[int, ...]]] = [(0, ())]
        while todo:
            node, edges = todo.pop()
            if node == self.num_nodes - 1:
                found.append(edges)
            if len(found) + len(todo) > PATHS_AT_MOST:
                return ()
            todo.extend((end, (*edges, k)) for k, (start, end) in enumerate(self.ends) if start == node)
        return tuple(sorted(found))


def cells_of(space: SearchSpace) -> tuple[CellView, ...]:
    """The distinct cells of a space; a cell that stands in several places with the same choices counts once."""
    seen: dict[int, CellTemplate] = {}
    for slot in space.slots:
        if isinstance(slot.stage, CellTemplate):
            seen.setdefault(id(slot.stage), slot.stage)
    views = (_view(cell, space) for cell in seen.values())
    return tuple(view for view in views if view is not None and any(view.columns))


def live_features(view: CellView, population: Population) -> tuple[Floats, Floats]:
    """Summary ``(n, num_operators + 4)`` and paths ``(n, p)`` of the live part of a cell, all at least 0.

    The summary has how often each operator is alive (copies included), the number of live nodes, of weighted operators
    on the longest path, of paths (logarithm), and the size (logarithm). ``p`` is 0 where paths are not followed.
    """
    numbers = view.operators(population)
    live = _live_edges(view, numbers)
    counts = np.stack([(live & (numbers == k)).sum(axis=1) for k in range(1, view.num_operators)], axis=1)
    summary = np.column_stack([counts, *_shape(view, numbers, live), np.log1p(counts @ view.sizes[1:])])
    return summary.astype(np.float64), _paths(view, numbers)


def live_size(view: CellView, population: Population) -> Floats:
    """``(n,)`` weights in the live part of a cell, relative to one 1x1 convolution."""
    numbers = view.operators(population)
    weights = np.where(_live_edges(view, numbers), view.sizes[numbers], 0.0)
    return np.asarray(weights.sum(axis=1), dtype=np.float64)


def _view(cell: CellTemplate, space: SearchSpace) -> CellView | None:
    known: dict[str, int] = {"none": ABSENT, "identity": COPY}
    sizes = [0.0, 0.0]
    all_columns, tables = [], []
    for _, _, stage in cell.edges:
        columns = tuple(sorted(columns_of(stage)))
        shape = tuple(space.choices[column].num_options for column in columns)
        if np.prod(shape, dtype=np.int64) > COMBINATIONS_AT_MOST:
            return None
        table = np.zeros(shape, dtype=np.int64)
        row = np.zeros(space.num_choices, dtype=np.int16)
        for picked in product(*(range(count) for count in shape)):
            row[list(columns)] = picked
            layer = layer_at(stage, row)
            number = known.setdefault(_text(layer), len(known))
            if number == len(sizes):
                sizes.append(_size(layer))
            table[picked] = number
        all_columns.append(columns)
        tables.append(table)
    return CellView(
        num_nodes=cell.num_nodes,
        ends=tuple((i, j) for i, j, _ in cell.edges),
        columns=tuple(all_columns),
        options=tuple(tables),
        sizes=np.array(sizes),
    )


def _text(layer: Layer) -> str:
    return layer.op if layer.op in ("none", "identity") else json.dumps([layer.op, dict(layer.parameters)])


def _size(layer: Layer) -> float:
    kernel = layer.parameters.get("kernel", 1)
    if layer.op in WEIGHTLESS:
        return 0.0
    return float(kernel) ** 2 if isinstance(kernel, int | float) else 1.0


def _live_edges(view: CellView, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """``(n, num_edges)`` edges that are present and lie on a path from the input to the output."""
    present = numbers != ABSENT
    fed = np.zeros((len(numbers), view.num_nodes), dtype=bool)
    used = np.zeros_like(fed)
    fed[:, 0] = True
    used[:, -1] = True
    for edge, (i, j) in _by_target(view):
        fed[:, j] |= fed[:, i] & present[:, edge]
    for edge, (i, j) in reversed(list(_by_target(view))):
        used[:, i] |= used[:, j] & present[:, edge]
    starts, ends = (list(nodes) for nodes in zip(*view.ends, strict=True))
    return np.asarray(present & fed[:, starts] & used[:, ends], dtype=np.bool_)


def _by_target(view: CellView) -> Iterator[tuple[int, tuple[int, int]]]:
    """Edges in an order in which a node's inputs stand before what it feeds."""
    yield from sorted(enumerate(view.ends), key=lambda item: (item[1][1], item[1][0]))


def _shape(view: CellView, numbers: NDArray[np.int64], live: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Live inner nodes, weighted operators on the longest path, and the logarithm of the number of paths."""
    depth = np.full((len(numbers), view.num_nodes), -np.inf)
    ways = np.zeros((len(numbers), view.num_nodes))
    depth[:, 0], ways[:, 0] = 0.0, 1.0
    for edge, (i, j) in _by_target(view):
        steps = depth[:, i] + (view.sizes[numbers[:, edge]] > 0)
        depth[:, j] = np.where(live[:, edge], np.maximum(depth[:, j], steps), depth[:, j])
        ways[:, j] += np.where(live[:, edge], ways[:, i], 0.0)
    nodes = np.isfinite(depth[:, 1:-1]).sum(axis=1).astype(np.float64)
    return nodes, np.maximum(depth[:, -1], -1.0) + 1.0, np.log1p(ways[:, -1])


def _paths(view: CellView, numbers: NDArray[np.int64]) -> Floats:
    """``(n, p)`` how often each sequence of operators (copies left out) leads from the input to the output."""
    if not view.paths:
        return np.zeros((len(numbers), 0))
    base = view.num_operators - 1
    longest = max(len(path) for path in view.paths)
    num_codes = sum((base - 1) ** length for length in range(longest + 1))
    shared = num_codes > PATH_COLUMNS_AT_MOST
    codes = np.stack([_codes(numbers[:, path], base) for path in view.paths], axis=1)
    kinds, places = np.unique(codes, return_inverse=True)
    columns = PATH_COLUMNS_AT_MOST if shared else num_codes
    column_of = np.array([_column(int(code), base, shared) if code >= 0 else columns for code in kinds], dtype=np.int64)
    out = np.zeros((len(numbers), columns + 1))
    np.add.at(out, (np.arange(len(numbers))[:, None], column_of[places.reshape(codes.shape)]), 1.0)
    return out[:, :columns]


def _codes(operators: NDArray[np.int64], base: int) -> NDArray[np.int64]:
    """``(n,)`` one number a sequence, -1 where an edge is absent."""
    code = np.zeros(len(operators), dtype=np.int64)
    for step in operators.T:
        code = np.where(step > COPY, code * base + step - COPY, code)
    return np.where((operators == ABSENT).any(axis=1), -1, code)


def _column(code: int, base: int, shared: bool) -> int:
    """The column of a sequence: its place among all of them by length, or a hash of it."""
    digits = []
    while code:
        code, digit = divmod(code, base)
        digits.append(digit - 1)
    if shared:
        return zlib.crc32(bytes(digits)) % PATH_COLUMNS_AT_MOST
    shorter = sum(int((base - 1) ** length) for length in range(len(digits)))
    return shorter + sum(int(digit * (base - 1) ** k) for k, digit in enumerate(digits))
