"""How busy the workers of a run were: shares, and the stretches of time that each spent on candidates.

Responsible for what follows from worker, seconds and end of each evaluation. Nothing is measured for it, so it can be
told of any run, also of one that was killed.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from nas.run.summary import Worker

_LANES = 64  # workers that a timeline shows, those with the most work
_STRETCHES = 2000  # in a timeline; neighbours are joined until there are no more


@dataclass(frozen=True, kw_only=True)
class BusyShare:
    """How busy a worker was.

    Attributes:
        worker: host and process.
        count: evaluations that it ended.
        share: of the time between the beginning of its first and the end of its latest candidate (or now, where it
            has one at hand) that it worked on candidates, in [0, 1]; NaN where that time is not known.
        busy_seconds: time on candidates, the one at hand included.
        span_seconds: that time.
    """

    worker: str
    count: int
    share: float
    busy_seconds: float
    span_seconds: float


def busy_shares(workers: Mapping[str, Worker], *, at_hand: Mapping[str, float], now: float) -> list[BusyShare]:
    """The workers, those with the most candidates first.

    Args:
        workers: what they have ended.
        at_hand: worker -> when it began the candidate that it is working on, seconds since 1970.
        now: likewise.
    """
    shares = []
    for name in dict.fromkeys([*workers, *at_hand]):
        worker, began = workers.get(name, Worker()), at_hand.get(name)
        busy = worker.busy_seconds + (max(0.0, now - began) if began is not None else 0.0)
        first = min(worker.first, math.inf if began is None else began)
        span = (now if began is not None else worker.last) - first
        share = min(1.0, busy / span) if span > 0 else math.nan
        shares.append(
            BusyShare(worker=name, count=worker.count, share=share, busy_seconds=busy, span_seconds=max(0.0, span))
        )
    return sorted(shares, key=lambda one: (-one.count, -one.busy_seconds, one.worker))


@dataclass(frozen=True, kw_only=True)
class Lane:
    """What a worker did when.

    Attributes:
        worker: host and process.
        starts: seconds since the first beginning in the timeline, ascending.
        ends: likewise; each stretch ends before the next one starts.
        counts: evaluations in each stretch; above 1 where short ones were joined.
        failed: how many of them gave no metrics.
        share: of the time from the first start to the last end that it worked on candidates, in [0, 1]; gaps that were
            joined over are not worked.
    """

    worker: str
    starts: tuple[float, ...]
    ends: tuple[float, ...]
    counts: tuple[int, ...]
    failed: tuple[int, ...]
    share: float


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All lanes of a run.

    Attributes:
        began: when the first candidate began, seconds since 1970; NaN without any.
        seconds: from there to the end of the last one.
        lanes: in the order in which the workers began.
        left_out: workers that are not shown.
    """

    began: float
    seconds: float
    lanes: tuple[Lane, ...]
    left_out: int = 0


class Spell(NamedTuple):
    """The time that a worker spent on a candidate, in seconds since 1970."""

    worker: str
    start: float
    end: float
    failed: bool


def spell_of(record: Mapping[str, Any]) -> Spell | None:
    """Of a line of a history; None where it does not say who did it, or when."""
    worker, finished = record.get("worker"), record.get("finished")
    if not worker or not finished:
        return None
    try:
        end = datetime.fromisoformat(str(finished)).timestamp()
        seconds = float(record.get("seconds") or 0.0)
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(seconds) or seconds < 0:
        return None
    failed = record.get("status") not in ("complete", "stopped")
    return Spell(worker=sys.intern(str(worker)), start=end - seconds, end=end, failed=failed)


def timeline(spells: Iterable[Spell], *, lanes: int = _LANES, stretches: int = _STRETCHES) -> Timeline:
    """Workers over time, in bounded size.

    Args:
        spells: in any order.
        lanes: workers that are shown, those with the most evaluations.
        stretches: at most so many in all; stretches of one worker that are close to one another are joined, and a
            joined stretch covers the gap.
    """
    found: dict[str, list[Spell]] = {}
    for spell in spells:
        found.setdefault(spell.worker, []).append(spell)
    if not found:
        return Timeline(began=math.nan, seconds=0.0, lanes=())
    busiest = sorted(found, key=lambda name: -len(found[name]))[:lanes]
    began = min(spell.start for spells in found.values() for spell in spells)
    last = max(spell.end for spells in found.values() for spell in spells)
    each = max(1, stretches // len(busiest))
    shown = [_lane(name, sorted(found[name]), began, each) for name in busiest]
    ordered = tuple(sorted(shown, key=lambda lane: lane.starts[0]))
    return Timeline(began=began, seconds=last - began, lanes=ordered, left_out=len(found) - len(busiest))


def _lane(name: str, spells: Sequence[Spell], began: float, most: int) -> Lane:
    gaps = sorted((later.start - earlier.end for earlier, later in itertools.pairwise(spells)), reverse=True)
    # All gaps above this one stay: at most so many stretches are left.
    least = gaps[most - 1] if len(gaps) >= most else -math.inf
    joined: list[list[float]] = []
    idle, last = 0.0, spells[0].start
    for spell in spells:
        idle, gap, last = idle + max(0.0, spell.start - last), spell.start - last, max(last, spell.end)
        if joined and (gap < 0 or gap <= least):
            joined[-1] = [joined[-1][0], last, joined[-1][2] + 1, joined[-1][3] + spell.failed]
        else:
            joined.append([spell.start, spell.end, 1, spell.failed])
    span = last - spells[0].start
    return Lane(
        worker=name,
        starts=tuple(round(stretch[0] - began, 3) for stretch in joined),
        ends=tuple(round(stretch[1] - began, 3) for stretch in joined),
        counts=tuple(int(stretch[2]) for stretch in joined),
        failed=tuple(int(stretch[3]) for stretch in joined),
        share=1 - idle / span if span > 0 else 1.0,
    )
