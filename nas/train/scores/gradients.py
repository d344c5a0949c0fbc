"""How strongly the loss pulls at the weights of an untrained network.

References:
    [Lee2019] Lee, Ajanthan, Torr. SNIP: Single-shot network pruning based on connection sensitivity. ICLR 2019.
    [Abdelfattah2021] Abdelfattah, Mehrotra, Dudziak, Lane. Zero-Cost Proxies for Lightweight NAS. ICLR 2021. (Both as
        scores of networks.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas.train.scores.score import Need, Observed


@dataclass(frozen=True, kw_only=True)
class GradientNorm:
    """Natural logarithm of the sum over layers of the norm of the loss gradient [Abdelfattah2021]."""

    needs: tuple[Need, ...] = ("gradients",)

    def __call__(self, observed: Observed) -> float:
        assert observed.gradients is not None
        total = sum(float(((gradient[0] + gradient[1]) / 2).norm()) for gradient in observed.gradients)
        return math.log(total) if total > 0 else -math.inf


@dataclass(frozen=True, kw_only=True)
class Snip:
    """Natural logarithm of the summed connection sensitivity, ``|weight * gradient|`` [Lee2019], [Abdelfattah2021]."""

    needs: tuple[Need, ...] = ("gradients",)

    def __call__(self, observed: Observed) -> float:
        assert observed.gradients is not None
        assert observed.weights is not None
        pairs = zip(observed.weights, observed.gradients, strict=True)
        total = sum(float((weight * (gradient[0] + gradient[1]) / 2).abs().sum()) for weight, gradient in pairs)
        return math.log(total) if total > 0 else -math.inf
