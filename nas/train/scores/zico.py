"""How much the gradients of different images agree.

References:
    [Li2023] Li, Yang, Bhardwaj, Marculescu. ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients. ICLR
        2023.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas.train.scores.score import Need, Observed


@dataclass(frozen=True, kw_only=True)
class Zico:
    """Sum over layers of ``log(sum(mean |g| / std g))`` over weights, mean and deviation over two batches [Li2023].

    The two batches are the halves of the batch. Weights whose gradients are equal in both are left out, and so are
    layers without others.
    """

    needs: tuple[Need, ...] = ("gradients",)

    def __call__(self, observed: Observed) -> float:
        assert observed.gradients is not None
        score = 0.0
        for gradient in observed.gradients:
            deviation = (gradient[0] - gradient[1]).abs() / 2
            size = (gradient[0].abs() + gradient[1].abs()) / 2
            differing = deviation > 0
            total = float((size[differing] / deviation[differing]).sum())
            score += math.log(total) if total > 0 else 0.0
        return score
