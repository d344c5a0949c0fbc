"""Synaptic flow: how much signal all paths of weights carry.

References:
    [Tanaka2020] Tanaka, Kunin, Yamins, Ganguli. Pruning neural networks without any data by iteratively conserving
        synaptic flow. NeurIPS 2020.
    [Abdelfattah2021] Abdelfattah, Mehrotra, Dudziak, Lane. Zero-Cost Proxies for Lightweight NAS. ICLR 2021. (The sum
        over a network as its score.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas.train.scores.score import Need, Observed


@dataclass(frozen=True, kw_only=True)
class Synflow:
    """Natural logarithm of the summed synaptic flow [Tanaka2020], [Abdelfattah2021], without normalisation layers.

    It sees no data, and grows with depth by orders of magnitude; hence the logarithm, which keeps the order.
    """

    needs: tuple[Need, ...] = ("flow",)

    def __call__(self, observed: Observed) -> float:
        assert observed.flow is not None
        return math.log(observed.flow) if observed.flow > 0 else -math.inf
