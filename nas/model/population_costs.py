"""Costs of whole populations, exact, without building a network.

Responsible for the walk that makes it fast. A network is a chain of slots, and what stands in a slot costs the same
wherever its choices and its input shape are the same. So each slot has a table from (its choices, input shape) to a
*block*: out shape, costs and features. Rows walk through the slots together; a combination that was not seen before
is resolved and traced once. Additive figures are sums over slots. The peak of activations is the maximum over slots:
one map alone lives between two of them, and no fusion crosses the border, so that too is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.errors import UserError
from nas.model.blocks import COSTS, FILES, Blocks
from nas.model.build import check_data
from nas.model.features import FEATURE_NAMES
from nas.model.file_costs import FILE_BYTES
from nas.model.shapes import InputShape, input_shape_of
from nas.model.slot_table import SlotTable, mixed_radix, radices_of, slot_tables
from nas.model.without_data import collector_off
from nas.space.network import Network
from nas.space.space import SearchSpace

_CHUNK = 32_768
"""Rows walked together: what is gathered for them stays in the cache of one core."""

Floats = NDArray[np.float64]


class PopulationCosts:
    """Costs and latency features of populations ``(n, m)`` of canonical rows.

    Tables grow with the combinations seen and are kept for the life of the object; results do not depend on what was
    asked before. Not safe to share between threads.

    Args:
        space: that the rows belong to.
        input_shape: channels, height, width of the data; a network's own resolution comes from the space.
        num_classes: of the classifier.
        allow: packages that custom operators may come from.

    Attributes:
        feature_names: of the columns of `features`, see `nas.model.features`.
    """

    def __init__(
        self, space: SearchSpace, *, input_shape: InputShape, num_classes: int, allow: Sequence[str] = ()
    ) -> None:
        check_data(input_shape, num_classes)
        self.feature_names = FEATURE_NAMES
        self._space = space
        self._input_shape = input_shape
        self._blocks = Blocks(num_classes=num_classes, allow=allow)
        self._scores = self._blocks.shape_number((num_classes,))
        self._tables: list[SlotTable] = slot_tables(space)

    def costs(self, population: ArrayLike) -> dict[str, Floats]:
        """``macs``, ``parameters``, ``size_bytes`` and ``peak_activation_bytes``, each ``(n,)``, of float32 files.

        As `network_costs` gives for each row; NaN where the network cannot be built.

        Raises:
            UserError: rows of another space, or an operator or parameter that is wrong for every input
                (`check_space` finds those beforehand).
        """
        rows = self._rows(population)
        out = np.zeros((len(COSTS), len(rows)))
        for part, slots, end in self._walk(rows):
            columns = np.ascontiguousarray(self._blocks.costs.T)
            out[:, part] = end
            for blocks in slots:
                for k in range(len(COSTS) - 1):
                    out[k, part] += columns[k].take(blocks)
                np.maximum(out[-1, part], columns[-1].take(blocks), out=out[-1, part])
        out[COSTS.index("size_bytes")] += FILE_BYTES
        return dict(zip(COSTS, out, strict=True))

    def buildable(self, population: ArrayLike) -> NDArray[np.bool_]:
        """Whether each row's network can be built for the data: ``(n,)``. Raises `UserError` as `costs` does."""
        rows = self._rows(population)
        out = np.zeros(len(rows), dtype=bool)
        for part, _, end in self._walk(rows):
            out[part] = end == 0
        return out

    def features(self, population: ArrayLike) -> Floats:
        """Sums over fused kernels: ``(n, F)``, columns as in ``feature_names``, at least 0.

        NaN where the network cannot be built. Raises `UserError` as `costs` does.
        """
        rows = self._rows(population)
        out = np.zeros((len(rows), len(FEATURE_NAMES)))
        for part, slots, end in self._walk(rows):
            out[part] = end[:, None]
            for blocks in slots:
                out[part] += self._blocks.features.take(blocks, axis=0)
        return out

    def weighted(self, population: ArrayLike, weights: ArrayLike) -> Floats:
        """``features(population) @ weights`` without building the features.

        Args:
            population: ``(n, m)``.
            weights: ``(F,)`` or ``(F, k)``.

        Returns:
            ``(n,)`` or ``(n, k)``; NaN where the network cannot be built.

        Raises:
            UserError: as `costs`, or weights of another length.
        """
        rows = self._rows(population)
        given = np.asarray(weights, dtype=np.float64)
        if given.ndim not in (1, 2) or len(given) != len(FEATURE_NAMES):
            raise UserError("weights", f"must be one a feature ({len(FEATURE_NAMES)}), got shape {given.shape}")
        matrix = given.reshape(len(FEATURE_NAMES), -1)
        out = np.zeros((matrix.shape[1], len(rows)))
        values = np.zeros((matrix.shape[1], 0))
        for part, slots, end in self._walk(rows):
            if values.shape[1] != len(self._blocks):
                values = np.ascontiguousarray((self._blocks.features @ matrix).T)
            out[:, part] = end
            for blocks in slots:
                for k in range(len(out)):
                    out[k, part] += values[k].take(blocks)
        return out[0] if given.ndim == 1 else np.ascontiguousarray(out.T)

    def files(self, population: ArrayLike, precisions: NDArray[np.intp]) -> dict[str, Floats]:
        """Figures of files in given precisions, each ``(n,)``: those of `nas.model.file_costs.FileCosts`, by name.

        Args:
            population: ``(n, m)``.
            precisions: positions in `nas.space.deployment.PRECISIONS`, ``(n, 1)`` of whole files, or ``(n, s)`` of the
                entries of the network (`SearchSpace.stage_names`).

        NaN where the network cannot be built. Raises `UserError` as `costs` does.
        """
        rows = self._rows(population)
        entries = self._space.slot_stages if precisions.shape[1] > 1 else (0,) * len(self._tables)
        out = np.zeros((len(FILES), len(rows)))
        for part, slots, end in self._walk(rows):
            tables = np.ascontiguousarray(self._blocks.files.transpose(1, 2, 0)).reshape(len(FILES), -1)
            columns = np.ascontiguousarray(precisions[part].T) * len(self._blocks)
            out[:, part] = end
            for entry, blocks in zip(entries, slots, strict=True):
                places = columns[entry] + blocks
                for k in range(len(FILES) - 1):
                    out[k, part] += tables[k].take(places)
                np.maximum(out[-1, part], tables[-1].take(places), out=out[-1, part])
        out[FILES.index("size_bytes")] += FILE_BYTES
        return dict(zip(FILES, out, strict=True))

    def by_stage(self, population: ArrayLike, weights: ArrayLike) -> Floats:
        """``features @ weights`` of each entry of the network: ``(n, s)``, in the order of `SearchSpace.stage_names`.

        Args:
            population: ``(n, m)``.
            weights: ``(F,)``.

        NaN where the network cannot be built. Raises `UserError` as `costs` does.
        """
        rows = self._rows(population)
        given = np.asarray(weights, dtype=np.float64)
        out = np.zeros((1 + max(self._space.slot_stages, default=0), len(rows)))
        for part, slots, end in self._walk(rows):
            values = self._blocks.features @ given
            out[:, part] = end
            for entry, blocks in zip(self._space.slot_stages, slots, strict=True):
                out[entry, part] += values.take(blocks)
        return np.ascontiguousarray(out.T)

    def _rows(self, population: ArrayLike) -> NDArray[np.int16]:
        rows = np.asarray(population)
        width = len(self._space.choices)
        if rows.ndim != 2 or rows.shape[1] != width:
            rule = f"must be rows of {width} choices, got shape {rows.shape}"
            raise UserError(f"population of {self._space.name}", rule)
        return rows.astype(np.int16, copy=False)

    def _walk(self, rows: NDArray[np.int16]) -> Iterator[tuple[slice, list[NDArray[np.int32]], Floats]]:
        """Chunk by chunk: its place, the blocks ``(c,)`` of each slot, and ``(c,)`` 0, or NaN if not buildable."""
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, min(start + _CHUNK, len(rows)))
            columns = np.ascontiguousarray(rows[part].T)
            shapes = self._start_shapes(columns)
            slots = []
            with collector_off():
                for table in self._tables:
                    blocks = table.find(columns, shapes, self._blocks)
                    shapes = self._blocks.out_shapes.take(blocks)
                    slots.append(blocks)
            yield part, slots, np.where(shapes == self._scores, 0.0, np.nan)
        self._blocks.forget_modules()

    def _start_shapes(self, columns: NDArray[np.int16]) -> NDArray[np.int32]:
        """Numbers of the shapes of the networks' inputs: ``(c,)``."""
        picked = self._space.input_resolution.choices
        keys = mixed_radix(columns, picked, radices_of(self._space, picked))
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        starts = [self._start_shape(columns[:, k]) for k in first.tolist()]
        return np.array(starts, dtype=np.int32).take(inverse)

    def _start_shape(self, row: NDArray[np.int16]) -> int:
        network = Network(resolution=self._space.input_resolution.resolve(row), stages=(), digest="")
        return self._blocks.shape_number(input_shape_of(network, self._input_shape))
