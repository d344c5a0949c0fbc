"""What a module computes, as a table: one row a tensor operation.

Responsible for the value types that tracing yields and that costs are read from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BYTES_PER_VALUE = 4
"""Of float32, in which networks are built and traced."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerRow:
    """One operation on a batch of one.

    Attributes:
        kind: ``conv``, ``pointwise`` (1x1), ``depthwise``, ``grouped``, ``linear``, ``norm``, ``activation:<name>``,
            ``max_pool``, ``avg_pool``, ``global_pool``, ``add``, ``mul`` (equal shapes), ``scale`` (a map times fewer
            numbers), ``zeros``, ``view`` (nothing is computed), ``other:<name>``.
        in_shape: of the first input, without the batch.
        out_shape: of the output, without the batch.
        kernel: height and width of the window, (1, 1) where there is none.
        stride: in both directions.
        groups: of a convolution, else 1.
        macs: multiply-accumulates of convolutions, linear layers and matrix products; biases, normalisation,
            pooling and elementwise operations count none.
        parameters: numbers that training may change.
        stored: numbers that an exported file holds for this row, running statistics of a normalisation included.
        has_bias: whether a convolution or linear layer adds a bias.
    """

    kind: str
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    groups: int = 1
    macs: int = 0
    parameters: int = 0
    stored: int = 0
    has_bias: bool = False

    @property
    def in_bytes(self) -> int:
        """Of the first input, float32."""
        return BYTES_PER_VALUE * volume(self.in_shape)

    @property
    def out_bytes(self) -> int:
        """Of the output, float32."""
        return BYTES_PER_VALUE * volume(self.out_shape)

    @property
    def weight_bytes(self) -> int:
        """Of everything stored for this row, float32."""
        return BYTES_PER_VALUE * self.stored


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerTable:
    """The operations of a module in the order of execution, and how values flow.

    Values are numbered: -1 is the module's input, ``i`` the output of ``rows[i]``.

    Attributes:
        in_shape: of the module's input, without the batch.
        rows: the operations.
        inputs: for each row the values it reads.
        output: the value that the module returns.
        stage: for each row the name of the top-level child of a `Stages` that it belongs to; "" in another module.
    """

    in_shape: tuple[int, ...]
    rows: tuple[LayerRow, ...]
    inputs: tuple[tuple[int, ...], ...]
    output: int
    stage: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[LayerRow]:
        return iter(self.rows)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Of the module's output, without the batch."""
        return self.shape_of(self.output)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all rows."""
        return sum(row.macs for row in self.rows)

    @property
    def parameters(self) -> int:
        """Trainable numbers of all rows."""
        return sum(row.parameters for row in self.rows)

    def shape_of(self, value: int) -> tuple[int, ...]:
        """Shape of a value, without the batch."""
        return self.in_shape if value < 0 else self.rows[value].out_shape


def volume(shape: tuple[int, ...]) -> int:
    """How many numbers a shape holds."""
    product = 1
    for size in shape:
        product *= size
    return product
