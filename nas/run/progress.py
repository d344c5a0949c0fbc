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
        costs = np.array([objective.sign * figure(evaluation, objective.key) for objective in self._objectives])
        if not np.isfinite(costs).all() or (self._front <= costs).all(axis=1).any():
            return
        front = np.vstack([self._front, costs])
        self._front = front[non_dominated(front)]
        self.value = hypervolume(self._front / self._extent, self._worst / self._extent)


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
        self._objectives = tuple(objectives)
        self._total = total
        self._reference = reference
        self._volume = FrontVolume(objectives, reference)
        self._best: dict[str, float] = {}
        self._dearest: dict[str, Evaluation] = {}
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
        digest, fidelity = evaluation.candidate.architecture.digest, evaluation.candidate.fidelity
        before = self._dearest.get(digest)
        is_promotion = before is not None and before.candidate.fidelity.cost < fidelity.cost
        self.promoted += is_promotion
        self.done += not is_promotion
        self.stopped += evaluation.status == "stopped"
        self.failed += evaluation.status not in ("complete", "stopped")
        self._pace.add(evaluation)
        if before is None or (is_promotion and evaluation.status == "complete"):
            self._dearest[digest] = evaluation
        if is_promotion and evaluation.status == "complete":
            self._judge_again()
        else:
            self._take(evaluation)

    def _take(self, evaluation: Evaluation) -> None:
        self._volume.add(evaluation)
        for objective in self._objectives:
            value = figure(evaluation, objective.key)
            best = self._best.get(objective.key, math.nan)
            if math.isfinite(value) and not objective.sign * best <= objective.sign * value:
                self._best[objective.key] = value

    def _judge_again(self) -> None:
        """Front and best values anew, after a result that replaces an earlier one."""
        self._volume = FrontVolume(self._objectives, self._reference)
        self._best = {}
        for evaluation in self._dearest.values():
            self._take(evaluation)

    def progress(self, *, running: int, num_slots: int, latest: Evaluation | None = None) -> Progress:
        """This moment, with ``running`` candidates in flight on ``num_slots``."""
        work = self._pace.seconds_left(max(0, self._total - self.done), self._total)
        return Progress(
            done=self.done,
            failed=self.failed,
            running=running,
            total=self._total,
            best=dict(self._best),
            hypervolume=self._volume.value,
            seconds=time.monotonic() - self._start,
            seconds_left=work / num_slots,
            latest=latest,
            stopped=self.stopped,
            promoted=self.promoted,
        )


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


def _ends(objective: Objective, reference: Mapping[str, float]) -> tuple[float, float]:
    """Worst and ideal cost of an objective; NaN for the worst where it is not known."""
    is_share = objective.metric.maximize and objective.metric.dimension == "share"
    worst = reference.get(objective.key, 0.0 if is_share else math.nan)
    return objective.sign * worst, objective.sign * (1.0 if is_share else 0.0)
