"""Where a search begins: a few architectures spread over what is known before training.

Responsible for the initial design that strategies share. Architectures drawn at random have much the same latency; the
ends of the front, which are cheap and dear, are then missing from what a strategy learns from. So the draws are
stratified over a known cost, on a logarithmic scale, ends first.

References:
    [vanDerCorput1935] J. G. van der Corput. Verteilungsfunktionen. Proc. Akad. Wet. Amsterdam 38, 1935.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nas.problem.history import History
from nas.strategy.novelty import anywhere, draw
from nas.strategy.problem import Population, SearchProblem

POOL = 1024  # draws from which the nearest to each target is taken


def initial_design(
    problem: SearchProblem, history: History, pending: Population, n: int, rng: np.random.Generator
) -> Iterator[Population]:
    """Batches of rows to begin with; the first holds ``n`` rows, or fewer where little is feasible.

    Evaluation ``k`` of a search, counted over history and pending, is the draw whose cost is nearest to target ``k``
    of a sequence that begins with both ends and fills the largest gaps [vanDerCorput1935]. The cost is the first
    objective that is known before training; without one, and behind the first batch, draws are uniform.
    """
    known = [objective for objective in problem.objectives if objective.metric.known_before_training]
    if known:
        pool = draw(problem, POOL, rng)
        screening = problem.screen(pool)
        values = screening.predicted.get(known[0].key, np.full(len(pool), np.nan))
        usable = screening.feasible & (values > 0) & np.isfinite(values)
        if usable.any():
            levels = np.log(values[usable])
            first = len(history) + len(pending)
            wanted = [levels.min() + target(first + k) * np.ptp(levels) for k in range(n)]
            yield pool[usable][[int(np.abs(levels - level).argmin()) for level in wanted]]
    yield from anywhere(problem, history, n, rng)


def target(k: int) -> float:
    """Place ``k`` in [0, 1] of the sequence 0, 1, 1/2, 1/4, 3/4, 1/8, …"""
    if k < 2:
        return float(k)
    place, share, number = 0.0, 0.5, k - 1
    while number:
        place += share * (number & 1)
        number >>= 1
        share /= 2
    return place
