"""Asynchronous successive halving for several objectives: who is judged more thoroughly, and when.

Responsible for the rungs, for who is best on one, and for what may be compared with what; `nas.strategy.ladder` keeps
count while a search goes on. Strategies propose architectures
for the lowest rung; whatever is among the best ``1 / eta`` of a rung is judged again on the next, without waiting for
the rung to fill [Li2020]. Best is meant as in evolutionary search: by non-dominated rank, then by what a member adds to
the hypervolume of its front, as [Schmucker2021] found good for promotions.

Accuracies of different fidelities are never compared: two evaluations say which architecture is better only where they
were made at the same fidelity.

References:
    [Li2020] L. Li, K. Jamieson, A. Rostamizadeh et al. A System for Massively Parallel Hyperparameter Tuning. MLSys
        2020.
    [Schmucker2021] R. Schmucker, M. Donini, M. B. Zafar, D. Salinas, C. Archambeau. Multi-objective Asynchronous
        Successive Halving. arXiv 2106.12639, 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nas.problem.evaluation import Evaluation, Fidelity
from nas.problem.front import hypervolume, pareto_rank
from nas.problem.history import History

_BEYOND = 1.1  # the reference point, in ranges of the rung from its best values


@dataclass(frozen=True, kw_only=True)
class Halving:
    """A ladder of fidelities.

    Attributes:
        rungs: from the cheapest to the dearest, at least one; with one there are no promotions.
        eta: of so many on a rung, one is promoted; at least 2.
    """

    rungs: tuple[Fidelity, ...]
    eta: int = 3

    def __post_init__(self) -> None:
        assert self.rungs, "a ladder has a rung"
        assert all(low.cost < high.cost for low, high in zip(self.rungs, self.rungs[1:], strict=False))
        assert self.eta >= 2

    @property
    def entry(self) -> Fidelity:
        """That new architectures are judged at."""
        return self.rungs[0]

    def expected(self, num_architectures: int) -> tuple[int, ...]:
        """How many evaluations each rung gets if the best of it stay the best; a little more in truth."""
        return tuple(num_architectures // self.eta**rung for rung in range(len(self.rungs)))


def at_fidelity(history: History, fidelity: Fidelity) -> History:
    """The evaluations at one fidelity, in their order."""
    return History(evaluation for evaluation in history if evaluation.candidate.fidelity == fidelity)


def highest(history: History) -> History:
    """Of each architecture the complete evaluation at its dearest fidelity, else its last; in order of appearance."""
    best: dict[str, Evaluation] = {}
    for evaluation in history:
        digest = evaluation.candidate.architecture.digest
        known = best.get(digest)
        if known is None or _worth(evaluation) >= _worth(known):
            best[digest] = evaluation
    return History(best.values())


def comparable(history: History, fidelity: Fidelity) -> History:
    """Each architecture once, so that results may be compared: in order of appearance.

    One that was not judged at ``fidelity`` is there without a result, as ``stopped``, so that it counts as tried.
    """
    seen: dict[str, Evaluation] = {}
    for evaluation in history:
        digest = evaluation.candidate.architecture.digest
        if evaluation.candidate.fidelity == fidelity:
            seen[digest] = evaluation
        else:
            seen.setdefault(digest, replace(evaluation, status="stopped", metrics={}))
    return History(seen.values())


def with_stopped(history: History) -> History:
    """The history with each stopped evaluation as a complete one of the epochs that it was given.

    For strategies that tell fidelities apart: a stopped training is a result of a cheaper judgement. The history itself
    where nothing was stopped.
    """
    if not any(evaluation.status == "stopped" for evaluation in history):
        return history
    return History(_as_cheaper(evaluation) for evaluation in history)


def rungs_of(history: History) -> list[tuple[Fidelity, NDArray[np.int64]]]:
    """The fidelities at which there are complete evaluations, the dearest first, with the places of these."""
    places: dict[Fidelity, list[int]] = {}
    for place, evaluation in enumerate(history):
        if evaluation.status == "complete":
            places.setdefault(evaluation.candidate.fidelity, []).append(place)
    ordered = sorted(places, key=lambda fidelity: -fidelity.cost)
    return [(fidelity, np.array(places[fidelity], dtype=np.int64)) for fidelity in ordered]


def order_by_contribution(costs: NDArray[np.float64], size: int | None = None) -> NDArray[np.int64]:
    """Places of at most ``size`` rows without NaN, best first: by rank, then by the hypervolume lost without the row.

    Columns are scaled to their ranges; the reference point lies a tenth of a range beyond the worst value.
    """
    valid = np.flatnonzero(~np.isnan(costs).any(axis=1))
    size = len(valid) if size is None else min(size, len(valid))
    if size == 0:
        return valid[:0]
    low, high = costs[valid].min(axis=0), costs[valid].max(axis=0)
    scaled = (costs[valid] - low) / np.where(high > low, high - low, 1.0)
    ranks = pareto_rank(scaled)
    order: list[int] = []
    for rank in np.unique(ranks):
        front = np.flatnonzero(ranks == rank)
        order.extend(front[np.argsort(-_lost(scaled[front]), kind="stable")].tolist())
        if len(order) >= size:
            break
    return valid[order[:size]]


def _lost(front: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(n,)`` hypervolume of a front of scaled costs that is lost without each row."""
    reference = np.full(front.shape[1], _BEYOND)
    whole = hypervolume(front, reference)
    return np.array([whole - hypervolume(np.delete(front, place, axis=0), reference) for place in range(len(front))])


def _worth(evaluation: Evaluation) -> tuple[bool, float]:
    return evaluation.status == "complete", evaluation.candidate.fidelity.cost


def _as_cheaper(evaluation: Evaluation) -> Evaluation:
    if evaluation.status != "stopped" or not evaluation.curve:
        return evaluation
    fidelity = replace(evaluation.candidate.fidelity, epochs=len(evaluation.curve))
    return replace(
        evaluation,
        status="complete",
        metrics={"accuracy": evaluation.curve[-1]},
        candidate=replace(evaluation.candidate, fidelity=fidelity),
    )
