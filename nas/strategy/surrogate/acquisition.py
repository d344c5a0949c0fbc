"""What one more evaluation is expected to be worth.

Responsible for the front as the surrogate sees it, the corner up to which volume counts, and the order in which
candidates are chosen for a batch.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nas.problem.goals import Budget
from nas.strategy.problem import Population, SearchProblem
from nas.strategy.surrogate.improvement import Known, expected_improvement
from nas.strategy.surrogate.model import Beliefs, Evidence, Learned
from nas.strategy.surrogate.pool import Pool

Floats = NDArray[np.float64]

TIES = 1e-30  # of volume
MARGIN = 0.1  # of the range of the front, by which the corner lies behind its worst values
SINGLE = 16  # candidates chosen one by one beyond those asked for, as some may turn out to be known networks
CONTENDERS = 512  # candidates of which a batch is made, after its first


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """Expected hypervolume improvement of the rows of a pool.

    Attributes:
        problem: the search.
        evidence: what was learned from.
        trained: the rows of the evidence.
        learned: metric key -> what was learned of it: the objectives that are not known, and metrics with limits.
        busy: rows that are being evaluated.
    """

    problem: SearchProblem
    evidence: Evidence
    trained: Pool
    learned: Mapping[str, Learned]
    busy: Pool

    def values(self, pool: Pool) -> Floats:
        """``(n,)`` what each row is expected to add, at least 0."""
        joined = pool.joined(self.busy)
        beliefs = Beliefs(list(self.learned.values()), joined.features)
        front = self._front()
        for place in range(len(pool.rows), len(joined.rows)):
            beliefs.take(place)
            front = np.vstack([front, self._expected(beliefs, joined)[place]])
        return self._values(beliefs, joined, front)[: len(pool.rows)]

    def chosen(self, pool: Pool, n: int) -> Generator[Population, None, NDArray[np.int64]]:
        """Rows ``(1, m)`` one by one, each chosen as if those before it came out as expected.

        Returns:
            ``(p,)`` positions in the pool of all others, by their first value.
        """
        order = np.argsort(-self.values(pool), kind="stable")
        yield pool.rows[order[:1]]
        if n == 1:
            return order[1:]
        few = pool.take(order[:CONTENDERS]).joined(self.busy)
        beliefs = Beliefs(list(self.learned.values()), few.features)
        front = self._front()
        num_open = min(len(order), CONTENDERS)
        is_open = np.ones(len(few.rows), dtype=bool)
        for turn, place in enumerate([*range(num_open, len(few.rows)), 0]):
            beliefs.take(place)
            front = np.vstack([front, self._expected(beliefs, few)[place]])
            is_open[place] = False
            assert turn <= len(self.busy.rows)
        for _ in range(min(n + SINGLE, num_open) - 1):
            values = np.where(is_open, self._values(beliefs, few, front), -np.inf)
            place = int(values.argmax())
            is_open[place] = False
            yield few.rows[place : place + 1]
            beliefs.take(place)
            front = np.vstack([front, self._expected(beliefs, few)[place]])
        return order[1:]

    def _values(self, beliefs: Beliefs, pool: Pool, front: Floats) -> Floats:
        expected = self._expected(beliefs, pool)
        keys = list(self.learned)
        told = iter(pool.known.T)
        parts = [
            beliefs.belief(keys.index(objective.key)) if objective.key in keys else Known(values=next(told))
            for objective in self.problem.objectives
        ]
        values = expected_improvement(parts, front, self._reference(front, expected))
        values = values * beliefs.chance(self.evidence)
        for limit in self._side_limits():
            k = keys.index(limit.key)
            item = self.learned[limit.key]
            level = item.scale.forward(np.array([_limit_cost(limit)]))[0]
            mean = item.scale.forward(beliefs.costs(k))
            values = values * ndtr((level - mean) / beliefs.deviations(k))
        # Where nothing is expected to add anything, the least known row comes first.
        doubt = np.sum([beliefs.deviations(k) for k in range(len(beliefs))], axis=0)
        return np.asarray(values + TIES * doubt / max(float(doubt.max(initial=0.0)), 1e-300), dtype=np.float64)

    def _expected(self, beliefs: Beliefs, pool: Pool) -> Floats:
        """``(n, k)`` expected costs of all objectives."""
        keys = list(self.learned)
        told = iter(pool.known.T)
        return np.column_stack(
            [
                beliefs.costs(keys.index(objective.key)) if objective.key in keys else next(told)
                for objective in self.problem.objectives
            ]
        )

    def _front(self) -> Floats:
        """``(f, k)`` noise-free costs of what was judged at the highest fidelity and keeps all limits."""
        complete = self.evidence.complete & self.trained.feasible
        top = self.evidence.fidelities == self.evidence.fidelities[self.evidence.complete].max()
        told = iter(self.trained.known.T)
        columns = []
        for objective in self.problem.objectives:
            item = self.learned.get(objective.key)
            columns.append(next(told) if item is None else _spread(item))
        costs = np.column_stack(columns)
        kept = complete & top
        for limit in self.problem.limits:
            if limit.key in self.learned:
                kept &= _spread(self.learned[limit.key]) <= _limit_cost(limit)
        return np.asarray(costs[kept & np.isfinite(costs).all(axis=1)], dtype=np.float64)

    def _reference(self, front: Floats, expected: Floats) -> Floats:
        """``(k,)`` the corner: a tenth of the range behind the worst values of the front that is expected.

        That front has its ends where one objective is best, among evaluated and expected rows.
        """
        points = np.concatenate([front, expected])
        ends = points[points.argmin(axis=0)]
        worst = np.maximum(ends.max(axis=0), front.max(axis=0, initial=-np.inf))
        best = points.min(axis=0)
        width = worst - best
        corner = worst + np.where(width > 0, MARGIN * width, MARGIN * np.maximum(np.abs(worst), 1e-6))
        keys = [objective.key for objective in self.problem.objectives]
        for limit in self.problem.limits:
            if limit.key in keys:
                k = keys.index(limit.key)
                corner[k] = min(corner[k], _limit_cost(limit))
        return np.asarray(corner, dtype=np.float64)

    def _side_limits(self) -> list[Budget]:
        """Limits on metrics that are no objectives and of which something was learned."""
        keys = {objective.key for objective in self.problem.objectives}
        return [limit for limit in self.problem.limits if limit.key in self.learned and limit.key not in keys]


def _spread(item: Learned) -> Floats:
    """``(t,)`` the expected costs of all evidence; NaN where the metric was not judged."""
    costs = np.full(len(item.used), np.nan)
    costs[item.used] = item.expected
    return costs


def _limit_cost(limit: Budget) -> float:
    return -limit.limit if limit.metric.maximize else limit.limit
