"""Choices and the conditions under which they are active.

Responsible for the value type of one decision, and for counting how many ways a forest of decisions can be taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.space.network import Parameter


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One decision of a search space: a column of a population.

    Attributes:
        name: unique in its space, dotted: ``stage1.0.kernel``.
        options: what can be chosen, in order: the value where an option is a plain value, else its label.
        labels: readable names of the options, unique within the choice.
        ordered: True where all options are numbers, in rising or falling order, so that index distance means something.
        parent: column of the choice that this one depends on, always smaller than its own; None: always active.
        when: option indices of the parent for which this choice is active; empty where there is no parent.
    """

    name: str
    options: tuple[Parameter, ...]
    labels: tuple[str, ...]
    ordered: bool
    parent: int | None
    when: frozenset[int]

    @property
    def num_options(self) -> int:
        """How many options there are, at least 1."""
        return len(self.options)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """``choice`` (a column) has one of the options ``when`` (indices)."""

    choice: int
    when: frozenset[int]


def count_assignments(choices: Sequence[Choice]) -> int:
    """Number of distinct canonical rows, exact.

    A choice is counted once its children are, which stand after it: its options' counts are products over the
    children that the option activates.
    """
    per_option = [[1] * choice.num_options for choice in choices]
    total = 1
    for choice, counts in zip(reversed(choices), reversed(per_option), strict=True):
        ways = sum(counts)
        if choice.parent is None:
            total *= ways
        else:
            for option in choice.when:
                per_option[choice.parent][option] *= ways
    return total


def is_active(choices: Sequence[Choice], column: int, row: np.ndarray) -> bool:
    """Whether the choice in ``column`` is active under ``row`` ``(m,)``, which must be canonical before ``column``."""
    choice = choices[column]
    return choice.parent is None or int(row[choice.parent]) in choice.when


def implies(choices: Sequence[Choice], strong: Condition, weak: Condition) -> bool:
    """Whether in every canonical row ``strong`` cannot hold without ``weak``: it, or its choice's activity, says so."""
    condition: Condition | None = strong
    while condition is not None:
        if condition.choice == weak.choice:
            return condition.when <= weak.when
        choice = choices[condition.choice]
        condition = None if choice.parent is None else Condition(choice=choice.parent, when=choice.when)
    return False
