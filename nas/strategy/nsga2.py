"""NSGA-II: generations bred from the best seen so far, through Optuna.

References:
    [Deb2002] Deb, Pratap, Agarwal, Meyarivan. A fast and elitist multiobjective genetic algorithm: NSGA-II. IEEE
        Transactions on Evolutionary Computation 6(2), 2002.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import NSGAIISampler

from nas.problem.front import cost_matrix, elite
from nas.problem.history import History
from nas.strategy.checks import require_at_least, require_share
from nas.strategy.initial import initial_design
from nas.strategy.novelty import anywhere, mutants, select_new
from nas.strategy.optuna_study import ask_rows, make_study, make_trials
from nas.strategy.problem import Population, SearchProblem


@dataclass(frozen=True, kw_only=True)
class NSGA2:
    """[Deb2002] with Optuna's crossover and mutation, rebuilt from the history at each proposal.

    The evaluations that have a result fall into generations of ``population_size`` by their order. A child of
    generation ``g`` has its parents among the best of all earlier generations, by rank and crowding distance; the
    evaluations of its own generation do not count yet. Generation 0 is the initial design (`nas.strategy.initial`).

    Attributes:
        population_size: evaluations a generation, and parents.
        crossover_share: probability that a child has two parents.
        mutation_share: probability that a choice is drawn anew; None: one choice a child on average.
    """

    population_size: int = 10
    crossover_share: float = 0.9
    mutation_share: float | None = None

    def __post_init__(self) -> None:
        require_at_least("population_size", self.population_size, 2)
        require_share("crossover_share", self.crossover_share)
        if self.mutation_share is not None:
            require_share("mutation_share", self.mutation_share)

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        """See `nas.strategy.problem.SearchStrategy`."""
        costs = cost_matrix(history, problem.objectives)
        judged = np.flatnonzero(~np.isnan(costs[:, 0]))
        num_before = len(judged) // self.population_size * self.population_size
        fallback = anywhere(problem, history, n, rng)
        if num_before == 0:
            return select_new(problem, history, pending, n, initial_design(problem, history, pending, n, rng))
        earlier = judged[:num_before]
        parents = earlier[elite(costs[earlier], self.population_size)]
        rows = history.rows[parents]
        children = self._children(problem, rows, costs[parents], n, rng)
        return select_new(problem, history, pending, n, chain(children, mutants(problem, rows, n, rng), fallback))

    def _children(
        self,
        problem: SearchProblem,
        rows: Population,
        costs: NDArray[np.float64],
        n: int,
        rng: np.random.Generator,
    ) -> Iterator[Population]:
        """Batches of children of all ``rows``, which are the whole of one generation to Optuna."""
        sampler = NSGAIISampler(
            population_size=self.population_size,
            crossover_prob=self.crossover_share,
            mutation_prob=self.mutation_share,
            seed=int(rng.integers(2**31)),
        )
        study = make_study(sampler, num_objectives=costs.shape[1])
        # Without this attribute Optuna takes the trials for no generation at all, and draws at random again.
        generation = {NSGAIISampler._get_generation_key(): 0}
        study.add_trials(make_trials(problem.space, rows, costs, rng, system_attrs=generation))
        for size in (n, 2 * n + 6, 4 * n + 12):  # most often the first child is feasible and new
            yield ask_rows(study, problem.space, size, rng)
