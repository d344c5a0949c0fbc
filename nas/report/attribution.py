"""Which choices cost the milliseconds, and which buy the accuracy.

Responsible for what `nas.strategy.explain` is asked about a run, and for its answer in the units of the page. Costs are
taken apart as logarithms: layers multiply with resolution and depth, so an option changes a latency by a factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.report.judged import Coded, Judged, coded, spread_places
from nas.strategy.explain import MAX_ROWS, MIN_ROWS, Explanation, explain

Floats = NDArray[np.float64]

TELLS = 0.3  # share of the variance that must be predicted of left-out networks before a choice is blamed
_FIGURES = 4  # costs that are taken apart at most
_CHOICES = 60  # shown at most


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """The part of the page, and what the model of accuracy says of networks that it has not seen.

    Attributes:
        part: plain JSON.
        left_out: digest -> accuracy.
    """

    part: dict[str, Any]
    left_out: Mapping[str, float]


def attribution(search: Judged, choices: Sequence[Mapping[str, Any]], costs: Sequence[str]) -> Attribution:
    """Takes accuracy and costs apart by choices, from at most `nas.strategy.explain.MAX_ROWS` networks each.

    Args:
        search: architectures judged at one fidelity.
        choices: name, labels and order of each choice as in the manifest.
        costs: metric keys, the leading one first.

    Returns:
        ``figures``: of each its ``key``, the number ``n`` of networks, ``r2`` of left-out ones, whether that ``tells``
        enough, and its ``choices`` by falling share; a figure that cannot be taken apart has a ``reason`` instead.
    """
    parts, left_out = [], {}
    for key in ["accuracy", *costs[:_FIGURES]]:
        values = search.accuracy if key == "accuracy" else _logarithms(search.cost(key))
        known = np.flatnonzero(np.isfinite(values))
        places = known[spread_places(len(known), MAX_ROWS)]
        data = coded([search.records[place] for place in places.tolist()], choices)
        found = _explanation(data, values[places])
        if isinstance(found, str):
            parts.append({"key": key, "n": len(known), "used": len(places), "reason": found})
            continue
        parts.append({"key": key, "n": len(known), **_figure(found, data, key=key)})
        if key == "accuracy":
            digests = [search.digests[place] for place in places.tolist()]
            left_out = dict(zip(digests, found.left_out.tolist(), strict=True))
    return Attribution(part={"figures": parts, "tells": TELLS}, left_out=left_out)


def _explanation(data: Coded, values: Floats) -> Explanation | str:
    """The explanation, or why there is none."""
    if len(np.unique(data.codes, axis=0)) < MIN_ROWS:
        return f"fewer than {MIN_ROWS} networks have this figure"
    found = explain(data.codes, [values], ordered=data.ordered, rng=np.random.default_rng(0))[0]
    return found if found is not None else "it is the same for all networks, or no choice was varied"


def _figure(found: Explanation, data: Coded, *, key: str) -> dict[str, Any]:
    share = key == "accuracy"
    order = [place for place in np.argsort(-found.shares).tolist() if found.options[place]]
    return {
        "key": key,
        "used": len(data.codes),
        "r2": found.r2,
        "tells": found.r2 >= TELLS,
        "interactions": found.interactions,
        "typical": found.mean if share else math.exp(found.mean),
        "relative": not share,
        "choices": [_choice(found, data, place, relative=not share) for place in order[:_CHOICES]],
        "num_choices": len(order),
    }


def _choice(found: Explanation, data: Coded, place: int, *, relative: bool) -> dict[str, Any]:
    def effect(value: float) -> float:
        return math.expm1(value) if relative else value

    options = [
        {
            "label": data.labels[place][code],
            "effect": effect(middle),
            "low": effect(low),
            "high": effect(high),
            "count": int(np.count_nonzero(data.codes[:, place] == code)),
        }
        for code, (middle, low, high) in sorted(found.options[place].items())
    ]
    return {
        "name": data.names[place],
        "share": float(found.shares[place]),
        "low": float(found.shares_low[place]),
        "high": float(found.shares_high[place]),
        "options": options,
    }


def _logarithms(values: Floats) -> Floats:
    return np.log(values, out=np.full(len(values), np.nan), where=values > 0)
