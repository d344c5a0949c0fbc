"""Learning curves of earlier trainings, and when a training is hopeless in their light.

Responsible for the thresholds below which a candidate is given up. They are a pure function of the history: what the
validation accuracy gained from an epoch to the end, over candidates that were trained to the end whatever they did,
bounds by conformal prediction what it will gain at most.

References:
    [Papadopoulos2002] Papadopoulos, Proedrou, Vovk, Gammerman. Inductive confidence machines for regression. ECML 2002.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.problem.evaluation import Candidate, Evaluation
from nas.problem.goals import Objective
from nas.problem.history import History

Floats = NDArray[np.float64]

_JUDGED = "accuracy"  # the metric that curves are of
_LEAST_SPREAD = 1e-3  # of gains at an epoch; below it they count as equal


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """Gives up a training that will not be non-dominated.

    Known costs are known: to be non-dominated, a candidate has to beat the most accurate one of at most its costs. It
    is stopped after an epoch from which it would have to gain more than all but a share ``rate`` of trainings did.
    One bound holds for all epochs of a training together.

    Attributes:
        rate: of trainings that are stopped although they would have been non-dominated, at most; in (0, 1). Of all
            trainings: of those that *would* be non-dominated the share may be larger.
        free: one candidate in so many is not stopped, whatever it does. The bound is calibrated on these, and on those
            of before there was one, as the gains of stopped trainings are not known.
    """

    rate: float
    free: int = 4

    def __post_init__(self) -> None:
        assert 0 < self.rate < 1
        assert self.free >= 1

    def __call__(self, objectives: Sequence[Objective], history: History, candidate: Candidate) -> tuple[float, ...]:
        """``stop_below`` of a candidate about to be trained; () where nothing tells that it may be stopped.

        Args:
            objectives: of the search; accuracy among them, and all others known before training.
            history: so far. Only evaluations at the candidate's fidelity count.
            candidate: with its predicted costs.
        """
        if candidate.index % self.free == 0:
            return ()
        peers = [e for e in history if e.status == "complete" and e.candidate.fidelity == candidate.fidelity]
        bar = _bar(objectives, peers, candidate)
        if bar is None:
            return ()
        unstopped = [e for e in peers if not e.candidate.stop_below]
        most = largest_gains(gains(unstopped, candidate.fidelity.epochs), self.rate)
        if most is None:
            return ()
        thresholds = np.clip(bar - most, 0.0, 1.0)
        return tuple(float(value) for value in thresholds) if thresholds.any() else ()


def gains(evaluations: Sequence[Evaluation], epochs: int) -> Floats:
    """``(n, epochs - 1)`` accuracy at the end less accuracy after each epoch but the last.

    NaN for epochs without a value. Trainings without a curve of that length are left out.
    """
    rows = [
        evaluation.metrics[_JUDGED] - np.array(evaluation.curve[:-1], dtype=np.float64)
        for evaluation in evaluations
        if len(evaluation.curve) == epochs and math.isfinite(evaluation.metrics.get(_JUDGED, math.nan))
    ]
    return np.array(rows, dtype=np.float64).reshape(len(rows), epochs - 1)


def largest_gains(found: Floats, rate: float) -> Floats | None:
    """``(e,)`` gain from each epoch that a further training exceeds anywhere with a probability of at most ``rate``.

    Gains are put on one scale by median and spread of their epoch; the bound is the conformal quantile
    [Papadopoulos2002] of the largest of each training. Infinite for epochs without a value.

    Args:
        found: ``(n, e)`` gains of trainings, NaN where unknown.
        rate: in (0, 1).

    Returns:
        None where there are too few trainings for the rate: fewer than ``1 / rate - 1``.
    """
    found = found[np.isfinite(found).any(axis=1)]
    rank = math.ceil((len(found) + 1) * (1 - rate))
    if len(found) == 0 or rank > len(found):
        return None
    known = np.isfinite(found).all(axis=0)
    if not known.any():
        return None
    middle = np.median(found[:, known], axis=0)
    spread = np.maximum(found[:, known].std(axis=0), _LEAST_SPREAD)
    scores = np.sort(((found[:, known] - middle) / spread).max(axis=1))
    most = np.full(found.shape[1], np.inf)
    most[known] = middle + scores[rank - 1] * spread
    return most


def _bar(objectives: Sequence[Objective], peers: Sequence[Evaluation], candidate: Candidate) -> float | None:
    """The accuracy that a candidate must reach: the best of those that cost no more. None where there is none."""
    costs = [objective for objective in objectives if objective.key != _JUDGED]
    if len(costs) == len(objectives) or any(objective.key not in candidate.predicted for objective in costs):
        return None
    rivals = [
        peer.metrics.get(_JUDGED, math.nan)
        for peer in peers
        if all(
            objective.sign * _figure(peer, objective.key) <= objective.sign * candidate.predicted[objective.key]
            for objective in costs
        )
    ]
    finite = [accuracy for accuracy in rivals if math.isfinite(accuracy)]
    return max(finite) if finite else None


def _figure(evaluation: Evaluation, key: str) -> float:
    """As predicted, like the candidate's; else as judged."""
    return evaluation.candidate.predicted.get(key, evaluation.metrics.get(key, math.nan))
