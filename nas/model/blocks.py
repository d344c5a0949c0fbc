"""Blocks: what stands in a slot at an input shape, numbered, with their figures in arrays.

Responsible for the numbers of shapes and blocks, and for the arrays that populations gather from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nas.model.build import DoesNotFit
from nas.model.costs import Figures
from nas.model.features import FEATURE_NAMES
from nas.model.stage_figures import StageFigures
from nas.space.deployment import PRECISIONS
from nas.space.network import Cell, Layer

Number = TypeVar("Number", np.int32, np.float64)

COSTS = ("macs", "parameters", "size_bytes", "peak_activation_bytes")
"""Columns of `Blocks.costs`; all but the last add up."""

FILES = ("size_bytes", "number_bytes", "prunable_bytes", "peak_bytes")
"""Figures of a file, see `nas.model.file_costs.FileCosts`; all but the last add up."""

NOWHERE = 0
"""Number of the shape that comes out where a network cannot be built. Nothing can be built on it."""

NOT_BUILDABLE = 0
"""Number of the block that stands for that; its figures are NaN."""


class Blocks:
    """Numbered shapes and blocks. Both only ever grow.

    Attributes:
        shapes: number -> shape; `NOWHERE` has none.
    """

    def __init__(self, *, num_classes: int, allow: Sequence[str]) -> None:
        self.shapes: list[tuple[int, ...]] = [()]
        self._stage_figures = StageFigures(num_classes=num_classes, allow=allow)
        self._shape_numbers: dict[tuple[int, ...], int] = {}
        self._numbers: dict[int, int] = {}
        self._passing: dict[int, int] = {}
        self._figures: list[Figures] = []  # of the numbers; keeps them alive, as they are known by their identity
        width = len(FEATURE_NAMES)
        self._count = 1
        self._out_shapes: NDArray[np.int32] = np.zeros(1, dtype=np.int32)
        self._costs = np.full((1, len(COSTS)), np.nan)
        self._features = np.full((1, width), np.nan)
        self._files = np.full((1, len(FILES), len(PRECISIONS)), np.nan)

    def __len__(self) -> int:
        return self._count

    @property
    def out_shapes(self) -> NDArray[np.int32]:
        """Number of the shape that comes out of each block: ``(b,)``."""
        return self._out_shapes[: self._count]

    @property
    def costs(self) -> NDArray[np.float64]:
        """Costs of each block: ``(b, 4)`` as in `COSTS`."""
        return self._costs[: self._count]

    @property
    def features(self) -> NDArray[np.float64]:
        """Features of each block: ``(b, F)``."""
        return self._features[: self._count]

    @property
    def files(self) -> NDArray[np.float64]:
        """Figures of each block in a file: ``(b, 4, p)`` as in `FILES` and `PRECISIONS`."""
        return self._files[: self._count]

    def shape_number(self, shape: tuple[int, ...]) -> int:
        """The number of a shape."""
        number = self._shape_numbers.get(shape)
        if number is None:
            number = self._shape_numbers[shape] = len(self.shapes)
            self.shapes.append(shape)
        return number

    def block_number(self, stage: Layer | Cell | None, shape: int) -> int:
        """The number of the block of a stage (None: nothing stands there) at a numbered input shape.

        Raises:
            UserError: the stage is wrong whatever it gets; one that cannot take the shape is `NOT_BUILDABLE`.
        """
        if shape == NOWHERE:
            return NOT_BUILDABLE
        if stage is None:
            if shape not in self._passing:
                self._passing[shape] = self._append(shape, (0, 0, 0, 0), np.zeros(len(FEATURE_NAMES)), _NO_FILE)
            return self._passing[shape]
        try:
            figures = self._stage_figures.find(stage, self.shapes[shape])
        except DoesNotFit:
            return NOT_BUILDABLE
        number = self._numbers.get(id(figures))
        if number is None:
            costs = figures.costs
            row = (costs.macs, costs.parameters, costs.size_bytes["float32"], costs.peak_activation_bytes)
            files = [[getattr(costs.files[precision], name) for precision in PRECISIONS] for name in FILES]
            number = self._append(self.shape_number(figures.out_shape), row, figures.features, np.array(files))
            self._numbers[id(figures)] = number
            self._figures.append(figures)
        return number

    def forget_modules(self) -> None:
        """See `nas.model.stage_figures.StageFigures.forget_modules`."""
        self._stage_figures.forget_modules()

    def _append(
        self,
        out_shape: int,
        costs: Sequence[float],
        features: Sequence[float] | NDArray[np.float64],
        files: NDArray[np.float64],
    ) -> int:
        number = self._count
        if number == len(self._out_shapes):
            self._out_shapes = _doubled(self._out_shapes)
            self._costs = _doubled(self._costs)
            self._features = _doubled(self._features)
            self._files = _doubled(self._files)
        self._out_shapes[number] = out_shape
        self._costs[number] = costs
        self._features[number] = features
        self._files[number] = files
        self._count += 1
        return number


_NO_FILE = np.zeros((len(FILES), len(PRECISIONS)))


def _doubled(array: NDArray[Number]) -> NDArray[Number]:
    return np.concatenate([array, np.zeros_like(array)])
