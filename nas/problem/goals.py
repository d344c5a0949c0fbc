"""What a search is for: objectives to push, budgets that must hold.

Responsible for reading them as users write them. A metric that belongs to a device (``latency``) means every device of
the search; ``latency.<name>`` means that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.errors import UserError, unknown_name
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
        device: that the quantity belongs to, where a search has several; else empty. For the text.
    """

    key: str
    metric: Metric
    limit: float
    confidence: float | None = None
    device: str = ""

    def holds(self, value: float) -> bool:
        """Whether ``value`` keeps the budget; NaN never does."""
        return value >= self.limit if self.metric.maximize else value <= self.limit

    def __str__(self) -> str:
        relation = ">=" if self.metric.maximize else "<="
        limit = self.limit * 100 if self.metric.dimension == "share" else self.limit
        name = f"{self.metric.short} on {self.device}" if self.device else self.metric.short
        text = f"{name} {relation} {format_quantity(limit, self.metric.dimension)}"
        return text + (f" with {self.confidence:.0%} confidence" if self.confidence is not None else "")


def objectives_from(names: Sequence[str], *, device: str | Sequence[str]) -> tuple[Objective, ...]:
    """Objectives as configured, e.g. ``[accuracy, latency]`` or ``[accuracy, latency.pixel-8]``.

    Args:
        names: of metrics, in order.
        device: the device of the search, or several: a metric of a device then gives an objective for each.

    Raises:
        UserError: an unknown metric or device, one that is meant twice, none at all, or nothing that needs training.
    """
    where = "objectives"
    if not names:
        raise UserError(where, "must name at least one metric, got none", "e.g. objectives=[accuracy,latency]")
    found = [
        Objective(key=metric.key(name), metric=metric)
        for text in names
        for metric, name in _meant(str(text), _listed(device), where=where)
    ]
    if len({objective.key for objective in found}) != len(found):
        raise UserError(where, f"must name each metric once, got {list(names)}")
    if all(objective.metric.known_before_training for objective in found):
        raise UserError(where, f"must hold a metric that is learned by training, got {list(names)}", "add accuracy")
    return tuple(found)


def budgets_from(limits: Mapping[str, object], *, device: str | Sequence[str], confidence: float) -> tuple[Budget, ...]:
    """Budgets as configured; entries that are None are left out.

    Args:
        limits: a quantity a metric: ``{'latency': '0.4 ms', 'size': None}``. With several devices a metric of a device
            may have a quantity for each: ``{'latency': {'pixel-8': '2 ms', 'raspberry-pi-5': '5 ms'}}``, or name its
            device: ``{'latency.pixel-8': '2 ms'}``. One quantity holds for all.
        device: the device of the search, or several.
        confidence: with which budgets on predicted quantities must hold.

    Raises:
        UserError: an unknown metric or device, a quantity that does not fit, two limits for one quantity, or a
            confidence outside [0.5, 1).
    """
    if not 0.5 <= confidence < 1:
        raise UserError("confidence", f"must be at least 0.5 and below 1, got {confidence}", "0.95 is usual")
    devices = _listed(device)
    budgets: dict[str, Budget] = {}
    for short, name, text, where in _flat(limits):
        for metric, owner in _meant(short, devices, where=where, device=name):
            key = metric.key(owner)
            if key in budgets:
                raise UserError(where, "must be given once", f"{budgets[key]} is given too")
            budgets[key] = Budget(
                key=key,
                metric=metric,
                limit=_limit(text, metric, where=where),
                confidence=confidence if metric.predicted else None,
                device=owner if metric.of_device and len(devices) > 1 else "",
            )
    return tuple(budgets.values())


def _flat(limits: Mapping[str, object]) -> list[tuple[str, str, object, str]]:
    """Metric, device ("" where none is named), quantity and field of each limit that is given."""
    found = []
    for short, given in limits.items():
        if isinstance(given, Mapping):
            found += [(str(short), str(name), text, f"budget.{short}.{name}") for name, text in given.items()]
        else:
            found.append((str(short), "", given, f"budget.{short}"))
    return [limit for limit in found if limit[2] is not None]


def _limit(text: object, metric: Metric, *, where: str) -> float:
    limit = parse_quantity(text, metric.dimension, where=where)
    if metric.dimension != "share":
        return limit
    if limit >= 100:
        raise UserError(where, f"must be below 100 %, got {text!r}")
    return limit / 100


def _meant(text: str, devices: Sequence[str], *, where: str, device: str = "") -> list[tuple[Metric, str]]:
    """The metric that ``text`` names, with each device that is meant; the first one where it belongs to none.

    Args:
        text: ``latency``, or ``latency.pixel-8`` where ``device`` is empty.
        devices: of the search.
        where: the field, for errors.
        device: the one that is meant, if it is said otherwise.
    """
    short, _, named = (text, "", device) if device else text.partition(".")
    metric = metric_named(short, where=where)
    if not named:
        return [(metric, name) for name in (devices if metric.of_device else devices[:1])]
    if not metric.of_device:
        raise UserError(where, f"must name no device, {short} belongs to none, got '{named}'")
    if named not in devices:
        raise unknown_name(where, "device of this search", named, devices)
    return [(metric, named)]


def _listed(device: str | Sequence[str]) -> list[str]:
    return [device] if isinstance(device, str) else list(device)
