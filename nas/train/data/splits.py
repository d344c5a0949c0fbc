"""Stratified draws: every class keeps its share.

Responsible for the arithmetic of splits and limits; it knows labels only, no images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def apportion(counts: Ints, total: int, *, minimum: int | Ints = 0, most: Ints | None = None) -> Ints:
    """Whole parts of ``total`` in proportion to ``counts``, by largest remainder.

    Args:
        counts: ``(k,)`` what there is of each kind.
        total: how many to take together; raised to what ``minimum`` needs, lowered to what there is.
        minimum: the least of each kind, as far as there are so many.
        most: ``(k,)`` the most of each kind; None: what there is.

    Returns:
        ``(k,)``, each at most its count. Ties go to the kind that stands first.
    """
    ceiling = counts if most is None else np.minimum(counts, most)
    floor = np.minimum(ceiling, minimum)
    total = int(np.clip(total, floor.sum(), ceiling.sum()))
    quota = counts * (total / max(1, int(counts.sum())))
    parts: Ints = np.clip(np.floor(quota).astype(np.int64), floor, ceiling)
    while (missing := total - int(parts.sum())) != 0:
        step = 1 if missing > 0 else -1
        movable = np.flatnonzero(parts < ceiling if step > 0 else parts > floor)
        need = step * (quota[movable] - parts[movable])
        chosen = movable[np.argsort(-need, kind="stable")[: abs(missing)]]
        parts[chosen] += step
    return parts


def draw(labels: Ints, parts: Ints, rng: np.random.Generator) -> Ints:
    """Ascending positions of a random draw of ``parts[c]`` members of each class ``c``.

    Args:
        labels: ``(n,)`` classes.
        parts: ``(k,)`` how many of each; at most as many as there are.
        rng: source of randomness.
    """
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:part] for label, part in enumerate(parts)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def stratified_order(labels: Ints, rng: np.random.Generator) -> Ints:
    """A random permutation of which every prefix holds the classes in proportion.

    A prefix of ``m`` of ``n`` holds about ``m * n_c / n`` members of class ``c``; a longer prefix holds all of a
    shorter one.

    Args:
        labels: ``(n,)`` classes.
        rng: source of randomness.
    """
    place = np.empty(len(labels), dtype=np.float64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[rng.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((rng.permutation(len(labels)), place)).astype(np.int64)


def counts_of(labels: Ints, num_classes: int) -> Ints:
    """``(num_classes,)`` members of each class."""
    return np.bincount(labels, minlength=num_classes).astype(np.int64)
