"""Checks of the fields of a configured record.

Responsible for turning a wrong field into one `UserError` that names the field, the rule and the value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from nas.errors import UserError, unknown_name


def check_number(
    where: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    integer: bool = False,
    above_low: bool = False,
    below_high: bool = False,
    advice: str = "",
) -> None:
    """Refuse anything but a finite number in the interval.

    Args:
        where: the field, e.g. ``recipe.learning_rate``.
        value: what was given.
        low: least value allowed; excluded with ``above_low``.
        high: greatest value allowed; excluded with ``below_high``.
        integer: whether it must be a whole number.
        above_low: whether ``low`` itself is refused.
        below_high: whether ``high`` itself is refused.
        advice: what to do about it.

    Raises:
        UserError: it is not such a number. Booleans and NaN are none.
    """
    kind = "a whole number" if integer else "a number"
    rules = [kind]
    if math.isfinite(low):
        rules.append(f"above {low:g}" if above_low else f"at least {low:g}")
    if math.isfinite(high):
        rules.append(f"below {high:g}" if below_high else f"at most {high:g}")
    rule = rules[0] + (" " + " and ".join(rules[1:]) if rules[1:] else "")
    known = isinstance(value, int) if integer else isinstance(value, int | float)
    if not known or isinstance(value, bool):
        raise UserError(where, f"must be {rule}, got {value!r}", advice)
    number = float(value)  # type: ignore[arg-type]
    too_low = number <= low if above_low else number < low
    too_high = number >= high if below_high else number > high
    if not math.isfinite(number) or too_low or too_high:
        raise UserError(where, f"must be {rule}, got {value!r}", advice)


def check_flag(where: str, value: object) -> None:
    """Refuse anything but True or False. Raises `UserError`."""
    if not isinstance(value, bool):
        raise UserError(where, f"must be true or false, got {value!r}")


def check_one_of(where: str, kind: str, value: object, known: Iterable[str]) -> None:
    """Refuse a name that is not known, listing those that are. Raises `UserError`."""
    names = tuple(known)
    if value not in names:
        raise unknown_name(where, kind, value, names)
