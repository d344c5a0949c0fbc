"""The search in figures: what was tried, how it went on, what failed, which options the front prefers.

Responsible for condensing histories of any length into series whose size does not grow with them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.problem.front import hypervolume, non_dominated
from nas.report.quantities import quantity
from nas.report.records import Record, mapping, number, sequence

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_FAILURE_KINDS = 40  # kinds of failures listed; further ones are only counted


@dataclass(frozen=True, kw_only=True)
class Evaluations:
    """Evaluations in the order in which they finished.

    Attributes:
        records: as in ``history.jsonl``.
        objectives: metric keys that span the front, in the order of the run.
    """

    records: tuple[Record, ...]
    objectives: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def complete(self) -> Flags:
        """(n,) whether the evaluation has metrics."""
        return np.array([record.get("status") == "complete" for record in self.records], dtype=np.bool_)

    def values(self, key: str) -> Floats:
        """(n,) the metric ``key`` as judged, else as predicted; NaN where missing or not complete; read-only."""
        if key not in self._columns:
            self._columns[key] = self._column(key)
        return self._columns[key]

    @cached_property
    def _columns(self) -> dict[str, Floats]:
        return {}

    def _column(self, key: str) -> Floats:
        found = [_value(record, key) for record in self.records]
        column = np.array([np.nan if value is None else value for value in found], dtype=np.float64)
        return np.where(self.complete, column, np.nan) if len(self) else column

    @cached_property
    def costs(self) -> Floats:
        """(n, k) objectives as costs to be minimised; a row is NaN throughout where one of them is missing."""
        columns = [(-1.0 if quantity(key).maximize else 1.0) * self.values(key) for key in self.objectives]
        costs = np.stack(columns, axis=1) if columns else np.full((len(self), 0), np.nan)
        costs[np.isnan(costs).any(axis=1)] = np.nan
        return costs

    @cached_property
    def on_front(self) -> Flags:
        """(n,) whether nothing in this history dominates the evaluation; False where costs are missing."""
        known = np.flatnonzero(~np.isnan(self.costs).any(axis=1)) if self.objectives else np.array([], dtype=np.intp)
        flags = np.zeros(len(self), dtype=np.bool_)
        if len(known):
            flags[known[_front_of(self.costs[known])]] = True
        return flags


def best_so_far(evaluations: Evaluations, key: str) -> dict[str, list[float]]:
    """Where the best value of ``key`` changed: number of evaluations done, best then; the last number closes it."""
    values = evaluations.values(key)
    sign = 1.0 if quantity(key).maximize else -1.0
    best = np.fmax.accumulate(sign * values) if len(values) else values
    known = np.flatnonzero(~np.isnan(best))
    if not len(known):
        return {"position": [], "value": []}
    kept = known[np.concatenate([[True], np.diff(best[known]) > 0])]
    kept = np.unique(np.append(kept, len(values) - 1))
    return {"position": (kept + 1).tolist(), "value": (sign * best[kept]).tolist()}


def reference_box(histories: Sequence[Evaluations], limits: Mapping[str, float]) -> tuple[Floats, Floats] | None:
    """Ideal and worst cost of each objective, (k,) each: the box that the run's own progress is measured in.

    A share that is maximised spans 0 to 1. Any other metric spans 0 to its limit, or to the largest value in the
    histories where it has none; None where that is not known or not positive.

    Args:
        histories: of the same objectives.
        limits: metric key -> the value beyond which nothing counts.
    """
    if not histories or not histories[0].objectives:
        return None
    ideal, worst = [], []
    for key in histories[0].objectives:
        kind = quantity(key)
        if kind.maximize and kind.dimension == "share":
            ideal.append(-1.0)
            worst.append(0.0)
            continue
        seen = np.concatenate([history.values(key) for history in histories])
        limit = limits.get(key, float(np.nanmax(seen)) if np.isfinite(seen).any() else np.nan)
        if kind.maximize or not limit > 0:
            return None
        ideal.append(0.0)
        worst.append(limit)
    return np.array(ideal), np.array(worst)


def hypervolume_so_far(
    evaluations: Evaluations, box: tuple[Floats, Floats], *, num_points: int = 160
) -> dict[str, list[float]]:
    """The share of a box that the front dominates, at up to ``num_points`` moments.

    Args:
        evaluations: the history.
        box: ideal and worst cost of each objective, as of `reference_box`; costs are scaled linearly into it.
        num_points: moments at which it is taken, evenly spread.

    Returns:
        ``position`` (evaluations done) and ``value`` in [0, 1], non-decreasing.
    """
    low, high = box
    scaled = (evaluations.costs - low) / (high - low)
    moments = np.unique(np.linspace(len(evaluations), 1, min(num_points, len(evaluations))).round().astype(int))
    front, last = np.empty((0, len(low))), 0
    values: list[float] = []
    for moment in moments.tolist():
        new = scaled[last:moment]
        front = np.concatenate([front, new[~np.isnan(new).any(axis=1)]])
        front, last = front[_front_of(front)], moment
        values.append(float(hypervolume(front, np.ones(len(low)))) if len(front) else 0.0)
    return {"position": moments.tolist(), "value": values}


def failures(evaluations: Evaluations) -> list[dict[str, Any]]:
    """The kinds of failures, most frequent first: status, an example of the error, count, first index.

    Errors that differ in numbers only are one kind. Kinds beyond the fortieth are summed in a last entry.
    """
    kinds: dict[tuple[str, str], dict[str, Any]] = {}
    for place, record in enumerate(evaluations.records):
        status = str(record.get("status", "unknown"))
        if status == "complete":
            continue
        error = str(record.get("error") or "no reason recorded")
        kind = (status, _NUMBERS.sub("#", error))
        entry = kinds.setdefault(
            kind, {"status": status, "error": error, "count": 0, "first": record.get("index", place)}
        )
        entry["count"] += 1
    ordered = sorted(kinds.values(), key=lambda entry: -entry["count"])
    rest = ordered[_FAILURE_KINDS:]
    if rest:
        count = sum(entry["count"] for entry in rest)
        more = {"status": "various", "error": f"{len(rest)} further kinds", "count": count, "first": rest[0]["first"]}
        return [*ordered[:_FAILURE_KINDS], more]
    return ordered


def choice_shares(
    evaluations: Evaluations, reference: Evaluations, choices: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """How often each option stands in the front of ``evaluations``, and how often in all of ``reference``.

    Args:
        evaluations: the search, whose non-dominated members are counted.
        reference: what the front is compared with.
        choices: name, labels and order of each choice as in the manifest; choices and labels that only the records
            know are added behind.

    Returns:
        For each choice: name, ordered, labels, counts of the front and of the reference by label, and how often the
        choice was inactive in each.
    """
    names = [str(choice.get("name")) for choice in choices if choice.get("name") is not None]
    known = {str(choice.get("name")): choice for choice in choices}
    front = [record for record, chosen in zip(evaluations.records, evaluations.on_front, strict=True) if chosen]
    front_counts, reference_counts = _label_counts(front), _label_counts(reference.records)
    names += [name for name in reference_counts | front_counts if name not in known]
    result = []
    for name in dict.fromkeys(names):
        in_front, in_reference = front_counts.get(name, Counter()), reference_counts.get(name, Counter())
        labels = [str(label) for label in sequence(known.get(name, {}).get("labels"))]
        labels += sorted((set(in_front) | set(in_reference)) - set(labels))
        result.append(
            {
                "name": name,
                "ordered": bool(known.get(name, {}).get("ordered", False)),
                "labels": labels,
                "front": [in_front[label] for label in labels],
                "reference": [in_reference[label] for label in labels],
                "front_inactive": len(front) - sum(in_front.values()),
                "reference_inactive": len(reference) - sum(in_reference.values()),
            }
        )
    return result


def sample_places(evaluations: Evaluations, *, limit: int = 1500) -> NDArray[np.intp]:
    """Places of evaluations to be drawn one by one: of complete ones, the front first, then evenly spread others."""
    complete = np.flatnonzero(evaluations.complete)
    front = np.flatnonzero(evaluations.on_front)
    if len(front) > limit:
        front = front[np.linspace(0, len(front) - 1, limit).round().astype(int)]
    others = np.setdiff1d(complete, front)
    room = limit - len(front)
    if len(others) > room:
        others = others[np.linspace(0, len(others) - 1, room).round().astype(int)] if room else others[:0]
    return np.union1d(front, others).astype(np.intp)


def failed_places(evaluations: Evaluations, *, limit: int = 400) -> list[int]:
    """Places of evaluations without metrics, thinned evenly to ``limit``."""
    places = np.flatnonzero(~evaluations.complete)
    if len(places) > limit:
        places = places[np.linspace(0, len(places) - 1, limit).round().astype(int)]
    return [int(place) for place in places]


def _front_of(costs: Floats, *, chunk: int = 2000) -> NDArray[np.intp]:
    """Places of the non-dominated rows of ``costs`` (n, k), ascending; in chunks, so that time grows like n."""
    kept = np.empty(0, dtype=np.intp)
    for start in range(0, len(costs), chunk):
        kept = np.concatenate([kept, np.arange(start, min(start + chunk, len(costs)))])
        kept = kept[np.asarray(non_dominated(costs[kept]), dtype=np.bool_)]
    return kept


def _value(record: Record, key: str) -> float | None:
    for source in ("metrics", "predicted"):
        values = record.get(source)
        if isinstance(values, dict) and key in values:
            value = number(values[key])
            if value is not None:
                return value
    return None


def _label_counts(records: Sequence[Record]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for record in records:
        for name, label in mapping(record.get("choices")).items():
            counts.setdefault(name, Counter())[str(label)] += 1
    return counts
