"""Warm start: what an earlier search in the same space is worth to this one.

Responsible for the view of earlier evaluations in the terms of this search, and for the wrapper that has a strategy
begin with them. Data, device and budgets of the earlier search may be others: of it, only what training told is used;
known costs are those of now.

A strategy that models several fidelities gets the earlier evaluations as ones of a cheaper fidelity: shifted, and as
correlated with this search as its results turn out to be [Swersky2013]. Any other one begins with the best
architectures of the earlier search. These are tried early in either case.

What an unlike earlier search can cost is bounded: `SEEDS` trainings of what was good there, and its lessons for the
first `PROBATION` results. From then on an earlier search teaches only while it predicts the results of this one better
than chance would.

References:
    [Swersky2013] Swersky, Snoek, Adams. Multi-task Bayesian optimization. NeurIPS 2013.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from nas.problem.evaluation import Fidelity
from nas.problem.front import cost_matrix, elite
from nas.problem.history import History
from nas.strategy.halving import at_fidelity, rungs_of
from nas.strategy.novelty import select_new
from nas.strategy.problem import Population, SearchProblem, SearchStrategy

OWN = 2  # evaluations of this search alone, to begin with
SEEDS = 4  # architectures of the earlier front that are tried then, at most
CHEAPER = 4.0  # factor in cost between this search and an earlier one, and between earlier ones
TAUGHT = 200  # evaluations of an earlier search that teach, at most
PROBATION = 8  # results of this search from which an earlier one must have shown its worth
SIGNIFICANT = 1.645  # standard deviations of a rank correlation by chance: one in twenty
NEARNESS = 1.5  # by which the logarithm of a weight falls with each choice that differs


@dataclass(frozen=True, kw_only=True, eq=False)
class WarmStarted:
    """Asks a strategy for its first rows, then tries what was good in an earlier search, then asks on.

    The first `OWN` rows are those with which the strategy begins anyway: ends of the front, on which an earlier search
    shows what it is worth.

    Attributes:
        strategy: asked for what comes after the seeds.
        seeds: ``(s, m)`` rows to try first, best first.
        lessons: earlier searches in the terms of this one, a history each fidelity, for a strategy that tells
            fidelities apart; else ().
    """

    strategy: SearchStrategy
    seeds: Population
    lessons: tuple[History, ...] = ()

    def propose(
        self, problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
    ) -> Population:
        """See `nas.strategy.problem.SearchStrategy`."""
        rows = np.asarray(pending, dtype=np.int16).reshape(len(pending), problem.space.num_choices)
        started, num_pending = len(history) + len(rows), len(rows)
        own = min(n, max(0, OWN - started))
        if own:
            rows = np.concatenate([rows, self.strategy.propose(problem, history, rows, own, rng)])
        left = n - (len(rows) - num_pending)
        fresh = self.seeds[[row.tobytes() not in history.row_keys for row in self.seeds]]
        rows = np.concatenate([rows, select_new(problem, history, rows, left, [fresh])])
        left = n - (len(rows) - num_pending)
        if left:
            more = self.strategy.propose(problem, self._taught(history), rows, left, rng)
            rows = np.concatenate([rows, more])
        return rows[num_pending:]

    def _taught(self, history: History) -> History:
        lessons = [lesson for lesson in self.lessons if is_worth(lesson, history)]
        if not lessons:
            return history
        taught = History()
        for lesson in lessons:
            for evaluation in lesson:
                taught.append(evaluation, tried=False)
        for evaluation in history:
            taught.append(evaluation)
        return taught


def warm_started(
    strategy: SearchStrategy,
    problem: SearchProblem,
    earlier: Sequence[History],
    *,
    fidelity: Fidelity,
    teaches: bool,
) -> SearchStrategy:
    """The strategy, beginning with what earlier searches found; itself where they found nothing that may be used.

    Args:
        strategy: as configured.
        problem: of this search.
        earlier: histories in the same space.
        fidelity: the cheapest of this search.
        teaches: whether the strategy tells fidelities apart.
    """
    # Results of one fidelity are one lesson: those of several must not stand beside one another.
    lots = [at_fidelity(history, level) for history in earlier for level, _ in rungs_of(history)]
    brought = [
        _in_terms_of(problem, lot, replace(fidelity, data_share=fidelity.data_share / CHEAPER ** (place + 1)))
        for place, lot in enumerate(lots)
    ]
    seeds = [_seeds(problem, history) for history in brought]
    rows = _in_turns(seeds)[:SEEDS]
    if not rows:
        return strategy
    lessons = tuple(history for history in brought if len(history)) if teaches else ()
    return WarmStarted(strategy=strategy, seeds=np.stack(rows), lessons=lessons)


def is_worth(lesson: History, history: History) -> bool:
    """Whether an earlier search says something of this one.

    True while this one has fewer than `PROBATION` results at the fidelity where it has most. Then, where for a metric
    that training tells the mean of earlier results, weighted by likeness, ranks the results of this search as theirs
    are ranked, significantly.
    """
    fidelities = Counter(e.candidate.fidelity for e in history if e.status == "complete")
    if not fidelities or (most := fidelities.most_common(1)[0])[1] < PROBATION:
        return True
    own = History(e for e in history if e.status == "complete" and e.candidate.fidelity == most[0])
    apart = (own.rows[:, None, :] != lesson.rows[None, :, :]).sum(axis=2)
    weights = np.exp(-NEARNESS * (apart - apart.min(axis=1, keepdims=True)))
    for key in lesson[0].metrics:
        values, told = lesson.metric(key), own.metric(key)
        here, there = np.isfinite(told), np.isfinite(values)
        if not here.any() or not there.any():
            continue
        near = weights[np.ix_(here, there)]
        expected = near @ values[there] / near.sum(axis=1)
        if _rank_correlation(expected, told[here]) * np.sqrt(here.sum() - 1) > SIGNIFICANT:
            return True
    return False


def _rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's, 0 where either is constant."""
    ranks = np.stack([rankdata(one), rankdata(other)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    scale = float(np.sqrt((ranks**2).sum(axis=1).prod()))
    return float(ranks[0] @ ranks[1]) / scale if scale > 0 else 0.0


def _in_terms_of(problem: SearchProblem, history: History, fidelity: Fidelity) -> History:
    """The results of an earlier search with the known costs of now, at a fidelity of their own."""
    kept = [e for e in history if e.status == "complete"]
    rows = np.array([evaluation.candidate.architecture.row for evaluation in kept], dtype=np.int16)
    screening = problem.screen(rows)
    learned = {objective.key for objective in problem.objectives} - screening.predicted.keys()
    found = History()
    for place in np.flatnonzero(screening.buildable):
        candidate = kept[place].candidate
        predicted = {key: float(values[place]) for key, values in screening.predicted.items()}
        metrics = {key: value for key, value in kept[place].metrics.items() if key in learned}
        told = replace(candidate, fidelity=fidelity, predicted=predicted, upper={}, stop_below=())
        found.append(replace(kept[place], candidate=told, metrics=metrics, curve=()))
    if len(found) <= TAUGHT:
        return found
    best = elite(cost_matrix(found, problem.objectives), TAUGHT // 2)
    rest = np.setdiff1d(np.arange(len(found)), best)
    spread = rest[np.linspace(0, len(rest) - 1, TAUGHT - len(best)).astype(np.int64)]
    return History(found[int(place)] for place in sorted({*best.tolist(), *spread.tolist()}))


def _seeds(problem: SearchProblem, history: History) -> list[Population]:
    """The best rows of an earlier search that keep the budgets of now, best first."""
    if len(history) == 0:
        return []
    feasible = np.flatnonzero(problem.screen(np.asarray(history.rows)).feasible)
    costs = cost_matrix(history, problem.objectives)[feasible]
    return [history.rows[feasible[place]] for place in elite(costs, SEEDS)]


def _in_turns(lists: Sequence[Sequence[Population]]) -> list[Population]:
    """One of each list, then a second of each, and so on; each row once."""
    found: dict[bytes, Population] = {}
    for place in range(max(map(len, lists), default=0)):
        for rows in lists:
            if place < len(rows):
                found.setdefault(rows[place].tobytes(), rows[place])
    return list(found.values())
