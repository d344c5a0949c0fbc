"""Optuna's Gaussian process: the strongest black-box optimiser of that library on small budgets.

It learns what is known before training like everything else, which is what sets it apart from
`nas.strategy.surrogate`. It needs torch, and seconds a proposal.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import GPSampler

from nas.problem.front import cost_matrix
from nas.problem.history import History
from nas.strategy.checks import require_at_least
from nas.strategy.initial import initial_design
from nas.strategy.novelty import anywhere, mutants, select_new
from nas.strategy.optuna_study import ask_rows, best_and_latest, make_study, make_trials
from nas.strategy.problem import Population, SearchProblem


@dataclass(frozen=True, kw_only=True)
class OptunaGP:
    """Optuna's GPSampler, rebuilt from the history at each proposal. Failed evaluations are not told to it.

    Attributes:
        num_initial: evaluations with a result of the initial design (`nas.strategy.initial`).
        max_trials: evaluations that it learns from at most: the best, then the latest. The time of a proposal grows
            with its cube.
    """

    num_initial: int = 10
    max_trials: int = 100

    def __post_init__(self) -> None:
        require_at_least("num_initial", self.num_initial, 2)
        require_at_least("max_trials", self.max_trials, 20)

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        """See `nas.strategy.problem.SearchStrategy`."""
        costs = cost_matrix(history, problem.objectives)
        judged = np.flatnonzero(~np.isnan(costs[:, 0]))
        if len(judged) < self.num_initial:
            return select_new(problem, history, pending, n, initial_design(problem, history, pending, n, rng))
        judged = best_and_latest(costs, judged, self.max_trials, num_best=self.max_trials // 2)
        suggested = self._suggested(problem, history.rows[judged], costs[judged], n, rng, pending=pending)
        return select_new(
            problem, history, pending, n, chain(suggested if n else (), anywhere(problem, history, n, rng))
        )

    def _suggested(
        self,
        problem: SearchProblem,
        rows: Population,
        costs: NDArray[np.float64],
        n: int,
        rng: np.random.Generator,
        *,
        pending: Population,
    ) -> Iterator[Population]:
        """The suggestions, then mutants of them; what is pending and suggested before counts as running."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = GPSampler(seed=int(rng.integers(2**31)), n_startup_trials=self.num_initial)
        study = make_study(sampler, num_objectives=costs.shape[1])
        study.add_trials(make_trials(problem.space, rows, costs, rng))
        study.add_trials(make_trials(problem.space, np.reshape(pending, (-1, rows.shape[1])), None, rng))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its numerics warn of equal and extreme values; the answer is a row
            found = ask_rows(study, problem.space, n, rng)
        yield found
        yield from mutants(problem, found, n, rng)
