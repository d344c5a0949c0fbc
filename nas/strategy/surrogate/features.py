"""What the surrogate sees of an architecture: a few groups of numbers, each with a scale of its own.

Responsible for turning rows and their screened figures into groups of features, and for scaling them.

The groups are ``options`` (which option of each unordered choice), ``levels`` (how far up each ordered choice),
``counts`` (how often an option occurs over choices that have the same options), ``graph`` and ``paths`` (the live part
of cells, `nas.strategy.surrogate.live_graph`), ``file`` (the choices of what becomes of a network) and ``figures``
(logarithms of what is known before training). A group that a space does not have is left out.

What becomes of a network is kept apart from what it is: a network in INT8 is believed to be as far from itself in
float32 as the results say, and how much it loses may differ from network to network, as distances of groups add up
within one kernel. Figures that change with the file (its size, its latency) would make a large network in INT8 look
like a small one in float32; in such spaces only those of what is built are features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nas.space.moves import enumerate_rows
from nas.space.space import SearchSpace
from nas.strategy.problem import Population, SearchProblem
from nas.strategy.surrogate.live_graph import CellView, cells_of, live_features

Floats = NDArray[np.float64]

ENUMERATE_AT_MOST = 20_000  # rows that are all looked at for each proposal
OF_BUILT = ("macs", "parameters")  # figures of a network, whatever file becomes of it
CLIPPED_SHARE = 0.005  # of the figures at either end: a table's outliers would leave the rest without resolution


@dataclass(frozen=True, kw_only=True)
class Features:
    """Groups of features of the same rows.

    Attributes:
        groups: name -> ``(n, d)``.
    """

    groups: Mapping[str, Floats]

    def take(self, positions: NDArray[np.int64] | slice) -> Features:
        """The features of some of the rows."""
        return Features(groups={name: values[positions] for name, values in self.groups.items()})

    def joined(self, other: Features) -> Features:
        """The rows of ``self``, then those of ``other``."""
        return Features(
            groups={name: np.concatenate([values, other.groups[name]]) for name, values in self.groups.items()}
        )


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Makes two rows differ by one on average, in each group: ``|a - b|^2 = 1`` in the mean over reference rows.

    Attributes:
        offsets: group -> ``(d,)`` subtracted first.
        factors: group -> ``(d,)`` multiplied then; groups that are constant over the reference are left out.
        limits: group -> ``(2, d)`` to which values are clipped before.
    """

    offsets: Mapping[str, Floats]
    factors: Mapping[str, Floats]
    limits: Mapping[str, Floats]

    @classmethod
    def of(cls, reference: Features) -> Scaling:
        """The scaling of some rows, at least one. Summaries and figures are standardised column by column first."""
        offsets, factors, limits = {}, {}, {}
        for name, values in reference.groups.items():
            if name == "figures":
                limits[name] = np.quantile(values, [CLIPPED_SHARE, 1 - CLIPPED_SHARE], axis=0)
                values = np.clip(values, *limits[name])
            spread = values.std(axis=0)
            single = name in ("graph", "figures", "counts")
            factor = np.where(spread > 1e-9, 1 / np.maximum(spread, 1e-9), 0.0) if single else np.ones(values.shape[1])
            total = 2 * float(np.square(spread * factor).sum())
            if total > 0:
                offsets[name], factors[name] = values.mean(axis=0), factor / np.sqrt(total)
        return cls(offsets=offsets, factors=factors, limits=limits)

    @property
    def names(self) -> tuple[str, ...]:
        """The groups that are left, in a fixed order."""
        return tuple(self.factors)

    def __call__(self, features: Features) -> list[Floats]:
        """The scaled groups, in the order of `names`."""
        scaled = []
        for name, factor in self.factors.items():
            values = features.groups[name]
            if name in self.limits:
                values = np.clip(values, *self.limits[name])
            scaled.append((values - self.offsets[name]) * factor)
        return scaled


def features_of(space: SearchSpace, population: Population, figures: Mapping[str, Floats]) -> Features:
    """Features of rows ``(n, m)`` with their screened ``figures``, each ``(n,)``.

    Figures that are not positive and finite everywhere they matter are taken as they are found: a value that has no
    logarithm becomes the smallest one, NaN the median.
    """
    groups = {**row_features(space, population)}
    columns = [logarithms(values) for values in figures_of_built(space, figures).values()]
    groups["figures"] = np.column_stack(columns) if columns else np.zeros((len(population), 0))
    return Features(groups=groups)


def figures_of_built(space: SearchSpace, figures: Mapping[str, Floats]) -> dict[str, Floats]:
    """The figures, by metric key, that tell what is built; all of them in a space that says nothing of files."""
    return {key: values for key, values in figures.items() if not space.file_columns or key in OF_BUILT}


def logarithms(values: Floats) -> Floats:
    """Natural logarithms; what has none (zero, negative, infinite, NaN) gets the smallest one of those that have."""
    good = np.isfinite(values) & (values > 0)
    lowest = float(values[good].min()) if good.any() else 1.0
    return np.log(np.where(good, values, lowest))


def row_features(space: SearchSpace, population: Population) -> dict[str, Floats]:
    """The groups that follow from the rows alone."""
    groups = {
        "options": _options(space, population),
        "levels": _levels(space, population),
        "counts": _counts(space, population),
    }
    if space.file_columns:
        groups["file"] = np.concatenate(
            [_options(space, population, files=True), _levels(space, population, files=True)], axis=1
        )
    live = [live_features(view, population) for view in views_of(space)]
    if live:
        groups["graph"] = np.concatenate([summary for summary, _ in live], axis=1)
        groups["paths"] = np.concatenate([paths for _, paths in live], axis=1)
    return groups


@lru_cache(maxsize=4)
def views_of(space: SearchSpace) -> tuple[CellView, ...]:
    """The cells of a space, kept: they follow from the space, and take longer to make than a proposal."""
    return cells_of(space)


def is_small(problem: SearchProblem) -> bool:
    """Whether all rows there are can be looked at for each proposal."""
    return (problem.space.size if problem.rows is None else len(problem.rows)) <= ENUMERATE_AT_MOST


@lru_cache(maxsize=2)
def everyone(problem: SearchProblem) -> tuple[Population, dict[str, Floats], NDArray[np.int64]]:
    """All rows of a small problem, their features, and the class of each: rows of one class have the same features.

    Kept, as they follow from the problem alone and take longer than a proposal. The arrays must not be written to.
    """
    rows = enumerate_rows(problem.space) if problem.rows is None else np.unique(problem.rows, axis=0)
    groups = row_features(problem.described, rows)
    keys = [groups[name] for name in ("graph", "paths") if name in groups]
    # The live part of cells tells rows apart only where nothing but cells is chosen.
    columns = {column for view in views_of(problem.described) for edge in view.columns for column in edge}
    if not keys or len(columns) < problem.space.num_choices:
        return rows, groups, np.arange(len(rows))
    wide = np.ascontiguousarray(np.round(np.concatenate(keys, axis=1), 6))
    _, classes = np.unique(wide, axis=0, return_inverse=True)
    return rows, groups, classes.reshape(-1).astype(np.int64)


def _chosen(space: SearchSpace, *, files: bool) -> list[int]:
    """Columns that decide something: of what becomes of a network, or of what is built."""
    return [
        k for k, choice in enumerate(space.choices) if choice.num_options > 1 and (k in space.file_columns) == files
    ]


def _options(space: SearchSpace, population: Population, *, files: bool = False) -> Floats:
    """``(n, d)``, 1/sqrt(2) where the option is chosen: one choice that differs makes a squared distance of 1."""
    columns = [
        population[:, k] == option
        for k in _chosen(space, files=files)
        if not space.choices[k].ordered
        for option in range(space.choices[k].num_options)
    ]
    return np.column_stack(columns) * np.sqrt(0.5) if columns else np.zeros((len(population), 0))


def _levels(space: SearchSpace, population: Population, *, files: bool = False) -> Floats:
    """``(n, d)``, 0 to 1 from the first to the last option; 0.5 where the choice is inactive."""
    columns = [
        np.where(population[:, k] < 0, 0.5, population[:, k] / max(1, space.choices[k].num_options - 1))
        for k in _chosen(space, files=files)
        if space.choices[k].ordered
    ]
    return np.column_stack(columns) if columns else np.zeros((len(population), 0))


def _counts(space: SearchSpace, population: Population) -> Floats:
    """``(n, d)`` how often each option is chosen over the choices that share their labels, two or more of them."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for k in _chosen(space, files=False):
        alike.setdefault(space.choices[k].labels, []).append(k)
    columns = [
        (population[:, members] == option).sum(axis=1)
        for labels, members in alike.items()
        if len(members) > 1
        for option in range(len(labels))
    ]
    return np.column_stack(columns).astype(np.float64) if columns else np.zeros((len(population), 0))
