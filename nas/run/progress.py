"""How far a search is: counts, the best values, the hypervolume, the time left.

Responsible for keeping these up to date in time that does not grow with the history.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.problem.evaluation import Evaluation, Fidelity
from nas.problem.front import hypervolume, non_dominated
from nas.problem.goals import Objective
from nas.strategy.halving import Halving

_RECENT = 32  # evaluations whose mean duration the time left is reckoned from


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A moment of a search.

    Attributes:
        done: evaluations in the history, whatever came of them, but for promotions.
        failed: evaluations without metrics, but for those that were stopped as hopeless.
        running: candidates in flight.
        total: evaluations at which the search ends, promotions not counted.
        best: objective key -> best value of a complete evaluation; a key is missing before there is one.
        hypervolume: share of the box between the ideal and the reference point that the front dominates, in [0, 1];
            NaN where an objective has no reference. Each architecture counts with its dearest evaluation, so that it
            may fall when a promotion shows that an architecture is worse than it seemed.
        seconds: since this loop began.
        seconds_left: estimate from the latest durations; NaN before there is one.
        latest: the evaluation that this moment follows on; None at the beginning.
        stopped: evaluations that were stopped as hopeless.
        promoted: evaluations of an architecture at a higher fidelity than before.
    """

    done: int
    failed: int
    running: int
    total: int
    best: Mapping[str, float]
    hypervolume: float
    seconds: float
    seconds_left: float
    latest: Evaluation | None = None
    stopped: int = 0
    promoted: int = 0


class FrontVolume:
    """The hypervolume of a growing set of evaluations, as a share of the box it is measured in.

    The ideal is 1 for a share that is maximised (accuracy) and 0 for every other metric.

    Args:
        objectives: what spans the box.
        reference: objective key -> the value beyond which nothing counts; 0 for a share that is maximised, if missing.
    """

    def __init__(self, objectives: Sequence[Objective], reference: Mapping[str, float]) -> None:
        self._objectives = tuple(objectives)
        worst, ideal = zip(*(_ends(objective, reference) for objective in objectives), strict=True)
        self._worst = np.array(worst)
        self._extent = self._worst - np.array(ideal)
        self._front: NDArray[np.float64] = np.zeros((0, len(self._objectives)))
        known = np.isfinite(self._worst).all() and (self._extent > 0).all()
        self.value = 0.0 if known else math.nan

    def add(self, evaluation: Evaluation) -> None:
        """Takes an evaluation in; one that failed, lacks a figure or is dominated changes nothing."""
        if math.isnan(self.value) or evaluation.status != "complete":
            return
        costs = _costs(self._objectives, evaluation)
        if np.isfinite(costs).all() and not (self._front <= costs).all(axis=1).any():
            self.set(np.vstack([self._front, costs]))

    def holds(self, costs: NDArray[np.float64]) -> bool:
        """Whether a row (k,) is on the front."""
        return bool((self._front == costs).all(axis=1).any())

    def set(self, costs: NDArray[np.float64]) -> None:
        """Begins anew with ``costs`` (n, k), minimised; rows with NaN count nothing."""
        if math.isnan(self.value):
            return
        known = costs[np.isfinite(costs).all(axis=1)]
        self._front = known[non_dominated(known)]
        self.value = hypervolume(self._front / self._extent, self._worst / self._extent) if len(known) else 0.0


class Tally:
    """Counts and estimates over evaluations as they come.

    Args:
        objectives: whose best values are kept.
        total: evaluations at which the search ends, promotions not counted.
        reference: see `FrontVolume`.
        earlier: evaluations of a run that is resumed.
        halving: the ladder by which the time left is reckoned; None: all evaluations are alike.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        *,
        total: int,
        reference: Mapping[str, float],
        earlier: Iterable[Evaluation] = (),
        halving: Halving | None = None,
    ) -> None:
        self._total = total
        self._standing = _Standing(objectives, reference)
        self._pace = _Pace(halving)
        self._start = time.monotonic()
        self.done = 0
        self.failed = 0
        self.stopped = 0
        self.promoted = 0
        for evaluation in earlier:
            self.add(evaluation)

    def add(self, evaluation: Evaluation) -> None:
        """Takes an evaluation in."""
        is_promotion = self._standing.take(evaluation)
        self.promoted += is_promotion
        self.done += not is_promotion
        self.stopped += evaluation.status == "stopped"
        self.failed += evaluation.status not in ("complete", "stopped")
        self._pace.add(evaluation)

    def progress(self, *, running: int, num_slots: int, latest: Evaluation | None = None) -> Progress:
        """This moment, with ``running`` candidates in flight on ``num_slots``."""
        work = self._pace.seconds_left(max(0, self._total - self.done), self._total)
        return Progress(
            done=self.done,
            failed=self.failed,
            running=running,
            total=self._total,
            best=self._standing.best,
            hypervolume=self._standing.volume.value,
            seconds=time.monotonic() - self._start,
            seconds_left=work / num_slots,
            latest=latest,
            stopped=self.stopped,
            promoted=self.promoted,
        )


class _Standing:
    """What each architecture has reached, at its dearest fidelity: the best values and the front.

    A promotion replaces what its architecture had before. Only where that was a best value or on the front is all of it
    looked at again.
    """

    def __init__(self, objectives: Sequence[Objective], reference: Mapping[str, float]) -> None:
        self._objectives = tuple(objectives)
        self._places: dict[str, int] = {}
        self._fidelity_costs: list[float] = []
        self._rows = np.full((64, len(objectives)), np.nan)  # signed so that less is better
        self._least = np.full(len(objectives), np.nan)
        self.volume = FrontVolume(objectives, reference)

    @property
    def best(self) -> dict[str, float]:
        """Objective key -> best value; without those of which none is known."""
        pairs = zip(self._objectives, self._least.tolist(), strict=True)
        return {objective.key: objective.sign * value for objective, value in pairs if math.isfinite(value)}

    def take(self, evaluation: Evaluation) -> bool:
        """Takes an evaluation in; whether it is one of an architecture at a higher fidelity than before."""
        digest, cost = evaluation.candidate.architecture.digest, evaluation.candidate.fidelity.cost
        place = self._places.get(digest)
        if place is None:
            self._places[digest] = len(self._places)
            self._fidelity_costs.append(cost)
            self._put(self._places[digest], evaluation)
            return False
        is_promotion = self._fidelity_costs[place] < cost
        if not is_promotion:
            self._add(evaluation)
        elif evaluation.status == "complete":
            self._fidelity_costs[place] = cost
            before = self._rows[place].copy()
            self._put(place, evaluation)
            if (before <= self._least).any() or self.volume.holds(before):
                self._look_again()
        return is_promotion

    def _put(self, place: int, evaluation: Evaluation) -> None:
        if place >= len(self._rows):
            self._rows = np.vstack([self._rows, np.full_like(self._rows, np.nan)])
        self._rows[place] = _costs(self._objectives, evaluation)
        self._add(evaluation)

    def _add(self, evaluation: Evaluation) -> None:
        self.volume.add(evaluation)
        self._least = np.fmin(self._least, _finite(_costs(self._objectives, evaluation)))

    def _look_again(self) -> None:
        rows = self._rows[: len(self._places)]
        self.volume.set(rows)
        self._least = np.fmin.reduce(_finite(rows), axis=0)


class _Pace:
    """How long evaluations take, and how many are still to come."""

    def __init__(self, halving: Halving | None) -> None:
        self._halving = halving
        self._durations: dict[Fidelity | None, deque[float]] = {}
        self._counts: Counter[Fidelity | None] = Counter()

    def add(self, evaluation: Evaluation) -> None:
        key = None if self._halving is None else evaluation.candidate.fidelity
        self._durations.setdefault(key, deque(maxlen=_RECENT)).append(evaluation.seconds)
        self._counts[key] += 1

    def seconds_left(self, new: int, total: int) -> float:
        """Work in ``new`` architectures of ``total`` and their promotions; NaN before there is a duration."""
        if self._halving is None:
            return self._mean(None) * new if new else 0.0
        seconds, known, each = 0.0, math.nan, math.nan
        for rung, (fidelity, expected) in enumerate(
            zip(self._halving.rungs, self._halving.expected(total), strict=True)
        ):
            # A rung without a duration yet is reckoned from the one below by the cost of its fidelity.
            scaled = each * fidelity.cost / known if math.isfinite(known) else math.nan
            each = self._mean(fidelity) if fidelity in self._durations else scaled
            known = fidelity.cost
            left = new if rung == 0 else max(0, expected - self._counts[fidelity])
            seconds += each * left if left else 0.0
        return seconds

    def _mean(self, key: Fidelity | None) -> float:
        durations = self._durations.get(key)
        return sum(durations) / len(durations) if durations else math.nan


def figure(evaluation: Evaluation, key: str) -> float:
    """A metric as judged, else as predicted before training; NaN where it is neither or the evaluation failed."""
    if evaluation.status != "complete":
        return math.nan
    return evaluation.metrics.get(key, evaluation.candidate.predicted.get(key, math.nan))


def _costs(objectives: Sequence[Objective], evaluation: Evaluation) -> NDArray[np.float64]:
    """``(k,)`` figures, signed so that less is better."""
    return np.array([objective.sign * figure(evaluation, objective.key) for objective in objectives])


def _finite(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(costs), costs, np.nan)


def _ends(objective: Objective, reference: Mapping[str, float]) -> tuple[float, float]:
    """Worst and ideal cost of an objective; NaN for the worst where it is not known."""
    is_share = objective.metric.maximize and objective.metric.dimension == "share"
    worst = reference.get(objective.key, 0.0 if is_share else math.nan)
    return objective.sign * worst, objective.sign * (1.0 if is_share else 0.0)
