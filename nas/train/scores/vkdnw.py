"""How evenly the weights of a network are determined by data.

References:
    [Tybl2025] Týbl, Neumann. Training-free Neural Architecture Search through Variance of Knowledge of Deep Network
        Weights. CVPR 2025.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from nas.train.scores.score import Need, Observed

DECILES = tuple(k / 10 for k in range(1, 10))


@dataclass(frozen=True, kw_only=True)
class FisherEntropy:
    """Entropy of the normalised deciles of the eigenvalues of the Fisher information [Tybl2025]; at most ln 9.

    Says nothing of the size of a network. See `nas.train.scores.fisher` for the information.
    """

    needs: tuple[Need, ...] = ("fisher",)

    def __call__(self, observed: Observed) -> float:
        assert observed.fisher is not None
        values = torch.linalg.eigvalsh(observed.fisher).clamp_min(0)
        deciles = torch.quantile(values, torch.tensor(DECILES, dtype=values.dtype))
        total = float(deciles.sum())
        if not total > 0:
            return math.nan
        share = deciles / total
        return float(-(share * (share + 1e-10).log()).sum())


@dataclass(frozen=True, kw_only=True)
class Vkdnw:
    """The number of weight tensors plus `FisherEntropy` [Tybl2025]: size first, and among equals the entropy."""

    needs: tuple[Need, ...] = ("size", "fisher")

    def __call__(self, observed: Observed) -> float:
        assert observed.tensors is not None
        return observed.tensors + FisherEntropy()(observed)
