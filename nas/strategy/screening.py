"""Screening: what is known of an architecture before it is trained, held against the budgets.

Responsible for the verdict on whole populations. Where a figure is predicted, its upper bound decides, so that a budget
keeps its confidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas.errors import UserError
from nas.problem.goals import Budget
from nas.strategy.problem import Population, Screening

BUILDABLE = "buildable"


class Costs(Protocol):
    """Exact figures of a population, e.g. `nas.model.PopulationCosts`."""

    def costs(self, population: Population) -> Mapping[str, NDArray[np.float64]]:
        """Metric key -> (n,) values; NaN where a row cannot be built."""
        ...

    def buildable(self, population: Population) -> NDArray[np.bool_]:
        """(n,) True where the network can be built for the data's shape."""
        ...


class Predictor(Protocol):
    """An estimate with a bound, e.g. `nas.device.LatencyPredictor`."""

    def predict_ms(self, population: Population) -> NDArray[np.float64]:
        """(n,) expected values."""
        ...

    def upper_ms(self, population: Population, confidence: float) -> NDArray[np.float64]:
        """(n,) values that are not exceeded with probability ``confidence``, each row by itself."""
        ...


@dataclass(frozen=True, kw_only=True)
class Screen:
    """(n, m) population -> `Screening`; each row is judged by itself.

    A budget on a metric that only training can tell (accuracy) is not screened: it applies to the final front.

    Attributes:
        costs: exact figures, and what can be built at all.
        predictors: metric key -> predictor; each metric here gets a prediction and a bound, budget or not.
        budgets: what must hold.
        confidence: of the bounds of metrics that have no budget with a confidence of its own.
    """

    costs: Costs
    predictors: Mapping[str, Predictor] = field(default_factory=dict)
    budgets: Sequence[Budget] = ()
    confidence: float = 0.95

    def __call__(self, population: Population) -> Screening:
        """Judges a population.

        Raises:
            UserError: a budget on a metric that is neither exact nor predicted nor judged by training.
        """
        exact = self.costs.costs(population)
        confidences = {budget.key: budget.confidence for budget in self.budgets if budget.confidence is not None}
        predicted = dict(exact)
        upper = {}
        for key, predictor in self.predictors.items():
            predicted[key] = predictor.predict_ms(population)
            upper[key] = predictor.upper_ms(population, confidences.get(key, self.confidence))
        buildable = np.asarray(self.costs.buildable(population), dtype=np.bool_)
        feasible = buildable.copy()
        broken = {BUILDABLE: int(np.count_nonzero(~buildable))}
        for budget in self.budgets:
            if not budget.metric.known_before_training:
                continue
            if budget.key not in predicted:
                raise _unknown(budget, predicted)
            kept = keeps(budget, upper[budget.key] if budget.key in upper else predicted[budget.key])
            broken[budget.key] = int(np.count_nonzero(~kept))
            feasible &= kept
        return Screening(feasible=feasible, buildable=buildable, predicted=predicted, upper=upper, broken=broken)


def keeps(budget: Budget, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) where the values keep the budget, as `Budget.holds` says; NaN never does."""
    return values >= budget.limit if budget.metric.maximize else values <= budget.limit


def _unknown(budget: Budget, known: Mapping[str, object]) -> UserError:
    return UserError(
        f"budget.{budget.metric.short}",
        f"must be on a metric that is known before training, but nothing predicts {budget.key}",
        f"known are {', '.join(sorted(known)) or 'none'}; calibrate the device, or drop the budget",
    )


class CountedScreen:
    """A screen that counts what it refuses, for the report; its verdicts are those of the screen within.

    Args:
        screen: judges.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.num_screened = 0
        self.broken: dict[str, int] = {}

    def __call__(self, population: Population) -> Screening:
        """See `Screen`."""
        screening = self._screen(population)
        self.num_screened += len(population)
        for key, count in screening.broken.items():
            self.broken[key] = self.broken.get(key, 0) + count
        return screening
