"""Prometheus through Ray: gauges and counters that Ray's metrics agent exposes with its own.

Needs a running Ray (``runner=ray``), and on its nodes the package ``ray[default]``, whose agent serves the text at
``http://<node>:<port>/metrics``, some seconds after they were told. Names begin with ``ray_nas_`` there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray

from nas.errors import UserError
from nas.run.callbacks.callback import Ended, Evaluated, Started
from nas.run.callbacks.figures import search_figures

_TAGS = ("run",)


@dataclass(frozen=True, kw_only=True)
class Prometheus:
    """Keeps the figures of a search in Ray's metrics, each tagged with the run.

    Attributes:
        prefix: of the names, ``nas`` for ``ray_nas_evaluations_total``.
    """

    prefix: str = "nas"
    name = "prometheus"

    def __post_init__(self) -> None:
        if not self.prefix.isidentifier():
            raise UserError("callbacks.prometheus.prefix", f"must be a plain word, got {self.prefix!r}")

    def check(self) -> None:
        """See `nas.run.callbacks.callback.Callback`. Ray is always installed; whether it runs is seen later."""

    def open(self, started: Started) -> _Listener:
        """See `nas.run.callbacks.callback.Callback`."""
        if not ray.is_initialized():
            raise UserError("callbacks.prometheus", "must have a running Ray", "use runner=ray")
        if all(node.get("MetricsExportPort", -1) <= 0 for node in ray.nodes() if node["Alive"]):
            problem = "must have a Ray whose nodes expose metrics, and none does"
            raise UserError("callbacks.prometheus", problem, "pip install 'ray[default]' on the nodes")
        return _Listener(self.prefix, started)


class _Listener:
    def __init__(self, prefix: str, started: Started) -> None:
        from ray.util import metrics  # heavy, and of no use without a running Ray

        def gauge(name: str, text: str, *tags: str) -> Any:
            return metrics.Gauge(f"{prefix}_{name}", description=text, tag_keys=(*_TAGS, *tags))

        self._tags = {"run": started.name}
        self._evaluations = metrics.Counter(
            f"{prefix}_evaluations_total",
            description="evaluations of this process by status",
            tag_keys=(*_TAGS, "status"),
        )
        self._seconds = metrics.Counter(
            f"{prefix}_busy_seconds_total",
            description="wall time of evaluations on their workers",
            tag_keys=_TAGS,
        )
        self._search = {
            name: gauge(name, text)
            for name, text in (
                ("done", "candidates of the search that are recorded"),
                ("running", "candidates in flight"),
                ("hypervolume", "share of the box that the front dominates"),
                ("seconds_left", "estimate of the time left"),
            )
        }
        self._candidates = gauge("candidates", "candidates at which the search ends")
        self._queued = gauge("queued", "candidates in flight that have no slot yet")
        self._best = gauge("best", "best value of an objective", "metric")

    def __call__(self, event: Evaluated | Ended) -> None:
        if isinstance(event, Ended):
            self._search["running"].set(0.0, tags=self._tags)
            self._queued.set(0.0, tags=self._tags)
            return
        evaluation, figures = event.evaluation, search_figures(event.progress)
        self._evaluations.inc(1.0, tags={**self._tags, "status": evaluation.status})
        if evaluation.seconds > 0:
            self._seconds.inc(evaluation.seconds, tags=self._tags)
        for name, gauge in self._search.items():
            if name in figures:
                gauge.set(figures[name], tags=self._tags)
        self._candidates.set(float(event.progress.total), tags=self._tags)
        self._queued.set(float(event.queued), tags=self._tags)
        for key, value in event.progress.best.items():
            self._best.set(value, tags={**self._tags, "metric": key})
