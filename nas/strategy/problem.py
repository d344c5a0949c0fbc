"""What a strategy is asked, and what it answers.

Responsible for the border between strategies and everything that calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas.problem.goals import Budget, Objective
from nas.problem.history import History
from nas.space.space import SearchSpace

Population = NDArray[np.int16]
_REMEMBERED = 1 << 14  # digests; more than ever are pending at once


@dataclass(frozen=True, kw_only=True)
class Screening:
    """What is known of a population before training.

    Attributes:
        feasible: (n,) True where the architecture can be built and keeps all budgets that can be checked.
        buildable: (n,) True where it can be built for the data's shape.
        predicted: metric key -> (n,) expected values, exact ones included.
        upper: metric key -> (n,) upper bounds, for the metrics that are predicted and not exact.
        broken: ``buildable`` or the key of a budget -> number of rows that fail it; a row may fail several.
    """

    feasible: NDArray[np.bool_]
    buildable: NDArray[np.bool_]
    predicted: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    upper: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    broken: Mapping[str, int] = field(default_factory=dict)

    def deciding(self, key: str) -> NDArray[np.float64]:
        """(n,) what a budget on this metric is held against: the upper bound where there is one."""
        return self.upper[key] if key in self.upper else self.predicted[key]


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchProblem:
    """What to search for. Equal to itself only.

    Attributes:
        space: where.
        objectives: what to push, at least one.
        screen: (n, m) population -> what is known of it before training; judges each row by itself.
        limits: budgets on metrics that only training can tell. They do not make a row infeasible: a strategy may learn
            to keep them.
        rows: ``(r, m)`` all rows there are, where these are few among those of the space (a sparse table); None: what
            the screen admits.
        structure: a space with the same choices and options whose networks describe the rows, where those of
            ``space`` do not (the rows of a table); None: ``space`` itself.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    screen: Callable[[Population], Screening]
    limits: tuple[Budget, ...] = ()
    rows: Population | None = None
    structure: SearchSpace | None = None

    def __post_init__(self) -> None:
        if self.structure is not None:
            theirs = [(choice.num_options, choice.parent, choice.when) for choice in self.structure.choices]
            assert theirs == [(choice.num_options, choice.parent, choice.when) for choice in self.space.choices]

    @property
    def described(self) -> SearchSpace:
        """The space whose networks describe the rows."""
        return self.space if self.structure is None else self.structure

    def digest(self, row: Population) -> str:
        """Of the network of a canonical row (m,). Remembered: the same rows are pending for many proposals."""
        key = row.tobytes()
        if key not in self._digests:
            if len(self._digests) >= _REMEMBERED:
                self._digests.clear()
            self._digests[key] = self.space.architecture(row).digest
        return self._digests[key]

    @cached_property
    def _digests(self) -> dict[bytes, str]:
        return {}


class SearchStrategy(Protocol):
    """A frozen record of settings with one pure function of the history: equal arguments, equal answer."""

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        """(k, m) int16 rows to evaluate next, ``k <= n``, best first.

        They are canonical, feasible under ``problem.screen``, and as networks distinct from one another, from the
        history (failed ones included) and from ``pending`` (p, m), which is being evaluated. Fewer than ``n`` mean
        that within bounded effort nothing more was found.
        """
        ...
