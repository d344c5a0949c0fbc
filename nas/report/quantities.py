"""Metric keys as a reader meets them: label, dimension, direction.

Responsible for the one translation from keys of records (``latency_ms.this-machine``) to words on the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from nas.problem.metrics import METRICS
from nas.units import Dimension

_BY_NAME = {metric.name: metric for metric in METRICS.values()}
_LABELS = {
    "accuracy": "accuracy",
    "latency_ms": "latency",
    "latency_worst": "worst latency, relative",
    "energy_mj": "energy",
    "ram_bytes": "RAM (arena)",
    "flash_bytes": "flash",
    "size_bytes": "file size",
    "peak_activation_bytes": "peak activation memory",
    "macs": "multiply-accumulates",
    "parameters": "parameters",
}


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A metric key explained.

    Attributes:
        key: as in records.
        label: in words, without the device.
        short: as in budgets on the command line.
        device: the device it belongs to; empty where it belongs to none.
        dimension: decides how figures are written, see `nas.units.format_quantity`.
        maximize: True where more is better.
    """

    key: str
    label: str
    short: str
    device: str
    dimension: Dimension
    maximize: bool


def quantity(key: str) -> Quantity:
    """What ``key`` is; a key that no metric answers to is taken as a count to be minimised, under its own name."""
    name, _, device = key.partition(".")
    metric = _BY_NAME.get(name)
    if metric is None:
        return Quantity(key=key, label=key, short=key, device="", dimension="count", maximize=False)
    return Quantity(
        key=key,
        label=_LABELS.get(name, metric.short),
        short=metric.short,
        device=device if metric.of_device else "",
        dimension=metric.dimension,
        maximize=metric.maximize,
    )


def quantities(keys: Iterable[str]) -> dict[str, Mapping[str, object]]:
    """The explanations of ``keys`` as plain JSON, by key."""
    return {key: asdict(quantity(key)) for key in keys}


def device_column(column: str) -> tuple[str, str] | None:
    """What a column of ``front.csv`` says of a device: its part and the metric key that it is about.

    Returns:
        ``("measured", "latency_ms.d")`` of ``latency_ms.d``, ``("predicted", …)`` of ``predicted_latency_ms.d``,
        ``("upper", …)`` of ``latency_upper_ms.d``; None for a column that is about no device.
    """
    name, point, device = column.partition(".")
    part, plain = "measured", name
    if name.startswith("predicted_"):
        part, plain = "predicted", name.removeprefix("predicted_")
    elif "_upper_" in name:
        part, plain = "upper", name.replace("_upper_", "_", 1)
    metric = _BY_NAME.get(plain)
    return (part, f"{plain}.{device}") if point and device and metric is not None and metric.of_device else None


def latency_keys(keys: Iterable[str], *, first: str = "") -> list[str]:
    """The latency keys among ``keys``, each once, in order, that of the device ``first`` leading."""
    found = list(dict.fromkeys(key for key in keys if key.startswith("latency_ms.")))
    return sorted(found, key=lambda key: key != f"latency_ms.{first}")
