"""The search held against as many random draws.

Responsible for what can be said from ``baseline.jsonl``: random architectures that keep the budgets, trained like those
of the search. Their order means nothing, so every order of them is a random search, and the average over orders tells
more than the one that was run. First designs of a strategy are no such baseline: they are spread out on purpose.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.problem.front import hypervolume, non_dominated
from nas.report.evaluations import Evaluations, hypervolume_so_far

Floats = NDArray[np.float64]

MAX_DRAWS = 2000  # of a baseline; further ones are left out
_ORDERS = 24
_MOMENTS = 48
_EQUAL = 1e-12  # difference of hypervolumes that is none


def random_band(baseline: Evaluations, box: tuple[Floats, Floats]) -> dict[str, list[float]] | None:
    """Hypervolume of random searches, over orders of the baseline's draws; None below two draws.

    Returns:
        ``position`` (evaluations done), ``mean``, and ``low`` and ``high``, which hold 90 % of the orders. Towards the
        last draw all orders agree, so the band closes there; that is no certainty about other draws.
    """
    low, high = box
    scaled = (baseline.costs[:MAX_DRAWS] - low) / (high - low)
    if len(scaled) < 2:
        return None
    rng = np.random.default_rng(0)
    moments = np.unique(np.linspace(1, len(scaled), min(_MOMENTS, len(scaled))).round().astype(int))
    volumes = np.stack([_volumes(scaled[rng.permutation(len(scaled))], moments) for _ in range(_ORDERS)])
    return {
        "position": moments.tolist(),
        "mean": volumes.mean(axis=0).tolist(),
        "low": np.quantile(volumes, 0.05, axis=0).tolist(),
        "high": np.quantile(volumes, 0.95, axis=0).tolist(),
    }


def against_chance(
    search: Evaluations, baseline: Evaluations, box: tuple[Floats, Floats] | None
) -> dict[str, Any] | None:
    """The search and its random baseline at equal numbers of trainings; None without a baseline or a box.

    Returns:
        ``shared`` trainings that both have, the hypervolumes ``search`` and ``random`` (average over orders, with
        ``random_low`` and ``random_high``) there, ``reached_after``: trainings after which the search had what the
        random draws have at ``shared`` (None: it never did), ``random_needs``: draws that on average reach what the
        search has at ``shared`` (None: more than there are), and the ``band`` itself.
    """
    if box is None or not len(search) or not len(baseline):
        return None
    band = random_band(baseline, box)
    if band is None:
        return None
    shared = min(len(search), band["position"][-1])
    own = hypervolume_so_far(search, box, num_points=2000)
    at = int(np.searchsorted(own["position"], shared, side="right")) - 1
    value = own["value"][max(0, at)]
    positions = np.array(band["position"])
    random, random_low, random_high = (
        float(np.interp(shared, positions, band[name])) for name in ("mean", "low", "high")
    )
    reached = next((p for p, v in zip(own["position"], own["value"], strict=True) if v >= random - _EQUAL), None)
    needed = next((p for p, v in zip(band["position"], band["mean"], strict=True) if v >= value - _EQUAL), None)
    return {
        "shared": int(shared),
        "search": value,
        "random": random,
        "random_low": random_low,
        "random_high": random_high,
        "reached_after": reached,
        "random_needs": needed,
        "draws": len(baseline),
        "band": band,
    }


def _volumes(scaled: Floats, moments: NDArray[np.int64]) -> Floats:
    volumes, known, last = [], np.empty((0, scaled.shape[1])), 0
    corner = np.ones(scaled.shape[1])
    for moment in moments.tolist():
        new = scaled[last:moment]
        known, last = np.concatenate([known, new[~np.isnan(new).any(axis=1)]]), moment
        known = known[non_dominated(known)]
        volumes.append(float(hypervolume(known, corner)) if len(known) else 0.0)
    return np.array(volumes)
