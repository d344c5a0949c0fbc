"""The table of one slot: its choices and its input shape -> the block that stands there.

Responsible for looking up many rows at once, and for resolving each combination the first time it is seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.model.blocks import Blocks
from nas.space.network import Cell, Layer
from nas.space.slot import Slot
from nas.space.space import SearchSpace
from nas.space.template import plain_form

MAX_COMBINATIONS = 2**17
"""Of a slot's choices, up to which its table is an array over all of them; beyond, rows are looked up one by one."""


class SlotTable:
    """Blocks of one slot, or of several that stand for the same thing at different places.

    Attributes:
        columns: of the population, that decide.
        combinations: how many values its choices can have.
    """

    def __init__(self, space: SearchSpace, slot: Slot) -> None:
        self.columns = slot.choices
        self._slot = slot
        self._radices = radices_of(space, slot.choices)
        self.combinations = math.prod(self._radices)
        self._stages: dict[bytes, Layer | Cell | None] = {}
        self._known: dict[tuple[bytes, int], int] = {}
        self._table: NDArray[np.int32] = np.full(0, -1, dtype=np.int32)

    def find(self, columns: NDArray[np.int16], shapes: NDArray[np.int32], blocks: Blocks) -> NDArray[np.int32]:
        """The blocks ``(n,)`` of rows, given by columns ``(m, n)``, at numbered input shapes ``(n,)``.

        Raises:
            UserError: an operator or parameter that is wrong for every input.
        """
        if self.combinations > MAX_COMBINATIONS:
            return self._find_one_by_one(columns, shapes, blocks)
        keys = mixed_radix(columns, self.columns, self._radices)
        keys += shapes * np.int32(self.combinations)
        rest = len(blocks.shapes) * self.combinations - len(self._table)
        if rest > 0:
            self._table = np.concatenate([self._table, np.full(rest, -1, dtype=np.int32)])
        found = self._table.take(keys)
        unseen = np.flatnonzero(found < 0)
        if unseen.size:
            new, first = np.unique(keys[unseen], return_index=True)
            for key, k in zip(new.tolist(), unseen[first].tolist(), strict=True):
                self._table[key] = self._resolve(columns[:, k], int(shapes[k]), blocks)
            found[unseen] = self._table.take(keys[unseen])
        return found

    def _find_one_by_one(
        self, columns: NDArray[np.int16], shapes: NDArray[np.int32], blocks: Blocks
    ) -> NDArray[np.int32]:
        values = np.concatenate([columns[list(self.columns)], shapes[None]])
        distinct, first, inverse = np.unique(values, axis=1, return_index=True, return_inverse=True)
        found = [self._resolve(columns[:, k], int(shapes[k]), blocks) for k in first.tolist()]
        assert distinct.shape[1] == len(found)
        return np.array(found, dtype=np.int32)[inverse.reshape(-1)]

    def _resolve(self, row: NDArray[np.int16], shape: int, blocks: Blocks) -> int:
        choices = row[list(self.columns)].tobytes()
        block = self._known.get((choices, shape))
        if block is None:
            if choices not in self._stages:
                self._stages[choices] = self._slot.resolve(row)
            block = self._known[choices, shape] = blocks.block_number(self._stages[choices], shape)
        return block


def mixed_radix(columns: NDArray[np.int16], picked: Sequence[int], radices: Sequence[int]) -> NDArray[np.int32]:
    """Some columns of rows, given as ``(m, n)``, as one number a row: ``(n,)``, below the product of ``radices``.

    Args:
        columns: option indices, -1 where inactive.
        picked: which columns.
        radices: for each of them one more than its options; their product must be below 2^31.
    """
    keys = np.zeros(columns.shape[1], dtype=np.int32)
    for column, radix in zip(picked, radices, strict=True):
        keys *= np.int32(radix)
        keys += columns[column]
        keys += np.int32(1)
    return keys


def radices_of(space: SearchSpace, picked: Sequence[int]) -> list[int]:
    """One more than the options of each picked column: an inactive choice counts as one."""
    return [space.choices[column].num_options + 1 for column in picked]


def slot_tables(space: SearchSpace) -> list[SlotTable]:
    """A table for each slot in network order; slots with the same template and conditions share theirs."""
    shared: dict[str, SlotTable] = {}
    tables: list[SlotTable] = []
    for slot in space.slots:
        key = repr((slot.choices, slot.conditions, plain_form(slot.stage)))
        if key not in shared:
            shared[key] = SlotTable(space, slot)
        tables.append(shared[key])
    return tables
