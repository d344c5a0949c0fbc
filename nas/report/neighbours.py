"""For each network of the front its nearest cheaper neighbour: what changes, what it saves, what it costs.

Responsible for picking the pairs. Both sides were judged by the same short training, so that the difference means
something; what the files measured is in their own table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.report.intervals import wilson
from nas.report.judged import Coded, Judged, coded, spread_places

Floats = NDArray[np.float64]

_MEMBERS = 12
_CANDIDATES = 4000  # that a member is held against at most
_CHEAPER = 0.98  # of the member's cost: less of a difference is none
_SWITCHED = 0.01  # what a choice that another one switched counts as, beside one that was taken differently


def neighbours(
    search: Judged,
    choices: Sequence[Mapping[str, Any]],
    costs: Sequence[str],
    *,
    shipped: Collection[str],
    num_images: float | None,
) -> dict[str, Any] | None:
    """Pairs of a member of the front and the network nearest to it among the cheaper ones.

    Args:
        search: architectures judged at one fidelity.
        choices: as in the manifest.
        costs: metric keys; the first decides what is cheaper.
        shipped: digests of exported networks; where there are any, members are these.
        num_images: that accuracies were judged on; None if unknown.

    Returns:
        ``cost`` (its key) and ``pairs``, dearest member first; None where no cost is known. Nearest is what differs in
        the fewest choices, of these the most accurate.
    """
    key = next((key for key in costs if np.isfinite(search.cost(key)).any()), None)
    if key is None:
        return None
    cost, accuracy = search.cost(key), search.accuracy
    known = np.flatnonzero(np.isfinite(cost) & np.isfinite(accuracy))
    if not len(known):
        return None
    front = known[_on_front(accuracy[known], cost[known])]
    exported = np.array([place for place in known.tolist() if search.digests[place] in shipped], dtype=np.intp)
    members = exported if len(exported) else front
    members = members[np.argsort(-cost[members])]
    members = members[spread_places(len(members), _MEMBERS)]
    thinned = known[spread_places(len(known), _CANDIDATES)]
    others = np.union1d(np.union1d(thinned, front[-_CANDIDATES:]), members)
    data = coded([search.records[place] for place in others.tolist()], choices)
    pairs = [
        _pair(search.at(others), data, int(np.searchsorted(others, member)), key, num_images)
        for member in members.tolist()
    ]
    return {"cost": key, "pairs": pairs, "candidates": len(others), "fidelity": dict(search.fidelity)}


def _pair(search: Judged, data: Coded, member: int, key: str, num_images: float | None) -> dict[str, Any]:
    cost, accuracy = search.cost(key), search.accuracy
    cheaper = np.flatnonzero(cost < _CHEAPER * cost[member])
    itself = _network(search, member, cost, num_images)
    if not len(cheaper):
        return {"member": itself, "neighbour": None, "changes": [], "switched": []}
    distance = _distances(data.codes[cheaper], data.codes[member])
    nearest = int(cheaper[np.lexsort((-accuracy[cheaper], distance))[0]])
    here, there = data.codes[member], data.codes[nearest]
    taken = np.flatnonzero((here != there) & (here >= 0) & (there >= 0)).tolist()
    switched = np.flatnonzero((here >= 0) != (there >= 0)).tolist()
    return {
        "member": itself,
        "neighbour": _network(search, nearest, cost, num_images),
        "changes": [
            {"name": data.names[place], "from": data.labels[place][here[place]], "to": data.labels[place][there[place]]}
            for place in taken
        ],
        "switched": [data.names[place] for place in switched],
    }


def _network(search: Judged, place: int, cost: Floats, num_images: float | None) -> dict[str, Any]:
    accuracy = float(search.accuracy[place])
    judged_on = int(num_images) if num_images and num_images >= 1 and 0 <= accuracy <= 1 else None
    return {
        "digest": search.digests[place],
        "accuracy": accuracy,
        "interval": wilson(accuracy, judged_on) if judged_on else None,
        "cost": float(cost[place]),
    }


def _distances(codes: NDArray[np.int64], member: NDArray[np.int64]) -> Floats:
    both = (codes >= 0) & (member >= 0)
    taken = np.count_nonzero(both & (codes != member), axis=1)
    switched = np.count_nonzero((codes >= 0) != (member >= 0), axis=1)
    return np.asarray(taken + _SWITCHED * switched, dtype=np.float64)


def _on_front(accuracy: Floats, cost: Floats) -> NDArray[np.intp]:
    """Places that nothing cheaper matches in accuracy, by rising cost."""
    order = np.lexsort((-accuracy, cost))
    best = np.maximum.accumulate(accuracy[order])
    better = np.concatenate([[True], accuracy[order][1:] > best[:-1]])
    return np.asarray(order[better], dtype=np.intp)
