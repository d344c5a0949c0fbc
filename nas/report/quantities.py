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


def latency_keys(keys: Iterable[str], *, first: str = "") -> list[str]:
    """The latency keys among ``keys``, each once, in order, that of the device ``first`` leading."""
    found = list(dict.fromkeys(key for key in keys if key.startswith("latency_ms.")))
    return sorted(found, key=lambda key: key != f"latency_ms.{first}")
