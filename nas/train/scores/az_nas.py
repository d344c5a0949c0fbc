"""The three components of AZ-NAS that need a look at the feature maps; the fourth is the number of MACs.

Stages are those of `nas.train.scores.score.Stage`: a stage that hands its input on unchanged is none. The paper gives a
network with such a stage the worst trainability; that would sort out every network with a skipped layer.

References:
    [Lee2024] Lee, Ham. AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search. CVPR 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from nas.train.scores.score import Need, Observed, Stage


@dataclass(frozen=True, kw_only=True)
class Expressivity:
    """Sum over stages of the entropy of the channels' normalised eigenvalues [Lee2024, eq. 2-4]."""

    needs: tuple[Need, ...] = ("stages",)

    def __call__(self, observed: Observed) -> float:
        assert observed.stages is not None
        return sum(_entropy(stage) for stage in observed.stages)


@dataclass(frozen=True, kw_only=True)
class Progressivity:
    """The least gain of that entropy from one stage to the next [Lee2024]; NaN for a single stage."""

    needs: tuple[Need, ...] = ("stages",)

    def __call__(self, observed: Observed) -> float:
        assert observed.stages is not None
        entropies = [_entropy(stage) for stage in observed.stages]
        gains = [after - before for before, after in pairwise(entropies)]
        return min(gains, default=math.nan) if not any(map(math.isnan, gains)) else math.nan


@dataclass(frozen=True, kw_only=True)
class Trainability:
    """How near the stages come to keeping the size of gradients [Lee2024]; 0 at best.

    The mean over stages of ``2 - s - 1/s``, with ``s`` the spectral norm of the stage's transport.
    """

    needs: tuple[Need, ...] = ("stages",)

    def __call__(self, observed: Observed) -> float:
        assert observed.stages is not None
        norms = [_spectral_norm(stage.transport) for stage in observed.stages[1:]]
        return sum(2 - norm - 1 / (norm + 1e-6) for norm in norms) / len(norms) if norms else math.nan


def _spectral_norm(matrix: Tensor | None) -> float:
    """The largest singular value; NaN without a matrix."""
    if matrix is None:
        return math.nan
    matrix = matrix.to(torch.float64)
    small = matrix @ matrix.T if len(matrix) < matrix.shape[1] else matrix.T @ matrix
    return math.sqrt(max(float(torch.linalg.eigvalsh(small)[-1]), 0.0))


def _entropy(stage: Stage) -> float:
    """Of the channels' eigenvalues, nats; NaN for a map that is constant."""
    share = stage.spectrum / stage.spectrum.sum()
    return float(-(share * (share + 1e-8).log()).sum())
