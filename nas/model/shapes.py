"""Shapes of feature maps."""

from __future__ import annotations

from nas.errors import UserError
from nas.space.network import Network

InputShape = tuple[int, int, int]
"""Channels, height, width; no batch."""


class DoesNotFit(UserError):  # noqa: N818 - it is told as a UserError, and names the case in which code goes on
    """Something that is right in itself and cannot take the shape it gets: this network cannot be built."""


def input_shape_of(network: Network, input_shape: InputShape) -> InputShape:
    """What the network takes for data of that shape: the data's channels at the network's resolution.

    Args:
        network: a resolved network.
        input_shape: channels, height, width of the data.
    """
    return (input_shape[0], *network.input_size(input_shape[1], input_shape[2]))


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as a person writes it: ``16x8x8``."""
    return "x".join(str(size) for size in shape)
