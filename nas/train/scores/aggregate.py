"""Several scores as one order of a pool of networks.

References:
    [Lee2024] Lee, Ham. AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search. CVPR 2024.
    [Tybl2025] Týbl, Neumann. Training-free Neural Architecture Search through Variance of Knowledge of Deep Network
        Weights. CVPR 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

AGGREGATES: dict[str, tuple[str, ...]] = {
    "az-nas": ("expressivity", "progressivity", "trainability", "macs"),
    "vkdnw-agg": ("vkdnw", "jacobian", "expressivity", "trainability", "macs"),
}
"""Published sets of scores: [Lee2024], [Tybl2025]."""


def aggregate(scores: Mapping[str, Floats], names: Sequence[str]) -> Floats:
    """The sum over scores of the logarithm of the relative rank in the pool [Lee2024].

    A network that is poor in one respect is poor: the logarithm weighs low ranks most. The figure depends on the pool,
    so it compares members of one pool only.

    Args:
        scores: name -> ``(n,)``, larger is better; NaN stands below all others.
        names: those to use.

    Returns:
        ``(n,)``, at most 0; equal values share the mean of their ranks.
    """
    assert len(names) > 0
    logs = [np.log(ranks(scores[name]) / len(scores[name])) for name in names]
    return np.asarray(np.sum(logs, axis=0), dtype=np.float64)


def ranks(values: Floats) -> Floats:
    """``(n,)`` ranks from 1, the lowest value; equal values, and all NaN, share the mean of their ranks."""
    filled = np.where(np.isnan(values), -np.inf, values)
    _, inverse, counts = np.unique(filled, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse.reshape(-1)], dtype=np.float64)
