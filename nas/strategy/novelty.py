"""From candidate rows to proposals: feasible, and new as networks.

Responsible for the promises that all strategies make alike (`nas.strategy.problem.SearchStrategy`). A strategy gives
batches of rows in the order of its preference; what it falls back on when they do not suffice is here, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from nas.problem.history import History
from nas.space.moves import enumerate_rows, mutate, neighbours, sample
from nas.strategy.problem import Population, SearchProblem

ENUMERATE_AT_MOST = 1 << 16  # rows of a space that is searched exhaustively when sampling finds too little
SAMPLE_AT_MOST = 1 << 17  # rows that are drawn at most for one proposal
ROUNDS = 4  # batches of mutants
NEIGHBOURHOODS = 64  # rows whose neighbours are tried at most


def draw(problem: SearchProblem, n: int, rng: np.random.Generator) -> Population:
    """``(n, m)`` rows drawn from the space (`nas.space.moves.sample`), or from the rows there are."""
    if problem.rows is None:
        return sample(problem.space, n, rng)
    return problem.rows[rng.integers(len(problem.rows), size=n)]


def select_new(
    problem: SearchProblem, history: History, pending: Population, n: int, batches: Iterable[Population]
) -> Population:
    """(k <= n, m) the first rows of ``batches`` that are feasible and that build a network not seen yet.

    Seen are the networks of the history, of ``pending`` and of the rows chosen before. Batches are drawn one after the
    other, and none more once ``n`` rows are chosen. Each costs one call of the screen; a digest is computed only for
    rows that are about to be chosen.
    """
    width = len(problem.space.choices)
    chosen: list[Population] = []
    if n > 0:
        pending = np.asarray(pending, dtype=np.int16).reshape(len(pending), width)
        row_keys = {row.tobytes() for row in pending}
        digests = {problem.digest(row) for row in pending}
        for batch in batches:
            for row in _feasible(problem, batch):
                key = row.tobytes()
                if key in row_keys or key in history.row_keys:
                    continue
                row_keys.add(key)
                digest = problem.digest(row)
                if digest in digests or digest in history.digests:
                    continue
                digests.add(digest)
                chosen.append(row)
                if len(chosen) == n:
                    return np.stack(chosen)
    return np.stack(chosen) if chosen else np.zeros((0, width), dtype=np.int16)


def _feasible(problem: SearchProblem, batch: Population) -> Population:
    if len(batch) == 0:
        return batch
    return np.ascontiguousarray(batch[problem.screen(batch).feasible], dtype=np.int16)


def anywhere(problem: SearchProblem, history: History, n: int, rng: np.random.Generator) -> Iterator[Population]:
    """Batches of rows drawn from the whole space, with all the effort that one proposal may take.

    Few rows first, then more and more for a space in which little is feasible; a space that is small enough is then
    enumerated in random order, which finds all there is. In a larger one the neighbours of evaluated architectures,
    which were feasible, come last.
    """
    space = problem.space
    if problem.rows is not None:
        yield rng.permutation(problem.rows)
        return
    small = space.size <= ENUMERATE_AT_MOST
    budget = min(SAMPLE_AT_MOST, space.size // 4) if small else SAMPLE_AT_MOST
    size = max(16, 4 * n)
    while size <= budget:
        yield sample(space, size, rng)
        budget -= size
        size = min(8 * size, max(budget, 1 << 14))
    if small:
        yield rng.permutation(enumerate_rows(space, limit=ENUMERATE_AT_MOST))
        return
    evaluated = np.flatnonzero(history.complete)
    yield around(problem, history.rows[rng.permutation(evaluated)[:NEIGHBOURHOODS]], rng)


def mutants(problem: SearchProblem, parents: Population, n: int, rng: np.random.Generator) -> Iterator[Population]:
    """Batches of mutants of ``parents``, each parent equally often up to chance."""
    for _ in range(ROUNDS if len(parents) else 0):
        yield mutate(problem.space, parents[rng.integers(len(parents), size=max(16, 4 * n))], rng)


def around(problem: SearchProblem, rows: Population, rng: np.random.Generator) -> Population:
    """All neighbours of ``rows``, in random order, but first one of each row, then a second of each, and so on."""
    blocks = [rng.permutation(neighbours(problem.space, row)) for row in rows]
    if not blocks:
        return np.zeros((0, len(problem.space.choices)), dtype=np.int16)
    turn = np.concatenate([np.arange(len(block)) for block in blocks])
    return np.concatenate(blocks)[np.argsort(turn, kind="stable")]
