"""What strategies see of a history with several fidelities.

Responsible for the wrappers that give a strategy a history in which it may compare what it compares. They are
strategies themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.problem.evaluation import Fidelity
from nas.problem.history import History
from nas.strategy.earlier import warm_started
from nas.strategy.halving import comparable, with_stopped
from nas.strategy.problem import Population, SearchProblem, SearchStrategy
from nas.strategy.surrogate.strategy import Surrogate

TELLS_APART: tuple[type, ...] = (Surrogate,)  # strategies that model what a fidelity does to a result


def fitted_to(
    strategy: SearchStrategy,
    problem: SearchProblem,
    rungs: Sequence[Fidelity],
    *,
    earlier: Sequence[History] = (),
) -> SearchStrategy:
    """The strategy with the view of the history that it needs, and with what earlier searches found.

    Args:
        strategy: as configured.
        problem: of the search.
        rungs: fidelities, the cheapest first; new architectures are judged at that one.
        earlier: histories of earlier searches in the same space.
    """
    apart = isinstance(strategy, TELLS_APART)
    if earlier:
        strategy = warm_started(strategy, problem, earlier, fidelity=rungs[0], teaches=apart)
    if apart:
        return AllFidelities(strategy=strategy)
    return OneRung(strategy=strategy, fidelity=rungs[0]) if len(rungs) > 1 else strategy


@dataclass(frozen=True, kw_only=True)
class OneRung:
    """Shows a strategy the results of one fidelity only, each architecture once.

    A promoted architecture keeps the result with which it was promoted: its later ones are better by training, and
    would stand against those of architectures that had less of it.

    Attributes:
        strategy: asked.
        fidelity: whose results it sees.
    """

    strategy: SearchStrategy
    fidelity: Fidelity

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        """See `nas.strategy.problem.SearchStrategy`."""
        pending = np.asarray(pending, dtype=np.int16).reshape(len(pending), problem.space.num_choices)
        fresh = np.array([row.tobytes() not in history.row_keys for row in pending], dtype=np.bool_)
        return self.strategy.propose(problem, comparable(history, self.fidelity), pending[fresh], n, rng)


@dataclass(frozen=True, kw_only=True)
class AllFidelities:
    """Shows a strategy everything, stopped trainings as results of cheaper ones.

    Attributes:
        strategy: asked; one that tells fidelities apart.
    """

    strategy: SearchStrategy

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        """See `nas.strategy.problem.SearchStrategy`."""
        return self.strategy.propose(problem, with_stopped(history), pending, n, rng)
