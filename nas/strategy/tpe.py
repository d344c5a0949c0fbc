"""The tree-structured Parzen estimator: what sets the better evaluations apart from the rest, through Optuna.

References:
    [Bergstra2011] Bergstra, Bardenet, Bengio, Kégl. Algorithms for hyper-parameter optimization. NeurIPS 2011.
    [Ozaki2022] Ozaki, Tanigaki, Watanabe, Nomura, Onishi. Multiobjective tree-structured Parzen estimator. Journal of
        Artificial Intelligence Research 73, 2022.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import TPESampler

from nas.problem.front import cost_matrix
from nas.problem.history import History
from nas.strategy.checks import require_at_least
from nas.strategy.initial import initial_design
from nas.strategy.novelty import anywhere, mutants, select_new
from nas.strategy.optuna_study import ask_rows, best_and_latest, make_study, make_trials
from nas.strategy.problem import Population, SearchProblem

ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class TPE:
    """Optuna's multivariate TPE, rebuilt from the history at each proposal.

    What is being evaluated, and what failed, counts among the worse ("constant liar"), so that a batch spreads and a
    region that fails is left.

    Attributes:
        num_initial: evaluations with a result of the initial design (`nas.strategy.initial`).
        num_candidates: draws from the better that are compared for one proposal.
        max_trials: evaluations that it learns from at most: the best and the latest. The cost of a proposal grows with
            it, about 0.1 ms each.
    """

    num_initial: int = 10
    num_candidates: int = 24
    max_trials: int = 250

    def __post_init__(self) -> None:
        require_at_least("num_initial", self.num_initial, 2)
        require_at_least("num_candidates", self.num_candidates, 1)
        require_at_least("max_trials", self.max_trials, 20)

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        """See `nas.strategy.problem.SearchStrategy`."""
        costs = cost_matrix(history, problem.objectives)
        fallback = anywhere(problem, history, n, rng)
        if np.count_nonzero(~np.isnan(costs[:, 0])) < self.num_initial:
            return select_new(problem, history, pending, n, initial_design(problem, history, pending, n, rng))
        suggested = self._suggested(problem, history.rows, costs, n, rng, pending=pending)
        return select_new(problem, history, pending, n, chain(suggested, fallback))

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
        """Batches of suggestions, then of mutants of these.

        A suggestion counts as being evaluated for those after it. Where the better evaluations agree, the estimator
        repeats them: a step away from them is what is meant, and new.
        """
        sampler = TPESampler(
            n_startup_trials=self.num_initial,
            n_ei_candidates=self.num_candidates,
            multivariate=True,
            constant_liar=True,
            seed=int(rng.integers(2**31)),
        )
        judged = ~np.isnan(costs[:, 0])
        # With several objectives Optuna takes the best tenth for the better, so that age costs none of those.
        num_best = -(-self.max_trials // 10)
        learned = best_and_latest(costs, np.flatnonzero(judged), self.max_trials, num_best=num_best)
        failed = rows[~judged][-(self.max_trials // 4) :]
        worse = np.concatenate([failed, np.reshape(pending, (-1, rows.shape[1]))]).astype(np.int16)
        study = make_study(sampler, num_objectives=costs.shape[1])
        study.add_trials(make_trials(problem.space, rows[learned], costs[learned], rng))
        study.add_trials(make_trials(problem.space, worse, None, rng))
        suggestions = []
        for _ in range(ROUNDS):
            suggestions.append(ask_rows(study, problem.space, n, rng))
            yield suggestions[-1]
        yield from mutants(problem, np.concatenate(suggestions), n, rng)
