"""Random search: the baseline that every strategy has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.problem.history import History
from nas.strategy.novelty import anywhere, select_new
from nas.strategy.problem import Population, SearchProblem


@dataclass(frozen=True, kw_only=True)
class RandomSearch:
    """Draws from the space (`nas.space.moves.sample`) until a row is feasible and new."""

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        """See `nas.strategy.problem.SearchStrategy`."""
        return select_new(problem, history, pending, n, anywhere(problem, history, n, rng))
