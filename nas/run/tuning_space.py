"""What a tuning draws its settings from: ranges in words, draws that cover them, small steps within them.

Responsible for the meaning of ``log 0.01 1``, ``uniform 0 0.3`` and ``[32, 64]``. What is set by them is not known
here.

References:
    [McKay1979] M. D. McKay, R. J. Beckman, W. J. Conover. A Comparison of Three Methods for Selecting Values of Input
        Variables in the Analysis of Output from a Computer Code. Technometrics 21, 1979 (Latin hypercubes).
    [Jaderberg2017] M. Jaderberg et al. Population Based Training of Neural Networks. arXiv 1711.09846, 2017.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nas.errors import UserError

Value = float | int | bool | str
Fields = Mapping[str, Value]

_FORMS = "write it as 'log 0.01 1', 'uniform 0 0.3', 'log x0.3 x3' (times the recipe's) or a list, e.g. [32,64]"
_REDRAWN = 0.25  # of the steps are draws anew [Jaderberg2017]
_FACTORS = (0.8, 1.2)
_DIGITS = 4  # that a drawn number keeps: enough to tune by, and to be read


class Range(Protocol):
    """Values that a setting may take."""

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values such that the setting can take all where it can take these."""
        ...

    def at(self, share: float) -> Value:
        """The value below which so large a share of the range lies; ``share`` in [0, 1)."""
        ...

    def near(self, value: Value, rng: np.random.Generator) -> Value:
        """A value of the range, a small step from one of it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Numbers from ``low`` to ``high``.

    Attributes:
        low: least value.
        high: greatest value, above ``low``.
        log: whether each factor is as likely as the next, instead of each difference; then ``low`` is above 0.
        whole: whether only whole numbers count.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def ends(self) -> tuple[Value, ...]:
        """See `Range`."""
        return self._rounded(self.low), self._rounded(self.high)

    def at(self, share: float) -> Value:
        """See `Range`."""
        if self.log:
            return self._rounded(math.exp(math.log(self.low) + share * math.log(self.high / self.low)))
        return self._rounded(self.low + share * (self.high - self.low))

    def near(self, value: Value, rng: np.random.Generator) -> Value:
        """See `Range`: a fifth more or less, one time in four a draw anew [Jaderberg2017]."""
        if isinstance(value, str) or rng.random() < _REDRAWN:
            return self.at(float(rng.random()))
        return self._rounded(float(value) * float(rng.choice(_FACTORS)))

    def _rounded(self, value: float) -> Value:
        kept = min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)
        return round(kept) if self.whole else kept

    def __str__(self) -> str:
        return f"{'log ' if self.log else ''}{self.low:g} to {self.high:g}"


@dataclass(frozen=True, kw_only=True)
class Options:
    """One of several values, each as likely; neighbours in the list are a step apart."""

    values: tuple[Value, ...]

    @property
    def ends(self) -> tuple[Value, ...]:
        """See `Range`."""
        return self.values

    def at(self, share: float) -> Value:
        """See `Range`."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def near(self, value: Value, rng: np.random.Generator) -> Value:
        """See `Range`."""
        if value not in self.values or rng.random() < _REDRAWN:
            return self.at(float(rng.random()))
        place = self.values.index(value) + int(rng.choice((-1, 1)))
        return self.values[min(max(place, 0), len(self.values) - 1)]

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"


def parse_range(given: object, *, where: str, own: Value | None, whole: bool = False) -> Range:
    """The range that a user wrote.

    Args:
        given: a text or a list.
        where: the field, for errors.
        own: the value that is tuned, for multiples of it.
        whole: whether the setting is a whole number.

    Raises:
        UserError: it is no range, it is empty, or it is a multiple of nothing.
    """
    if isinstance(given, Sequence) and not isinstance(given, str):
        values = tuple(given)
        if len(set(map(repr, values))) < max(2, len(values)):
            raise UserError(where, f"must list at least two values, each once, got {list(values)}", _FORMS)
        if not all(isinstance(value, float | int | str) for value in values):
            raise UserError(where, f"must list numbers, names, true or false, got {list(values)}", _FORMS)
        return Options(values=values)
    words = given.split() if isinstance(given, str) else []
    if len(words) != 3 or words[0] not in ("log", "uniform"):
        raise UserError(where, f"must be a range, got {given!r}", _FORMS)
    low, high = (_bound(word, where, own) for word in words[1:])
    if not low < high:
        raise UserError(where, f"must go from low to high, got {given!r}, which is {low:g} to {high:g}", _FORMS)
    if words[0] == "log" and low <= 0:
        raise UserError(where, f"must be above 0 on a logarithmic scale, got {given!r}", "or write it as 'uniform ...'")
    if whole and not (low.is_integer() and high.is_integer()):
        raise UserError(where, f"must go from one whole number to another, got {given!r}")
    return Interval(low=low, high=high, log=words[0] == "log", whole=whole)


def _bound(word: str, where: str, own: Value | None) -> float:
    multiple = word.startswith("x")
    try:
        value = float(word.removeprefix("x"))
    except ValueError:
        raise UserError(where, f"must be bounded by numbers, got {word!r}", _FORMS) from None
    if not math.isfinite(value):
        raise UserError(where, f"must be bounded by finite numbers, got {word!r}", _FORMS)
    if not multiple:
        return value
    if not isinstance(own, int | float) or isinstance(own, bool) or own == 0:
        problem = f"cannot be a multiple of the recipe's value, which is {own}, got {word!r}"
        raise UserError(where, problem, "give the range in numbers")
    return value * float(own)


def proposals(space: Mapping[str, Range], count: int, rng: np.random.Generator) -> list[dict[str, Value]]:
    """Settings that cover the space: of each range, every ``count``-th part is hit once [McKay1979].

    Args:
        space: name -> range.
        count: how many settings; may be 0.
        rng: of the draws.

    Returns:
        Name -> value, each.
    """
    columns = {name: (rng.permutation(count) + rng.random(count)) / max(count, 1) for name in space}
    return [{name: space[name].at(float(columns[name][place])) for name in space} for place in range(count)]


def step(space: Mapping[str, Range], fields: Fields, rng: np.random.Generator) -> dict[str, Value]:
    """Settings a small step from others; what ``fields`` does not hold is drawn."""
    return {
        name: span.near(fields[name], rng) if name in fields else span.at(float(rng.random()))
        for name, span in space.items()
    }
