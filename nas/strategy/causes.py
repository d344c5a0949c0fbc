"""Which choices of a space cost most.

Responsible for turning a sample and its figures into sentences such as ``expansion=6 costs 0.012 ms more than 2``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.space.space import SearchSpace
from nas.strategy.problem import Population
from nas.units import Dimension, format_quantity

FEWEST = 5  # rows behind a mean, at least


@dataclass(frozen=True, kw_only=True)
class Cause:
    """The spread that one choice makes in a metric.

    Attributes:
        choice: its name.
        dear: label of the option with the highest mean.
        cheap: label of the option with the lowest mean.
        difference: highest minus lowest mean, in the canonical unit of the metric; positive.
        dimension: of the metric.
    """

    choice: str
    dear: str
    cheap: str
    difference: float
    dimension: Dimension

    def __str__(self) -> str:
        difference = format_quantity(self.difference, self.dimension)
        return f"{self.choice}={self.dear} costs {difference} more than {self.cheap}"


def find_causes(
    space: SearchSpace, population: Population, values: NDArray[np.float64], dimension: Dimension, *, limit: int = 3
) -> tuple[Cause, ...]:
    """The ``limit`` choices whose options differ most in the mean of ``values`` (n,), largest difference first.

    Means are over the rows of ``population`` (n, m) that have the option and a finite value: the effect of a choice
    includes that of the choices it switches on. An option with fewer than 5 rows is left out.
    """
    finite = np.isfinite(values)
    population, values = population[finite], values[finite]
    causes = []
    for column, choice in enumerate(space.choices):
        active = population[:, column] >= 0
        options = population[active, column].astype(np.int64)
        counts = np.bincount(options, minlength=len(choice.options))
        sums = np.bincount(options, weights=values[active], minlength=len(choice.options))
        usable = np.flatnonzero(counts >= FEWEST)
        if len(usable) < 2:
            continue
        means = sums[usable] / counts[usable]
        dear, cheap = means.argmax(), means.argmin()
        if means[dear] > means[cheap]:
            causes.append(
                Cause(
                    choice=choice.name,
                    dear=choice.labels[usable[dear]],
                    cheap=choice.labels[usable[cheap]],
                    difference=float(means[dear] - means[cheap]),
                    dimension=dimension,
                )
            )
    return tuple(sorted(causes, key=lambda cause: -cause.difference)[:limit])
