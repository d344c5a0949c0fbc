"""The surrogate strategy: learn from few trainings which architecture is worth the next one.

Responsible for the course of one proposal: a design first, then beliefs from the history, candidates, and the one that
is expected to add most volume to the front.

References:
    [Emmerich2006] Emmerich, Giannakoglou, Naujoks. Single- and multiobjective evolutionary optimization assisted by
        Gaussian random field metamodels. IEEE Transactions on Evolutionary Computation 10(4), 2006.
    [Gardner2014] Gardner, Kusner, Xu, Weinberger, Cunningham. Bayesian optimization with inequality constraints. ICML
        2014. (The chance that a limit is kept as a factor.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from nas.problem.front import cost_matrix, elite
from nas.problem.goals import Objective
from nas.problem.history import History
from nas.strategy.checks import require_at_least
from nas.strategy.novelty import anywhere, select_new
from nas.strategy.problem import Population, SearchProblem
from nas.strategy.surrogate.acquisition import Acquisition
from nas.strategy.surrogate.design import first_rows
from nas.strategy.surrogate.features import Scaling, is_small
from nas.strategy.surrogate.model import Evidence, learn
from nas.strategy.surrogate.outcomes import fidelity_costs
from nas.strategy.surrogate.pool import Pool, around, candidates, described

PARENTS = 24  # best evaluated rows that candidates are bred from
CLIMBS = 2  # rounds of steps from what the acquisition likes, in a large space
CLIMBERS = 12  # rows that a round steps from
STEPS = 256  # steps a round
REST_AT_ONCE = 256  # candidates handed on together behind those chosen one by one


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """Expected hypervolume improvement [Emmerich2006] under Gaussian processes of the metrics that need training.

    What the screen tells (latency, MACs, …) is known and never learned. Limits on metrics that need training count as
    the chance that they are kept [Gardner2014]. Candidates that are being evaluated are taken to come out as expected;
    failed evaluations lower the chance of a result around them; evaluations at lower fidelities teach, but are not on
    the front.

    Attributes:
        num_initial: evaluations spread over the front of capacity against known cost before it learns
            (`nas.strategy.surrogate.design`).
        max_points: evaluations that it learns from at most: the best and a random part of the rest. The time of a
            proposal grows with its square.
    """

    num_initial: int = 10
    max_points: int = 400

    def __post_init__(self) -> None:
        require_at_least("num_initial", self.num_initial, 2)
        require_at_least("max_points", self.max_points, 20)

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        """See `nas.strategy.problem.SearchStrategy`."""
        pending = np.asarray(pending, dtype=np.int16).reshape(len(pending), problem.space.num_choices)
        costs = cost_matrix(history, problem.objectives)
        started = len(history) + len(pending)
        if started < self.num_initial or np.count_nonzero(~np.isnan(costs[:, 0])) < 2:
            return select_new(problem, history, pending, n, first_rows(problem, history, pending, n, rng))
        liked = self._liked(problem, history, pending, n, rng) if n > 0 else iter(())
        return select_new(problem, history, pending, n, chain(liked, anywhere(problem, history, n, rng)))

    def _liked(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Iterator[Population]:
        """One row after the other in the order of what they are expected to add, then the rest of the candidates."""
        costs = cost_matrix(history, problem.objectives)
        seen = {*history.row_keys, *(row.tobytes() for row in pending)}
        best = history.rows[elite(costs, PARENTS)]
        pool = candidates(problem, history, best, seen, rng)
        if len(pool.rows) == 0:
            return
        evidence, trained = self._evidence(problem, history, rng)
        scaling = Scaling.of(pool.features.joined(trained.features))
        learned = {
            objective.key: item
            for objective in learned_objectives(problem, pool)
            if (item := learn(history, objective, evidence, scaling, rng)) is not None
        }
        busy = described(problem, pending, feasible_only=False)
        acquisition = Acquisition(problem=problem, evidence=evidence, trained=trained, learned=learned, busy=busy)
        if not is_small(problem):
            pool = _climb(problem, acquisition, pool, seen, rng)
        order = yield from acquisition.chosen(pool, n)
        for start in range(0, len(order), REST_AT_ONCE):
            yield pool.rows[order[start : start + REST_AT_ONCE]]

    def _evidence(self, problem: SearchProblem, history: History, rng: np.random.Generator) -> tuple[Evidence, Pool]:
        """The evaluations to learn from, with all that is known of their rows."""
        costs = cost_matrix(history, problem.objectives)
        positions = np.arange(len(history))
        if len(positions) > self.max_points:
            best = elite(costs, self.max_points // 2)
            rest = rng.permutation(np.setdiff1d(positions, best))
            positions = np.sort(np.concatenate([best, rest[: self.max_points - len(best)]]))
        trained = described(problem, history.rows[positions], feasible_only=False)
        complete = np.asarray(~np.isnan(costs[positions]).any(axis=1), dtype=np.bool_)
        return (
            Evidence(
                positions=positions,
                features=trained.features,
                fidelities=fidelity_costs(history, positions),
                complete=complete,
            ),
            trained,
        )


def learned_objectives(problem: SearchProblem, pool: Pool) -> list[Objective]:
    """The metrics that have to be learned: objectives that the screen does not tell, and those with limits."""
    asked = [*problem.objectives, *(Objective(key=limit.key, metric=limit.metric) for limit in problem.limits)]
    return list({objective.key: objective for objective in asked if objective.key not in pool.told}.values())


def _climb(
    problem: SearchProblem, acquisition: Acquisition, pool: Pool, seen: set[bytes], rng: np.random.Generator
) -> Pool:
    """The pool with steps from what the acquisition likes added, round by round."""
    fresh = pool
    for _ in range(CLIMBS):
        values = acquisition.values(fresh)
        top = fresh.rows[np.argsort(-values, kind="stable")[:CLIMBERS]]
        taken = seen | {row.tobytes() for row in pool.rows}
        steps = around(problem, top, taken, rng, size=STEPS)
        if len(steps.rows) == 0:
            break
        pool = pool.joined(steps)
        fresh = steps if len(steps.rows) >= CLIMBERS else pool
    return pool
