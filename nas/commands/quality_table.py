"""How good the latency models of a calibration are, as a table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from nas.device.card import Precision
from nas.device.codecs import StoredPredictor
from nas.device.quality import Interval, Quality

_HEADINGS = ("precision", "Spearman", "mean error", "within 10 %", "bound held", "bound")


def quality_table(models: Mapping[Precision, StoredPredictor], confidence: float, *, width: int) -> str:
    """One line a model, with 95 % intervals, on architectures that were drawn at random and predicted without them.

    Args:
        models: precision -> fitted model.
        confidence: of the bound.
        width: columns of the terminal; the last columns give way.
    """
    rows = [_HEADINGS, *(_row(name, model, confidence) for name, model in models.items())]
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    while sum(widths) + 2 * (len(widths) - 1) > width and len(widths) > 4:
        widths.pop()
    lines = ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=False)).rstrip() for row in rows]
    quality = next(iter(models.values())).quality
    judged = (
        "judged on one architecture, predicted without having been seen"
        if quality.num_test == 1
        else f"judged on {quality.num_test} architectures drawn at random, each predicted without having been seen"
    )
    return "\n".join([*lines, f"{judged}; brackets: 95 % intervals"])


def _row(name: str, model: StoredPredictor, confidence: float) -> tuple[str, ...]:
    quality = model.quality
    return (
        name,
        _rank_correlation(quality),
        f"{_percent(quality.mape)} {_interval(quality.mape_interval, _percent)}".strip(),
        _percent(quality.within_10_percent, digits=0),
        _held(quality),
        model.bound_text(confidence),
    )


def _rank_correlation(quality: Quality) -> str:
    """``0.982 [0.96, 0.99]``; ``-`` where there is no order to agree on."""
    if math.isnan(quality.spearman):
        return "-"
    return f"{quality.spearman:.3f} {_interval(quality.spearman_interval, lambda value: f'{value:.2f}')}".strip()


def _held(quality: Quality) -> str:
    held = round(quality.coverage * quality.num_test)
    interval = _interval(quality.coverage_interval, lambda share: _percent(share, digits=0))
    return f"{held} of {quality.num_test} {interval}"


def _interval(interval: Interval | None, text: Callable[[float], str]) -> str:
    return "" if interval is None else f"[{text(interval[0])}, {text(interval[1])}]"


def _percent(share: float, digits: int = 1) -> str:
    return f"{share * 100:.{digits}f} %"
