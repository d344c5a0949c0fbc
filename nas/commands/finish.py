"""Step 5 of a search: the front trained in full, exported, run and measured."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.commands.display import Display
from nas.commands.setup import Setup
from nas.deploy.manifest import NAME, read_manifest
from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.front import cost_matrix, elite, non_dominated
from nas.problem.history import History
from nas.run.folder import RunFolder
from nas.run.runner import Session
from nas.strategy.halving import rungs_of
from nas.units import format_seconds

_SMALLEST_MACS = 2e5  # below about this, an epoch costs the same


def finalists(setup: Setup, history: History, screened: Mapping[str, bool]) -> list[Candidate]:
    """The candidates that are trained in full: the front of the search, then what comes near it (`spread_front`).

    Args:
        setup: how many, for how long.
        history: of the search.
        screened: digest -> whether it keeps the budgets as they are now; on a resume they may have become tighter.

    Each architecture is compared at its dearest fidelity, with all that were judged at the same one: what was promoted
    is never dominated by what was not. The fronts come first, the dearest fidelity leading, then what is near them.
    """
    run = setup.settings.run
    costs = cost_matrix(history, setup.objectives)
    for place, evaluation in enumerate(history):
        if not screened.get(evaluation.candidate.architecture.digest, False):
            costs[place] = math.nan
    num_judged = len(setup.task.data.splits["validation"])
    chosen = spread_rungs(history, costs, run.front, num_images=num_judged)
    return [
        replace(history[int(place)].candidate, index=number, fidelity=Fidelity(epochs=run.final_epochs), stop_below=())
        for number, place in enumerate(chosen)
    ]


def spread_rungs(history: History, costs: NDArray[np.float64], size: int, *, num_images: int) -> list[int]:
    """Places of at most ``size`` evaluations, each of another architecture, the best first; see `finalists`.

    Args:
        history: of the search.
        costs: ``(n, k)``, minimised; NaN for what must not be chosen. The first is the one that was judged.
        size: how many, at least 1.
        num_images: that it was judged on.
    """
    fronts: list[int] = []
    nearby: list[int] = []
    others: list[int] = []
    above: set[str] = set()
    for _, places in rungs_of(history):
        judged = places[~np.isnan(costs[places]).any(axis=1)]
        tolerance = _standard_error(history, judged, num_images)
        # Those promoted beyond this rung are there as rivals only: they have had their turn.
        for group, ranked in zip((fronts, nearby, others), _spread(costs[judged], size, tolerance), strict=True):
            group.extend(
                place
                for place in (int(judged[k]) for k in ranked)
                if history[place].candidate.architecture.digest not in above
            )
        above |= {history[int(place)].candidate.architecture.digest for place in judged}
    return [*fronts, *nearby, *others][:size]


def spread_front(costs: NDArray[np.float64], size: int, *, tolerance: float) -> NDArray[np.int64]:
    """Places of at most ``size`` rows: the front, then what the judgement cannot tell from it, then the next ranks.

    A short training on few validation images ranks with an error, and large networks are the slowest to show what they
    can. So spare places go to rows whose first cost is within twice the ``tolerance`` of being non-dominated, those
    farthest from the chosen ones in the other costs first.

    Args:
        costs: ``(n, k)``, minimised, finite; the first is the one that was judged.
        size: how many, at least 1.
        tolerance: standard error of the first cost.
    """
    front, near, rest = _spread(costs, size, tolerance)
    return np.array([*front, *near, *rest][:size], dtype=np.int64)


def _spread(costs: NDArray[np.float64], size: int, tolerance: float) -> tuple[list[int], list[int], list[int]]:
    """The three parts of `spread_front`, each best first: the front, what is near it, and all others."""
    front = np.flatnonzero(non_dominated(costs))
    best = [int(place) for place in front[elite(costs[front], len(front))]]
    chosen = best[: min(size, len(best))]
    hopeful = costs.copy()
    hopeful[:, 0] -= 2 * tolerance
    near = [place for place in range(len(costs)) if not _dominated(hopeful[place], costs[front])]
    others = _scaled(costs[:, 1:]) if len(costs) else costs
    spread = []
    while len(chosen) < size and (left := [place for place in near if place not in chosen]):
        distances = [np.abs(others[place] - others[chosen]).sum(axis=1).min() for place in left]
        spread.append(left[int(np.argmax(distances))])
        chosen.append(spread[-1])
    rest = [int(place) for place in elite(costs, len(costs)) if int(place) not in {*best, *spread}]
    return best, spread, rest


def _dominated(cost: NDArray[np.float64], front: NDArray[np.float64]) -> bool:
    return bool(((front <= cost).all(axis=1) & (front < cost).any(axis=1)).any())


def _scaled(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns on a logarithmic scale where they are positive, from 0 to 1; latencies and sizes differ by factors."""
    levels = np.where((costs > 0).all(axis=0), np.log(np.where(costs > 0, costs, 1.0)), costs)
    return np.asarray((levels - levels.min(axis=0)) / np.maximum(np.ptp(levels, axis=0), 1e-12))


def _standard_error(history: History, judged: NDArray[np.int64], num_images: int) -> float:
    """Of the best validation accuracy, by the binomial distribution, with a success and a failure added."""
    best = max((history[int(place)].metrics.get("accuracy", 0.0) for place in judged), default=0.0)
    share = (best * num_images + 1) / (num_images + 2)
    return math.sqrt(share * (1 - share) / num_images)


def train_finalists(
    folder: RunFolder, candidates: Sequence[Candidate], session: Session, display: Display
) -> list[Evaluation]:
    """Trains and exports those that the run folder does not hold yet; returns the evaluations of those that failed."""
    missing = [candidate for candidate in candidates if not _is_done(folder, candidate)]
    done, started, failed = len(candidates) - len(missing), time.monotonic(), []
    display.progress("finish", done, len(candidates), text="training in full, exporting")
    work = total = sum(_work(candidate) for candidate in missing)
    # The longest first: begun last, one large network would keep a single worker busy at the end.
    waiting = sorted(missing, key=lambda candidate: -_work(candidate))
    while waiting or session.in_flight:
        while waiting and session.room > 0:
            session.submit(waiting.pop(0))
        for evaluation in session.wait():
            done += 1
            failed += [evaluation] if evaluation.status != "complete" else []
            work -= _work(evaluation.candidate)
            left = (time.monotonic() - started) * work / (total - work)
            name, accuracy = evaluation.candidate.architecture.digest[:6], evaluation.metrics.get("accuracy", math.nan)
            outcome = f"test {accuracy:.1%}" if evaluation.status == "complete" else evaluation.status
            text = f"training in full, exporting  {format_seconds(left)} left  [{name} {outcome}]"
            display.progress("finish", done, len(candidates), text=text, each=True)
    return failed


def _work(candidate: Candidate) -> float:
    """What training a candidate costs, relative to others: roughly its MACs and something for every network."""
    return candidate.predicted.get("macs", 0.0) + _SMALLEST_MACS


def _is_done(folder: RunFolder, candidate: Candidate) -> bool:
    path = folder.model(candidate.architecture.digest)
    if not (path / NAME).is_file():
        return False
    record: Mapping[str, Any] = read_manifest(path)
    return bool(record["training"]["epochs"] == candidate.fidelity.epochs and not record["failed"])
