"""Bits for each operator under a budget.

Responsible for the choice: one precision an operator, the least loss in sum, and a size and a latency in sum that keep
to the budget. It is a multiple-choice knapsack [Kellerer2004] and is solved exactly, as a mixed-integer linear program.

References:
    [Kellerer2004] H. Kellerer, U. Pferschy, D. Pisinger. Knapsack Problems, chapter 11. Springer 2004.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from nas.deploy.options import Precision
from nas.errors import UserError

# The solver stops at 1e-6 of the objective, which is brought to this size, and admits as much over a budget of 1.
_LARGEST_LOSS = 1e4
_SLACK = 1e-9


@dataclass(frozen=True, kw_only=True)
class Option:
    """What an operator costs in a precision.

    Attributes:
        precision: its name.
        loss: what it does to the output, e.g. the noise over the signal; finite, at least 0; losses are added.
        size_bytes: of its weights, at least 0.
        latency_ms: at least 0.
    """

    precision: Precision
    loss: float
    size_bytes: float = 0.0
    latency_ms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Allocated:
    """A choice for each operator.

    Attributes:
        chosen: index of the option of each operator.
        loss, size_bytes, latency_ms: sums over the operators.
    """

    chosen: tuple[int, ...]
    loss: float
    size_bytes: float
    latency_ms: float


def allocate(
    operators: Sequence[Sequence[Option]],
    *,
    max_size_bytes: float = math.inf,
    max_latency_ms: float = math.inf,
) -> Allocated:
    """The options with the least sum of losses that keep to both budgets.

    Exact up to one part in 1e8 of the largest possible loss; between equal losses any may come.

    Args:
        operators: the options of each, at least one.
        max_size_bytes, max_latency_ms: for the sums over the operators.

    Raises:
        UserError: nothing keeps to the budget; says what the least is.
    """
    assert all(operators)
    budgets = {"size": max_size_bytes, "latency": max_latency_ms}
    costs = {"size": _table(operators, "size_bytes"), "latency": _table(operators, "latency_ms")}
    units = {"size": "bytes", "latency": "ms"}
    for name, budget in budgets.items():
        least = sum(min(row) for row in costs[name])
        if least > budget * (1 + _SLACK):
            advice = f"relax it to {least:.4g} {units[name]}" + (" or more" if operators else "")
            raise UserError(f"budget.{name}", f"cannot be met, got {budget:.4g} {units[name]}", advice)
    if not operators:
        return Allocated(chosen=(), loss=0.0, size_bytes=0.0, latency_ms=0.0)
    chosen = _solve(_table(operators, "loss"), [(costs[name], budgets[name]) for name in budgets])
    if chosen is None:
        raise UserError(
            "budget", f"cannot be met in both, {max_size_bytes:.4g} bytes and {max_latency_ms:.4g} ms", "relax one"
        )
    picked = [options[index] for options, index in zip(operators, chosen, strict=True)]
    return Allocated(
        chosen=tuple(chosen),
        loss=sum(option.loss for option in picked),
        size_bytes=sum(option.size_bytes for option in picked),
        latency_ms=sum(option.latency_ms for option in picked),
    )


def _table(operators: Sequence[Sequence[Option]], figure: str) -> list[list[float]]:
    return [[float(getattr(option, figure)) for option in options] for options in operators]


def _solve(losses: list[list[float]], limits: list[tuple[list[list[float]], float]]) -> list[int] | None:
    """Index of the option of each operator; None where nothing keeps to all limits."""
    loss = np.concatenate(losses)
    assert np.isfinite(loss).all()
    assert (loss >= 0).all()
    sizes = [len(row) for row in losses]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    ones = csr_matrix((np.ones(len(owner)), (owner, np.arange(len(owner)))))
    constraints = [LinearConstraint(ones, 1, 1)]
    for table, budget in limits:
        if math.isfinite(budget):
            row = np.concatenate(table) / (budget if budget > 0 else 1.0)
            constraints.append(LinearConstraint(row[None, :], -np.inf, 1.0 if budget > 0 else 0.0))
    largest = loss.max()
    solved = milp(
        loss * (_LARGEST_LOSS / largest) if largest > 0 else loss,
        integrality=np.ones(len(loss)),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    if solved.x is None:
        return None
    return [int(np.argmax(part)) for part in np.split(solved.x, np.cumsum(sizes)[:-1])]
