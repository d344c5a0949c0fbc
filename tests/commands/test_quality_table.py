"""The table of latency models in a terminal."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas.commands.quality_table import quality_table
from nas.device.quality import Quality


@dataclass(frozen=True)
class Fitted:
    """What the table asks of a fitted model."""

    quality: Quality

    def bound_text(self, confidence: float) -> str:
        return f"{confidence:.0%} bound 5 % above"


def judged_on(count: int, spearman: float) -> Fitted:
    figures = {"mape": 0.02, "within_10_percent": 1.0, "coverage": 1.0}
    return Fitted(Quality(spearman=spearman, **figures, confidence=0.95, num_train=count, num_test=count))


def test_one_architecture_has_no_order_and_is_one() -> None:
    text = quality_table({"float32": judged_on(1, math.nan)}, 0.95, width=200)
    _, row, note = text.splitlines()
    assert row.split()[:2] == ["float32", "-"]
    assert note.startswith("judged on one architecture, predicted without having been seen")


def test_a_rank_correlation_is_shown_as_it_is() -> None:
    text = quality_table({"float32": judged_on(30, 0.9871)}, 0.95, width=200)
    assert text.splitlines()[1].split()[:2] == ["float32", "0.987"]
    assert "judged on 30 architectures" in text
