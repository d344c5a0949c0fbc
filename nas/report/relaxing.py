"""What each budget is worth: the best that was found under a tighter and, where it was looked for, a looser one.

Responsible for reading that off the history. A search trains nothing beyond its budgets, so what a looser one would
bring is mostly not known; what the last part of the present one brought is, and returns diminish as a rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.report.intervals import wilson
from nas.report.judged import Judged, spread_places
from nas.report.quantities import quantity

Floats = NDArray[np.float64]

STEP = 0.2  # of a budget, whose worth is told
_STEPS = 80  # of a curve, drawn at most


def relaxing(
    search: Judged, budgets: Sequence[Mapping[str, Any]], *, cost: str | None, num_images: float | None
) -> list[dict[str, Any]]:
    """For each budget, the best value of what it is traded for, as a function of its limit.

    Args:
        search: architectures judged at one fidelity, broken budgets or not.
        budgets: ``key``, ``limit`` and ``text`` of each.
        cost: what an accuracy budget is traded for; others are traded for accuracy.
        num_images: that accuracies were judged on; None if unknown.

    Returns:
        A record each: ``curve`` (the limits where the best changes, and the best), ``best`` within the limit,
        ``tighter`` (the best within a limit ``STEP`` tighter), ``looser`` (the best within one as much looser, None if
        nothing beyond the limit was trained), ``beyond``: how many were, ``best_beyond`` of these, and ``binds``:
        whether the best would be lost with the tighter limit.
    """
    found = []
    for budget in budgets:
        target = cost if budget["key"] == "accuracy" else "accuracy"
        if target is not None:
            others = [other for other in budgets if other is not budget and other["key"] != target]
            found.append(_worth(search, budget, others, target, num_images))
    return found


def _worth(
    search: Judged,
    budget: Mapping[str, Any],
    others: Sequence[Mapping[str, Any]],
    target: str,
    num_images: float | None,
) -> dict[str, Any]:
    key, limit = str(budget["key"]), float(budget["limit"])
    # Both sides as costs: what is maximised is turned over.
    side, aim = (-1.0 if quantity(name).maximize else 1.0 for name in (key, target))
    spent = side * (search.accuracy if key == "accuracy" else search.deciding(key))
    gained = aim * (search.accuracy if target == "accuracy" else search.cost(target))
    known = np.isfinite(spent) & np.isfinite(gained)
    for other in others:
        known &= _keeps(search, other)
    places = np.flatnonzero(known)
    places = places[np.argsort(spent[places], kind="stable")]
    steps = _steps(limit, share=side < 0)

    def best(within: float, *, above: float = -np.inf) -> dict[str, Any] | None:
        inside = places[(spent[places] <= within) & (spent[places] > above)]
        if not len(inside):
            return None
        place = int(inside[np.argmin(gained[inside])])
        return _network(search, place, side * spent[place], aim * gained[place], target, num_images)

    here, found = side * limit, best(side * limit)
    beyond = places[spent[places] > here]
    return {
        "key": key,
        "target": target,
        "limit": limit,
        "text": budget["text"],
        "curve": _staircase(side * spent[places], aim * gained[places], aim),
        "known": len(places),
        "steps": steps,
        "best": found,
        "tighter": best(side * steps["tighter"]),
        "looser": best(side * steps["looser"]) if len(beyond) else None,
        "beyond": len(beyond),
        "best_beyond": best(np.inf, above=here),
        # Whether the best found is lost with the next step.
        "binds": found is not None and bool(side * found["spent"] > side * steps["tighter"]),
    }


def _steps(limit: float, *, share: bool) -> dict[str, float]:
    """Limits a step tighter and a step looser; of a least share, steps are taken of what is missing to 1."""
    tighter, looser = 1 - STEP, 1 + STEP
    if share:
        return {"tighter": 1 - (1 - limit) * tighter, "looser": 1 - (1 - limit) * looser}
    return {"tighter": limit * tighter, "looser": limit * looser}


def _keeps(search: Judged, budget: Mapping[str, Any]) -> NDArray[np.bool_]:
    key, limit = str(budget["key"]), float(budget["limit"])
    values = search.accuracy if key == "accuracy" else search.deciding(key)
    return np.asarray(values >= limit if quantity(key).maximize else values <= limit)


def _network(
    search: Judged, place: int, spent: float, gained: float, target: str, num_images: float | None
) -> dict[str, Any]:
    share = target == "accuracy" and 0 <= gained <= 1
    judged_on = int(num_images) if share and num_images and num_images >= 1 else None
    interval = wilson(gained, judged_on) if judged_on else None
    return {"digest": search.digests[place], "spent": spent, "value": gained, "interval": interval}


def _staircase(spent: Floats, gained: Floats, aim: float) -> dict[str, list[float]]:
    """Where the best changes as the limit is relaxed; ``spent`` stands in the order of relaxing."""
    if not len(spent):
        return {"limit": [], "value": []}
    best = np.minimum.accumulate(aim * gained)
    places = np.flatnonzero(np.concatenate([[True], np.diff(best) < 0]))
    places = places[spread_places(len(places), _STEPS)]
    return {"limit": spent[places].tolist(), "value": (aim * best[places]).tolist()}
