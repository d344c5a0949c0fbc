"""The candidates that the surrogate compares for one proposal.

Responsible for finding rows worth a look in spaces of any size: all of a small space, and in a larger one fresh draws,
mutants and crossovers of the best, and later the neighbourhood of what the acquisition likes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.problem.history import History
from nas.space.moves import crossover, mutate
from nas.strategy.capacity import DRAWS, figures_of, known_costs, known_objectives
from nas.strategy.novelty import draw
from nas.strategy.problem import Population, Screening, SearchProblem
from nas.strategy.surrogate.features import (
    Features,
    everyone,
    features_of,
    figures_of_built,
    is_small,
    logarithms,
)

Floats = NDArray[np.float64]

FRESH_ENOUGH = 128  # feasible draws below which more are drawn
BRED = 384  # mutants, and crossovers that are mutated, of the best
CANDIDATES_AT_MOST = 6000  # of a small space that are compared for one proposal


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Rows, with all that is known of them.

    Attributes:
        rows: ``(n, m)``.
        told: keys of the objectives that the screen tells, in the problem's order.
        known: ``(n, k)`` these, as costs.
        features: of the rows.
        feasible: ``(n,)`` whether the row keeps all budgets that can be checked.
    """

    rows: Population
    told: tuple[str, ...]
    known: Floats
    features: Features
    feasible: NDArray[np.bool_]

    def take(self, positions: NDArray[np.int64]) -> Pool:
        """Some of the rows."""
        return Pool(
            rows=self.rows[positions],
            told=self.told,
            known=self.known[positions],
            features=self.features.take(positions),
            feasible=self.feasible[positions],
        )

    def joined(self, other: Pool) -> Pool:
        """The rows of both."""
        return Pool(
            rows=np.concatenate([self.rows, other.rows]),
            told=self.told,
            known=np.concatenate([self.known, other.known]),
            features=self.features.joined(other.features),
            feasible=np.concatenate([self.feasible, other.feasible]),
        )


def described(problem: SearchProblem, rows: Population, *, feasible_only: bool) -> Pool:
    """Some rows as a pool, each once and only the feasible ones if asked; else in the given order."""
    if feasible_only:
        rows = np.unique(rows, axis=0)
    screening = problem.screen(rows)
    kept = np.flatnonzero(screening.feasible) if feasible_only else np.arange(len(rows))
    picked = np.ascontiguousarray(rows[kept])
    return Pool(
        rows=picked,
        told=told_keys(problem, screening),
        known=known_costs(problem, screening)[kept],
        features=features_of(problem.described, picked, figures_of(screening, kept)),
        feasible=screening.feasible[kept],
    )


def candidates(
    problem: SearchProblem, history: History, best: Population, seen: set[bytes], rng: np.random.Generator
) -> Pool:
    """Rows to compare, none of them ``seen``; ``best`` (b, m) are those to step from."""
    if is_small(problem):
        return _everyone_left(problem, seen, rng)
    fresh = np.zeros((0, problem.space.num_choices), dtype=np.int16)
    pool = None
    for size in DRAWS:
        fresh = draw(problem, size, rng)
        pool = described(problem, fresh, feasible_only=True)
        if len(pool.rows) >= FRESH_ENOUGH:
            break
    assert pool is not None
    if len(best):
        first, second = (best[rng.integers(len(best), size=BRED)] for _ in range(2))
        mixed = crossover(problem.space, first, second, rng)
        bred = np.concatenate([mutate(problem.space, first, rng), mutate(problem.space, mixed, rng), mixed])
        pool = pool.joined(described(problem, bred, feasible_only=True))
    return unseen(pool, seen)


def around(problem: SearchProblem, rows: Population, seen: set[bytes], rng: np.random.Generator, *, size: int) -> Pool:
    """``size`` steps from ``rows``, as far as they are feasible and not seen."""
    steps = mutate(problem.space, rows[rng.integers(len(rows), size=size)], rng)
    return unseen(described(problem, steps, feasible_only=True), seen)


def unseen(pool: Pool, seen: set[bytes]) -> Pool:
    """The rows of a pool that are not in ``seen``, each once."""
    known: set[bytes] = set()
    kept = []
    for place, row in enumerate(pool.rows):
        key = row.tobytes()
        if key not in seen and key not in known:
            known.add(key)
            kept.append(place)
    return pool.take(np.array(kept, dtype=np.int64))


def _everyone_left(problem: SearchProblem, seen: set[bytes], rng: np.random.Generator) -> Pool:
    """All feasible rows of a small space that are not seen, but for those that cannot be better than another.

    Of rows with the same features only those stay that are best in a known objective; then a random part if there are
    still too many.
    """
    rows, groups, classes = everyone(problem)
    screening = problem.screen(rows)
    left = screening.feasible.copy()
    if seen:
        left &= ~np.isin(row_numbers(rows), row_numbers(np.array([np.frombuffer(key, np.int16) for key in seen])))
    places = np.flatnonzero(left)
    known = known_costs(problem, screening)
    if len(np.unique(classes)) < len(classes):
        firsts = []
        for costs in known[places].T if known.shape[1] else [np.zeros(len(places))]:
            order = np.argsort(costs, kind="stable")
            firsts.append(order[np.unique(classes[places[order]], return_index=True)[1]])
        places = places[np.unique(np.concatenate(firsts))]
    if len(places) > CANDIDATES_AT_MOST:
        places = np.sort(rng.choice(places, size=CANDIDATES_AT_MOST, replace=False))
    told = figures_of_built(problem.described, screening.predicted)
    figures = [logarithms(np.asarray(values, dtype=np.float64))[places] for values in told.values()]
    picked = {name: values[places] for name, values in groups.items()}
    picked["figures"] = np.column_stack(figures) if figures else np.zeros((len(places), 0))
    return Pool(
        rows=rows[places],
        told=told_keys(problem, screening),
        known=known[places],
        features=Features(groups=picked),
        feasible=np.ones(len(places), dtype=np.bool_),
    )


def told_keys(problem: SearchProblem, screening: Screening) -> tuple[str, ...]:
    """Keys of the objectives that the screen tells."""
    return tuple(objective.key for objective in known_objectives(problem, screening))


def row_numbers(rows: Population) -> NDArray[np.void]:
    """``(n,)`` one value a row, equal for equal rows."""
    wide = np.ascontiguousarray(rows, dtype=np.int16)
    return wide.view(np.dtype((np.void, wide.dtype.itemsize * wide.shape[1]))).reshape(-1)
