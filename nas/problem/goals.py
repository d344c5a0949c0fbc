"""What a search is for: objectives to push, budgets that must hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nas.errors import UserError
from nas.problem.metrics import Metric, metric_named
from nas.units import format_quantity, parse_quantity


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A metric to minimise or maximise, as its `Metric` says.

    Attributes:
        key: the metric's key, e.g. ``latency_ms.this-machine``.
        metric: its kind.
    """

    key: str
    metric: Metric

    @property
    def sign(self) -> float:
        """Factor that makes the metric a cost: -1 where more is better."""
        return -1.0 if self.metric.maximize else 1.0


@dataclass(frozen=True, kw_only=True)
class Budget:
    """An upper limit that must hold (a lower limit where the metric is maximised).

    Attributes:
        key: the metric's key.
        metric: its kind.
        limit: in the canonical unit of the metric's dimension (accuracy: a share between 0 and 1).
        confidence: probability with which a predicted quantity must keep the limit; None where it is exact.
    """

    key: str
    metric: Metric
    limit: float
    confidence: float | None = None

    def holds(self, value: float) -> bool:
        """Whether ``value`` keeps the budget; NaN never does."""
        return value >= self.limit if self.metric.maximize else value <= self.limit

    def __str__(self) -> str:
        relation = ">=" if self.metric.maximize else "<="
        limit = self.limit * 100 if self.metric.dimension == "share" else self.limit
        text = f"{self.metric.short} {relation} {format_quantity(limit, self.metric.dimension)}"
        return text + (f" with {self.confidence:.0%} confidence" if self.confidence is not None else "")


def objectives_from(names: list[str], *, device: str) -> tuple[Objective, ...]:
    """Objectives as configured, e.g. ``[accuracy, latency]``.

    Raises:
        UserError: an unknown or repeated metric, none at all, or nothing that needs training.
    """
    where = "objectives"
    if not names:
        raise UserError(where, "must name at least one metric, got none", "e.g. objectives=[accuracy,latency]")
    if len(set(names)) != len(names):
        raise UserError(where, f"must name each metric once, got {names}")
    metrics = [metric_named(str(name), where=where) for name in names]
    if all(metric.known_before_training for metric in metrics):
        raise UserError(where, f"must hold a metric that is learned by training, got {names}", "add accuracy")
    return tuple(Objective(key=metric.key(device), metric=metric) for metric in metrics)


def budgets_from(limits: Mapping[str, object], *, device: str, confidence: float) -> tuple[Budget, ...]:
    """Budgets as configured, e.g. ``{'latency': '0.4 ms', 'size': None}``; entries that are None are left out.

    Raises:
        UserError: an unknown metric, a quantity that does not fit, or a confidence outside (0.5, 1).
    """
    if not 0.5 <= confidence < 1:
        raise UserError("confidence", f"must be at least 0.5 and below 1, got {confidence}", "0.95 is usual")
    budgets = []
    for short, text in limits.items():
        if text is None:
            continue
        where = f"budget.{short}"
        metric = metric_named(str(short), where=where)
        limit = parse_quantity(text, metric.dimension, where=where)
        if metric.dimension == "share":
            limit /= 100
            if limit >= 1:
                raise UserError(where, f"must be below 100 %, got {text!r}")
        budgets.append(
            Budget(
                key=metric.key(device),
                metric=metric,
                limit=limit,
                confidence=confidence if metric.of_device else None,
            )
        )
    return tuple(budgets)
