"""Size as a score: how much there is to train and to compute.

The baselines that a score has to beat, and often does not (`experiments/zero_cost`).
"""

from __future__ import annotations

from dataclasses import dataclass

from nas.train.scores.score import Need, Observed


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Numbers that training may change."""

    needs: tuple[Need, ...] = ("size",)

    def __call__(self, observed: Observed) -> float:
        assert observed.parameters is not None
        return float(observed.parameters)


@dataclass(frozen=True, kw_only=True)
class Macs:
    """Multiply-accumulates of one image."""

    needs: tuple[Need, ...] = ("size",)

    def __call__(self, observed: Observed) -> float:
        assert observed.macs is not None
        return float(observed.macs)


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Convolutions and linear layers, counted."""

    needs: tuple[Need, ...] = ("size",)

    def __call__(self, observed: Observed) -> float:
        assert observed.layers is not None
        return float(observed.layers)
