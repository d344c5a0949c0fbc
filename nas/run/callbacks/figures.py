"""Evaluations and progress as named figures: the same names for every callback."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nas.problem.evaluation import Evaluation
from nas.run.callbacks.callback import Evaluated
from nas.run.progress import Progress


def candidate_figures(evaluation: Evaluation) -> dict[str, float]:
    """Metrics as judged, what was predicted where nothing was judged, and ``seconds``; finite ones only."""
    figures = {**evaluation.candidate.predicted, **evaluation.metrics} if evaluation.status == "complete" else {}
    return _finite({**figures, "seconds": evaluation.seconds})


def search_figures(progress: Progress) -> dict[str, float]:
    """Counts, ``hypervolume``, ``seconds_left`` and ``best.<key>``; what is not known is left out."""
    counts = {name: float(getattr(progress, name)) for name in ("done", "failed", "stopped", "promoted", "running")}
    more = {"hypervolume": progress.hypervolume, "seconds_left": progress.seconds_left}
    return _finite({**counts, **more, **{f"best.{key}": value for key, value in progress.best.items()}})


def event_figures(event: Evaluated) -> dict[str, float]:
    """Both, with ``candidate/`` and ``search/`` before the names."""
    candidate = {f"candidate/{name}": value for name, value in candidate_figures(event.evaluation).items()}
    search = {f"search/{name}": value for name, value in search_figures(event.progress).items()}
    return {**candidate, **search, "search/queued": float(event.queued)}


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items() if math.isfinite(value)}
