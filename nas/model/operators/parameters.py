"""Checks that operators make of their own parameters.

Responsible for the rules on single values. The error's place is the parameter's name; the registry puts the
place of the layer in front.
"""

from __future__ import annotations

from nas.errors import UserError, unknown_name
from nas.model.operators.layers import ACTIVATIONS

MAX_CHANNELS = 1_048_576
MAX_KERNEL = 255


def check_integer(name: str, value: object, *, least: int, most: int) -> None:
    """Raises `UserError` unless ``value`` is an int (not a bool) in ``[least, most]``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UserError(name, f"must be a whole number from {least} to {most}, got {value!r}")


def check_number(name: str, value: object, *, least: float, below: float) -> None:
    """Raises `UserError` unless ``value`` is a number in ``[least, below)``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < below:
        raise UserError(name, f"must be a number of at least {least:g} and below {below:g}, got {value!r}")


def check_channels(value: object) -> None:
    """Raises `UserError` unless ``value`` is a number of channels, or None to keep the input's."""
    if value is not None:
        check_integer("channels", value, least=1, most=MAX_CHANNELS)


def check_kernel(value: object, *, odd: bool) -> None:
    """Raises `UserError` unless ``value`` is a kernel size; ``odd`` where the map must keep its size."""
    check_integer("kernel", value, least=1, most=MAX_KERNEL)
    if odd and isinstance(value, int) and value % 2 == 0:
        raise UserError("kernel", f"must be odd, so that the map keeps its size, got {value}", "take 3 or 5")


def check_stride(value: object) -> None:
    """Raises `UserError` unless ``value`` is a stride."""
    check_integer("stride", value, least=1, most=16)


def check_activation(value: object) -> None:
    """Raises `UserError` unless ``value`` names an activation."""
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise unknown_name("activation", "activation", value, ACTIVATIONS)


def check_bool(name: str, value: object) -> None:
    """Raises `UserError` unless ``value`` is true or false."""
    if not isinstance(value, bool):
        raise UserError(name, f"must be true or false, got {value!r}")
