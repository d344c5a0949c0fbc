"""The architectures of a search, each once and all judged alike: what the audit compares.

Responsible for picking one fidelity where a search used several, and for figures and choices of its architectures as
arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.report.records import Record, mapping, number, sequence

Floats = NDArray[np.float64]
Fidelity = tuple[tuple[str, float], ...]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Architectures judged at one fidelity, in the order of the search; also those that gave no result.

    Attributes:
        records: one evaluation an architecture.
        fidelity: of all of them; empty where none is recorded.
    """

    records: tuple[Record, ...]
    fidelity: Fidelity

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def accuracy(self) -> Floats:
        """(n,) as judged; NaN where there is no result."""
        return self._column("accuracy", "metrics")

    def cost(self, key: str) -> Floats:
        """(n,) a metric as it was predicted, else as judged; NaN where neither is known."""
        return self._column(key, "predicted", "metrics")

    def deciding(self, key: str) -> Floats:
        """(n,) what a budget on the metric was held against: its upper bound where it has one."""
        return self._column(key, "upper", "predicted", "metrics")

    def _column(self, key: str, *sources: str) -> Floats:
        found = (figure(record, key, *sources) for record in self.records)
        return np.array([np.nan if value is None else value for value in found], dtype=np.float64)

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """(n,) of the networks."""
        return tuple(str(record.get("digest", "")) for record in self.records)

    def at(self, places: NDArray[np.intp]) -> Judged:
        """Those at ``places`` only."""
        return Judged(records=tuple(self.records[place] for place in places.tolist()), fidelity=self.fidelity)


@dataclass(frozen=True, kw_only=True)
class Coded:
    """Choices as numbers.

    Attributes:
        codes: ``(n, m)`` places in ``labels``; -1 where a choice is inactive.
        names: of the choices.
        labels: of each choice's options, those of the manifest first.
        ordered: of each choice, whether neighbouring options are alike.
    """

    codes: NDArray[np.int64]
    names: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    ordered: tuple[bool, ...]


def judged(records: Sequence[Record]) -> Judged:
    """The architectures at the fidelity that most of them were judged at; of equals, at the dearest."""
    by_fidelity: dict[Fidelity, dict[str, Record]] = {}
    for place, record in enumerate(records):
        # Of several evaluations of a network the complete one counts.
        known = by_fidelity.setdefault(fidelity_of(record), {})
        digest = str(record.get("digest") or place)
        if digest not in known or record.get("status") == "complete":
            known[digest] = record
    if not by_fidelity:
        return Judged(records=(), fidelity=())
    chosen = max(by_fidelity, key=lambda fidelity: (len(by_fidelity[fidelity]), fidelity_cost(fidelity)))
    return Judged(records=tuple(by_fidelity[chosen].values()), fidelity=chosen)


def fidelity_of(record: Record) -> Fidelity:
    """What an evaluation was judged at, as a key."""
    found = record.get("fidelity")
    if not isinstance(found, dict):
        return ()
    known = ((str(name), number(value)) for name, value in found.items())
    return tuple(sorted((name, value) for name, value in known if value is not None))


def fidelity_cost(fidelity: Fidelity) -> float:
    """Relative cost of training, see `nas.problem.evaluation.Fidelity`."""
    values = dict(fidelity)
    return values.get("epochs", 1.0) * values.get("data_share", 1.0) * values.get("resolution", 1.0) ** 2


def fidelity_text(fidelity: Fidelity) -> str:
    """``6 epochs``, with what is not the whole; "" where nothing is recorded."""
    values = dict(fidelity)
    parts = [f"{values['epochs']:g} epochs"] if "epochs" in values else []
    if values.get("data_share", 1.0) != 1.0:
        parts.append(f"{values['data_share']:.0%} of the data")
    if values.get("resolution", 1.0) != 1.0:
        parts.append(f"resolution x {values['resolution']:g}")
    return ", ".join(parts)


def coded(records: Sequence[Record], choices: Sequence[Mapping[str, Any]]) -> Coded:
    """The choices of ``records`` as numbers; choices and labels that the manifest lacks are added behind."""
    known = {str(choice.get("name")): choice for choice in choices if choice.get("name") is not None}
    chosen = [mapping(record.get("choices")) for record in records]
    names = tuple(dict.fromkeys([*known, *(name for choice in chosen for name in choice)]))
    places: list[dict[str, int]] = [
        {str(label): place for place, label in enumerate(sequence(known.get(name, {}).get("labels")))} for name in names
    ]
    codes = np.full((len(records), len(names)), -1, dtype=np.int64)
    for row, choice in enumerate(chosen):
        for column, name in enumerate(names):
            if name in choice:
                codes[row, column] = places[column].setdefault(str(choice[name]), len(places[column]))
    return Coded(
        codes=codes,
        names=names,
        labels=tuple(tuple(labels) for labels in places),
        ordered=tuple(known.get(name, {}).get("ordered") is True for name in names),
    )


def spread_places(count: int, limit: int) -> NDArray[np.intp]:
    """At most ``limit`` of ``count`` places, evenly spread."""
    if count <= limit:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).round().astype(np.intp)


def figure(record: Record, key: str, *sources: str) -> float | None:
    """The first finite value of ``key`` among ``sources`` of an evaluation; metrics count where it is complete."""
    for source in sources:
        values = record.get(source)
        if isinstance(values, dict) and key in values and (source != "metrics" or record.get("status") == "complete"):
            value = number(values[key])
            if value is not None:
                return value
    return None
