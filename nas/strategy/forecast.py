"""The forecast: what the budgets leave of a space, before anything is spent on it.

Responsible for the figures of a forecast, and for the error when nothing is left. Where no draw keeps the budgets, a
descent looks for what the space can reach, so that the error can say how far the budget must be relaxed.

References:
    [Wilson1927] Wilson. Probable inference, the law of succession, and statistical inference. Journal of the American
        Statistical Association 22, 1927.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.errors import UserError
from nas.problem.goals import Budget, Objective
from nas.space.moves import enumerate_rows, sample
from nas.space.space import SearchSpace
from nas.strategy.causes import Cause, find_causes
from nas.strategy.descent import cost_of, descend, violation_of
from nas.strategy.problem import Population, Screening
from nas.strategy.screening import BUILDABLE, Screen, keeps
from nas.units import format_quantity


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many of the draws have a property, with what that says of the space.

    Attributes:
        count: draws that have it.
        total: draws.
        low: lower end of the 95 % interval of the share [Wilson1927]; the share itself where all rows were looked at.
        high: upper end.
    """

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share among the draws, from 0 to 1; 0 where there are none."""
        return self.count / self.total if self.total else 0.0


@dataclass(frozen=True, kw_only=True)
class Range:
    """What a metric spans among the architectures that can be built.

    Attributes:
        minimum: smallest expected value.
        median: middle expected value.
        maximum: largest expected value.
        tightest: smallest value that a budget would be held against: the upper bound, or the exact value.
    """

    minimum: float
    median: float
    maximum: float
    tightest: float


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """A budget that nothing was found to keep.

    Attributes:
        budget: which.
        expected: expected value of the architecture that comes nearest.
        tightest: what a budget must allow for it: its upper bound, or the exact value.
        causes: the choices that cost most, dearest first.
    """

    budget: Budget
    expected: float
    tightest: float
    causes: tuple[Cause, ...]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What the budgets leave of a space.

    Attributes:
        space: its name.
        size: number of its architectures (canonical rows).
        exhaustive: True where all of them were looked at, False where they were drawn as `nas.space.moves.sample` does.
        share: those that can be built and keep all budgets.
        shares: ``buildable``, and the key of each budget that is known before training -> those that keep it.
        ranges: metric key -> what it spans, for all metrics known before training.
        feasible: whether any architecture that keeps all budgets was found, in the draws or by descent.
        shortfalls: the budgets that nothing keeps even by itself.
        conflict: for budgets that only break together: the values of the architecture that comes nearest to all.
    """

    space: str
    size: int
    exhaustive: bool
    share: Share
    shares: dict[str, Share]
    ranges: dict[str, Range]
    feasible: bool
    shortfalls: tuple[Shortfall, ...] = ()
    conflict: tuple[tuple[Budget, float], ...] = ()

    def require_feasible(self) -> None:
        """Raises `UserError` if nothing keeps the budgets: the tightest value seen, and what to relax."""
        if self.feasible:
            return
        if self.shares[BUILDABLE].count == 0:
            raise UserError(
                f"space {self.space}",
                f"must hold a network that can be built for this data, but none of {self.share.total} can",
                "use a larger resolution, or a space with fewer strides",
            )
        if self.shortfalls:
            raise _unreachable(self.space, self.shortfalls[0])
        raise _conflicting(self.space, self.conflict)


def forecast(
    screen: Screen,
    space: SearchSpace,
    objectives: Sequence[Objective],
    rng: np.random.Generator,
    *,
    num_samples: int = 20_000,
) -> Forecast:
    """Draws architectures (all, if there are no more than ``num_samples``) and holds them against the budgets.

    Raises:
        UserError: a budget or an objective on a metric that is neither exact nor predicted nor judged by training.
    """
    exhaustive = space.size <= num_samples
    population = enumerate_rows(space, limit=num_samples) if exhaustive else sample(space, num_samples, rng)
    screening = screen(population)
    for objective in objectives:
        if objective.metric.known_before_training and objective.key not in screening.predicted:
            known = ", ".join(sorted(screening.predicted))
            problem = f"must be known before training, but nothing predicts {objective.key}"
            raise UserError("objectives", problem, f"known are {known}; calibrate the device, or drop the objective")
    total = len(population)
    counts = {key: total - broken for key, broken in screening.broken.items()}
    num_feasible = int(np.count_nonzero(screening.feasible))
    outcome = _Outcome(feasible=num_feasible > 0)
    if not outcome.feasible and screening.buildable.any():
        outcome = _look_further(screen, space, population, screening)
    return Forecast(
        space=space.name,
        size=space.size,
        exhaustive=exhaustive,
        share=share_of(num_feasible, total, exhaustive=exhaustive),
        shares={key: share_of(count, total, exhaustive=exhaustive) for key, count in counts.items()},
        ranges=_ranges(screening),
        feasible=outcome.feasible,
        shortfalls=outcome.shortfalls,
        conflict=outcome.conflict,
    )


def share_of(count: int, total: int, *, exhaustive: bool = False) -> Share:
    """``count`` of ``total`` draws as a share with its 95 % interval [Wilson1927]; none if they are all there is."""
    if exhaustive or total == 0:
        value = count / total if total else 0.0
        return Share(count=count, total=total, low=value, high=value if total else 1.0)
    z = 1.959963984540054  # 97.5 % point of the normal distribution
    share = count / total
    scale = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / scale
    low = 0.0 if count == 0 else max(0.0, centre - half)
    high = 1.0 if count == total else min(1.0, centre + half)
    return Share(count=count, total=total, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    feasible: bool
    shortfalls: tuple[Shortfall, ...] = ()
    conflict: tuple[tuple[Budget, float], ...] = ()


def _look_further(screen: Screen, space: SearchSpace, population: Population, screening: Screening) -> _Outcome:
    """Whether a descent from the draws keeps all budgets; else each budget by itself."""
    budgets = [budget for budget in screen.budgets if budget.metric.known_before_training]
    _, nearest = descend(screen, space, population, screening, violation_of(budgets))
    if nearest.feasible[0]:
        return _Outcome(feasible=True)
    shortfalls = []
    for budget in budgets:
        cost = cost_of(budget.key, maximize=budget.metric.maximize)
        _, found = descend(screen, space, population, screening, cost)
        if keeps(budget, found.deciding(budget.key))[0]:
            continue
        values = np.where(screening.buildable, screening.deciding(budget.key), np.nan)
        shortfalls.append(
            Shortfall(
                budget=budget,
                expected=float(found.predicted[budget.key][0]),
                tightest=float(found.deciding(budget.key)[0]),
                causes=find_causes(space, population, values, budget.metric.dimension),
            )
        )
    conflict = tuple((budget, float(nearest.deciding(budget.key)[0])) for budget in budgets)
    return _Outcome(feasible=False, shortfalls=tuple(shortfalls), conflict=() if shortfalls else conflict)


def _ranges(screening: Screening) -> dict[str, Range]:
    ranges = {}
    for key, values in screening.predicted.items():
        deciding = screening.deciding(key)
        known = screening.buildable & ~np.isnan(values) & ~np.isnan(deciding)
        if known.any():
            ranges[key] = Range(
                minimum=float(values[known].min()),
                median=float(np.median(values[known])),
                maximum=float(values[known].max()),
                tightest=float(deciding[known].min()),
            )
    return ranges


def _unreachable(space: str, shortfall: Shortfall) -> UserError:
    budget, metric = shortfall.budget, shortfall.budget.metric
    device = budget.key.removeprefix(metric.name).lstrip(".")
    on_device = f" on {device}" if device else ""
    confidence = f" with {budget.confidence:.0%} confidence" if budget.confidence is not None else ""
    seen = format_quantity(shortfall.expected, metric.dimension)
    if shortfall.tightest != shortfall.expected:
        seen += f" (bound {format_quantity(shortfall.tightest, metric.dimension)})"
    word = "fastest" if metric.dimension == "time" else "largest" if metric.maximize else "smallest"
    limit = format_quantity(budget.limit, metric.dimension)
    advice = f"relax it to {_loose_enough(shortfall.tightest, budget)}"
    if shortfall.causes:
        advice += f", or use a space with cheaper options where it costs most: {', '.join(map(str, shortfall.causes))}"
    problem = f"nothing in {space} meets {limit}{on_device}{confidence}; the {word} seen is {seen}"
    return UserError(f"budget.{metric.short}", problem, advice)


def _conflicting(space: str, conflict: Sequence[tuple[Budget, float]]) -> UserError:
    missed = [(budget, value) for budget, value in conflict if not budget.holds(value)]
    names = ", ".join(f"{budget}" for budget, _ in conflict)
    nearest = ", ".join(f"{b.metric.short} {format_quantity(value, b.metric.dimension)}" for b, value in conflict)
    relaxed = " and ".join(f"budget.{b.metric.short} to {_loose_enough(value, b)}" for b, value in missed)
    problem = f"nothing in {space} meets all of them together ({names}), though each by itself can be met"
    return UserError("budget", f"{problem}; the nearest seen has {nearest}", f"relax {relaxed}")


def _loose_enough(value: float, budget: Budget) -> str:
    """A limit with three digits that ``value`` keeps: rounded away from it."""
    dimension, maximize = budget.metric.dimension, budget.metric.maximize
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2) if value else 1.0
    rounded = math.floor(value / step) * step if maximize else math.ceil(value / step) * step
    return f"{format_quantity(rounded, dimension)} or {'less' if maximize else 'more'}"
