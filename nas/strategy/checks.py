"""Checks of the settings of a strategy.

Responsible for the error a user gets for a setting out of range.
"""

from __future__ import annotations

from nas.errors import UserError


def require_at_least(field: str, value: object, least: int) -> None:
    """Raises `UserError` unless the strategy's setting is an integer of at least ``least``."""
    if type(value) is not int or value < least:
        raise UserError(f"strategy.{field}", f"must be an integer of at least {least}, got {value!r}")


def require_share(field: str, value: object) -> None:
    """Raises `UserError` unless the strategy's setting is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"strategy.{field}", f"must be a number from 0 to 1, got {value!r}")
