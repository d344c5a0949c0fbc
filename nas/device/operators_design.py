"""Which probes to measure next.

Responsible for spending measurements where they tell most: on probes that make the rates well determined, weighted by
how far the present rates are off on probes like them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.device.operators import fit_rates

Floats = NDArray[np.float64]

_REGULARISATION = 1e-3
_LIKENESS = 4.0
"""Power of the overlap of two probes' shares of time: how quickly an error says less about others."""


def choose_probes(features: Floats, measured: NDArray[np.intp], latency_ms: Floats, n: int) -> NDArray[np.intp]:
    """Indices of ``n`` probes to measure next; fewer where there are not as many left.

    Greedily, the one whose share of time adds most to the determinant of the information matrix, as in a D-optimal
    design, each weighted by the squared error that is expected of it.

    Args:
        features: ``(P, F)``, of all probes.
        measured: ``(k,)``, indices of those that were measured, at least 1.
        latency_ms: ``(k,)``, theirs.
        n: how many to add.
    """
    rates = fit_rates(features[measured], latency_ms)
    times = features * rates
    predicted = np.maximum(times.sum(axis=1), latency_ms.min() / 10)
    shares = times / predicted[:, None]
    errors = np.abs(np.log(latency_ms / predicted[measured]))
    expected = _expected_errors(shares, shares[measured], errors)
    scaled = features[:, features.any(axis=0)]
    scaled = scaled / scaled.mean(axis=0)
    scaled /= np.maximum(scaled.sum(axis=1, keepdims=True), 1e-12)
    inverse = np.eye(scaled.shape[1]) / _REGULARISATION
    for row in scaled[measured]:
        inverse = _with_row(inverse, row)
    left = np.ones(len(features), dtype=bool)
    left[measured] = False
    chosen: list[int] = []
    for _ in range(min(n, int(left.sum()))):
        gains = np.einsum("ij,ij->i", scaled @ inverse, scaled) * expected**2
        best = int(np.where(left, gains, -np.inf).argmax())
        chosen.append(best)
        left[best] = False
        inverse = _with_row(inverse, scaled[best])
    return np.array(chosen, dtype=np.intp)


def _expected_errors(shares: Floats, known: Floats, errors: Floats) -> Floats:
    """``(P,)``: errors of measured probes, averaged by how much their shares of time overlap; never quite 0."""
    likeness = np.stack([np.minimum(shares, one).sum(axis=1) for one in known], axis=1) ** _LIKENESS + 1e-6
    return np.asarray(likeness @ errors / likeness.sum(axis=1) + errors.mean())


def _with_row(inverse: Floats, row: Floats) -> Floats:
    """The inverse of M + x x' from that of M (Sherman and Morrison)."""
    step = inverse @ row
    return np.asarray(inverse - np.outer(step, step) / (1 + row @ step))
