"""From operations to kernels: what a runtime on a CPU runs after it has fused the graph.

Responsible for the fusions that onnxruntime makes in float32 on x86 (seen in its optimised graphs):

- a normalisation behind a convolution goes into the convolution's weights;
- ReLU, ReLU6, hard swish, hard sigmoid, sigmoid and tanh behind a convolution go into it; ReLU, sigmoid and tanh also
  behind a linear layer, and a ReLU-like activation behind a normalisation;
- a sum goes into a convolution that makes one of its terms, and an activation behind the sum goes along;
- SiLU and GELU stay kernels; hard swish that finds no convolution becomes two.

A fusion needs that nothing else reads the value in between, and never crosses the border of a stage: the figures of
a network are thereby exactly those of its stages put together. A runtime does cross it in a few places, for instance
to fold the normalisation that follows a cell of a single convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.model.layer_table import BYTES_PER_VALUE, LayerRow, LayerTable, volume

CONVOLUTIONS = frozenset({"conv", "pointwise", "depthwise", "grouped"})
_SIMPLE = frozenset({"activation:relu", "activation:relu6"})
_FUSED_ACTIVATIONS: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        CONVOLUTIONS,
        _SIMPLE | {"activation:hardswish", "activation:hardsigmoid", "activation:sigmoid", "activation:tanh"},
    ),
    "linear": frozenset({"activation:relu", "activation:sigmoid", "activation:tanh"}),
    "norm": _SIMPLE,
}


@dataclass(slots=True)
class Kernel:
    """One call into the runtime. Values are numbered as in the `LayerTable` that it comes from.

    Attributes:
        row: its main operation.
        inputs: values it reads; the second of a convolution is the sum that went into it.
        output: value it makes.
        stored: numbers in the file after folding.
        num_operations: operations in the exported file, before fusion, without folded normalisations.
        activated: whether an activation went into it; then nothing else can.
        activation: kind of the row that did; empty where none.
    """

    row: LayerRow
    inputs: tuple[int, ...]
    output: int
    stored: int
    num_operations: int = 1
    activated: bool = False
    activation: str = ""

    @property
    def in_place(self) -> bool:
        """Whether the output may take the buffer of an input of its size."""
        return self.row.kind in {"add", "mul", "scale", "norm"} or self.row.kind.startswith("activation:")


def fuse(table: LayerTable) -> tuple[list[Kernel], int]:
    """The kernels of a table in order of execution, and the value that holds its output.

    Views (reshapes) vanish: their value is that of what they show.
    """
    readers = [0] * (len(table.rows) + 1)  # the last is the input, value -1
    for inputs in table.inputs:
        for value in inputs:
            readers[value] += 1
    readers[table.output] += 1
    state = _Fusing(table=table, readers=readers)
    for index, row in enumerate(table.rows):
        state.take(index, row)
    kernels = [kernel for kernel in state.kernels if kernel is not None]
    return kernels, state.same_as.get(table.output, table.output)


class _Fusing:
    """The kernels so far while rows come in one by one. A kernel that moves to a later place leaves None behind."""

    def __init__(self, *, table: LayerTable, readers: list[int]) -> None:
        self.table = table
        self.readers = readers
        self.kernels: list[Kernel | None] = []
        self.maker: dict[int, int] = {}  # value -> place of the kernel that makes it
        self.same_as: dict[int, int] = {}  # value of a view -> value it shows

    def take(self, index: int, row: LayerRow) -> None:
        inputs = tuple([self.same_as.get(value, value) for value in self.table.inputs[index]])
        if row.kind == "view":
            self.same_as[index] = inputs[0]
            self.readers[inputs[0]] += self.readers[index] - 1
            return
        kind = row.kind
        if kind == "norm" and self._fold_norm(index, row, inputs):
            return
        if kind == "add" and len(inputs) == 2 and self._absorb_sum(index, row, inputs):
            return
        if kind.startswith("activation:") and self._absorb_activation(index, row, inputs):
            return
        self._append(Kernel(row=row, inputs=inputs, output=index, stored=row.stored), index)

    def _append(self, kernel: Kernel, value: int) -> None:
        self.maker[value] = len(self.kernels)
        self.kernels.append(kernel)

    def _made(self, value: int, index: int) -> Kernel | None:
        """The kernel that makes a value which only row ``index`` of the same stage reads, if it can take more in."""
        place = self.maker.get(value)
        if place is None or self.readers[value] != 1 or self.table.stage[value] != self.table.stage[index]:
            return None
        kernel = self.kernels[place]
        return None if kernel is None or kernel.activated else kernel

    def _rename(self, kernel: Kernel, value: int) -> None:
        self.maker[value] = self.maker.pop(kernel.output)
        kernel.output = value

    def _fold_norm(self, index: int, row: LayerRow, inputs: tuple[int, ...]) -> bool:
        kernel = self._made(inputs[0], index)
        if kernel is None or kernel.row.kind not in CONVOLUTIONS or len(kernel.inputs) > 1:
            return False
        channels = row.out_shape[0]
        kernel.stored = kernel.row.stored + (0 if kernel.row.has_bias else channels)
        self._rename(kernel, index)
        return True

    def _absorb_activation(self, index: int, row: LayerRow, inputs: tuple[int, ...]) -> bool:
        kernel = self._made(inputs[0], index)
        if kernel is None or row.kind not in _FUSED_ACTIVATIONS.get(kernel.row.kind, ()):
            return False
        kernel.activated = True
        kernel.activation = row.kind
        kernel.num_operations += 1
        self._rename(kernel, index)
        return True

    def _absorb_sum(self, index: int, row: LayerRow, inputs: tuple[int, ...]) -> bool:
        if row.in_shape != row.out_shape or inputs[0] == inputs[1]:
            return False
        fitting = [
            (self.maker[value], kernel, other)
            for value, other in (inputs, inputs[::-1])
            if (kernel := self._made(value, index)) is not None
            and kernel.row.kind in CONVOLUTIONS
            and len(kernel.inputs) == 1
            and kernel.row.out_shape == row.out_shape
            and self.table.shape_of(other) == row.out_shape
        ]
        if not fitting:
            return False
        # The later of two convolutions, moved behind everything that the sum needs.
        place, kernel, other = max(fitting, key=lambda found: found[0])
        self.kernels[place] = None
        del self.maker[kernel.output]
        kernel.inputs = (*kernel.inputs, other)
        kernel.num_operations += 1
        kernel.output = index
        self._append(kernel, index)
        return True


def peak_bytes(table: LayerTable, kernels: Sequence[Kernel], output: int) -> int:
    """Most bytes of float32 activations that live at once, at batch 1.

    A kernel's inputs live until it is done, its output from its start to its last reader. Elementwise kernels, and
    convolutions with a sum, write over an input that dies with them and has the output's size; the input of the
    module may be written over as well. Weights, padding of channels and scratch memory of kernels do not count.
    """
    last: dict[int, int] = {output: len(kernels)}
    for k, kernel in enumerate(kernels):
        for value in kernel.inputs:
            last[value] = max(k, last.get(value, k))
    live = {-1: BYTES_PER_VALUE * volume(table.in_shape)}
    total = peak = live[-1]
    if -1 not in last:
        total = 0
        live.clear()
    for k, kernel in enumerate(kernels):
        size = BYTES_PER_VALUE * volume(kernel.row.out_shape)
        dying = {value for value in kernel.inputs if last[value] == k}
        terms = kernel.inputs if kernel.in_place else kernel.inputs[1:]
        reuses = any(value in dying and live[value] == size for value in terms)
        peak = max(peak, total if reuses else total + size)
        for value in dying:
            total -= live.pop(value)
        if kernel.output in last:
            live[kernel.output] = size
            total += size
    return peak
