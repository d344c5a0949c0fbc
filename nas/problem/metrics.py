"""The quantities that a search can minimise, maximise or bound.

Responsible for the one table of metrics. A metric's *key* is its name, with ``.<device>`` behind it where the
quantity belongs to a device: ``accuracy``, ``macs``, ``latency_ms.this-machine``.
"""

from __future__ import annotations

from dataclasses import dataclass

from nas.errors import unknown_name
from nas.units import Dimension


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A kind of quantity.

    Attributes:
        name: as in records, with its unit: ``latency_ms``.
        short: as users write it in budgets and objectives: ``latency``.
        dimension: what a budget on it is measured in.
        maximize: True where more is better.
        of_device: True where it belongs to a device; its key then carries the device's name.
        known_before_training: True where it follows from the architecture (exactly or by a predictor).
        predicted: True where that is by a predictor: a budget on it then holds with a probability.
    """

    name: str
    short: str
    dimension: Dimension
    maximize: bool = False
    of_device: bool = False
    known_before_training: bool = True
    predicted: bool = False

    def key(self, device: str) -> str:
        """Of records; ``device`` is the one it belongs to, of no matter where it belongs to none."""
        return f"{self.name}.{device}" if self.of_device else self.name


METRICS: dict[str, Metric] = {
    metric.short: metric
    for metric in (
        Metric(name="accuracy", short="accuracy", dimension="share", maximize=True, known_before_training=False),
        Metric(name="latency_ms", short="latency", dimension="time", of_device=True, predicted=True),
        Metric(name="energy_mj", short="energy", dimension="energy", of_device=True, predicted=True),
        Metric(name="latency_worst", short="latency_worst", dimension="count", predicted=True),
        Metric(name="size_bytes", short="size", dimension="bytes"),
        Metric(name="compressed_bytes", short="compressed", dimension="bytes"),
        Metric(name="peak_activation_bytes", short="memory", dimension="bytes"),
        Metric(name="ram_bytes", short="ram", dimension="bytes", of_device=True),
        Metric(name="flash_bytes", short="flash", dimension="bytes", of_device=True),
        Metric(name="macs", short="macs", dimension="count"),
        Metric(name="parameters", short="parameters", dimension="count"),
    )
}


def metric_named(short: str, *, where: str) -> Metric:
    """The metric a user calls ``short``. Raises `UserError` that lists the known ones."""
    if short not in METRICS:
        raise unknown_name(where, "metric", short, METRICS)
    return METRICS[short]
