"""How a run is, told by its files: the driver's ``status.json``, the manifest, what the history has grown by.

Responsible for the form of ``status.json`` and for what follows from it for a reader in another process, on whatever
is left of a driver. Only standard modules are needed to read it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from nas.errors import UserError, one_line
from nas.run.candidate_log import LOGS, last_sign
from nas.run.heartbeat import STATUS, driver_lives, plain_text, read_told
from nas.run.summary import FailureKind, Summary
from nas.run.utilisation import BusyShare, busy_shares

_SILENT_AFTER = 30.0  # seconds without a beat after which a driver is no longer taken to run
_LOGS_READ = 100  # running candidates whose logs are looked at
_CLOCKS = 5.0  # seconds by which clocks of hosts may differ

State = Literal["running", "silent", "lost", "stopped", "failed", "finished", "unfinished"]
Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunningCandidate:
    """A candidate in flight.

    Attributes:
        index: its number.
        digest: of its architecture.
        epochs: that it gets.
        worker: host and process; "" where it has not begun, or its log cannot be seen from here.
        age_seconds: since it began, or since it was handed over where that is not known.
        sign: its latest sign of life, e.g. ``epoch 3 of 6``; "" for none.
        sign_seconds: how long ago that was; NaN for none.
    """

    index: int
    digest: str
    epochs: int
    worker: str
    age_seconds: float
    sign: str = ""
    sign_seconds: float = math.nan


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """A run at a moment.

    Attributes:
        folder: the run folder.
        name: of the run.
        state: ``running``; ``silent``: its process lives but has told nothing for a while; ``lost``: its driver is
            gone without a word; ``stopped`` by the user; ``failed``; ``finished``; ``unfinished``: not finished, and
            nothing says whether it is still running.
        text: the state in words.
        phase: ``search``, ``baseline``, ``finish``, ``measure``; "" where nothing runs.
        phase_done: of ``phase_total``, in phases other than the search.
        phase_total: see there.
        done: candidates of the search, promotions not counted.
        total: at which it ends; 0 where it is not known.
        counts: status -> evaluations.
        promoted: evaluations at a higher fidelity than before.
        num_slots: candidates at a time; 0 where nothing runs.
        running: candidates in flight; empty where nothing runs.
        waiting: how many of them exceed the slots.
        per_minute: evaluations a minute of late; NaN where it is not known.
        seconds_left: estimate of the driver; NaN where it is not known.
        best: objective key -> best value.
        hypervolume: as the driver last told, a share of its box; NaN where it did not.
        failures: kinds of failures, the most frequent first.
        workers: busy shares.
        busy_share: of all slots while the search had them, in [0, 1]; NaN where it is not known.
        beat_seconds: since the driver last told anything; NaN where it never did.
        driver: process and host; "" where it is not known.
        created: ISO 8601 in UTC; "" where it is not known.
        updated: likewise: the latest sign of the run.
        space: name and digest.
        data: likewise.
        devices: names.
        notes: one line for each thing that could not be read.
    """

    folder: Path
    name: str
    state: State
    text: str
    phase: str = ""
    phase_done: int = 0
    phase_total: int = 0
    done: int = 0
    total: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    promoted: int = 0
    num_slots: int = 0
    running: Sequence[RunningCandidate] = ()
    waiting: int = 0
    per_minute: float = math.nan
    seconds_left: float = math.nan
    best: Mapping[str, float] = field(default_factory=dict)
    hypervolume: float = math.nan
    failures: Sequence[FailureKind] = ()
    workers: Sequence[BusyShare] = ()
    busy_share: float = math.nan
    beat_seconds: float = math.nan
    driver: str = ""
    created: str = ""
    updated: str = ""
    space: tuple[str, str] = ("", "")
    data: tuple[str, str] = ("", "")
    devices: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def alive(self) -> bool:
        """Whether its driver lives."""
        return self.state in ("running", "silent")


def read_status(folder: Path, *, now: float | None = None) -> RunStatus:
    """How the run in a folder is. Nothing is written, and no driver is disturbed.

    A run with a ``status.json`` costs the same however long it is; without one its whole history is read.

    Args:
        folder: the run folder.
        now: seconds since 1970; None: this moment.

    Raises:
        UserError: there is no run in the folder, or its manifest cannot be read.
    """
    now = time.time() if now is None else now
    manifest = _manifest(folder)
    notes: list[str] = []
    told = read_told(folder, notes)
    summary = _summary(folder, manifest, told, notes)
    state, text = _state(manifest, told, now)
    status = RunStatus(
        folder=folder,
        name=folder.resolve().name,
        state=state,
        text=text,
        done=summary.done,
        total=max(_total(manifest, told), summary.done),
        counts=dict(summary.counts),
        promoted=summary.promoted,
        per_minute=summary.per_minute(),
        # The driver reckons with the dearest evaluation of each architecture; without it, all complete ones count.
        best=_numbers(told.get("best")) or dict(summary.best),
        hypervolume=_number(told.get("hypervolume")),
        failures=sorted(summary.failures.values(), key=lambda kind: -kind.count),
        workers=busy_shares(summary.workers, at_hand={}, now=now),
        busy_share=_busy_share(summary, told, {}, now),
        beat_seconds=now - _seconds_of(told.get("beat")),
        driver=f"process {told['process']} on {told.get('host')}" if "process" in told else "",
        created=str(manifest.get("created") or ""),
        updated=max(str(manifest.get("updated") or ""), str(told.get("beat") or "")),
        space=_named(manifest.get("space")),
        data=_named(manifest.get("data")),
        devices=tuple(str(_mapping(one).get("name", "")) for one in _list(manifest.get("devices"))),
        notes=tuple(notes),
    )
    return _alive(status, told, summary, now) if status.alive else status


def _alive(status: RunStatus, told: Record, summary: Summary, now: float) -> RunStatus:
    """The status of a run whose driver lives, with what it is doing."""
    running = _running(status.folder, told, now)
    at_hand = {one.worker: now - one.age_seconds for one in running if one.worker}
    slots, left = _whole(told.get("num_slots")), _number(told.get("seconds_left"))
    return replace(
        status,
        phase=str(told.get("phase", "")),
        phase_done=_whole(told.get("phase_done")),
        phase_total=_whole(told.get("phase_total")),
        num_slots=slots,
        running=running,
        waiting=max(0, len(_list(told.get("running"))) - slots),
        per_minute=summary.per_minute(now if told.get("phase") == "search" else None),
        seconds_left=max(left - status.beat_seconds, 0.0),  # NaN stays
        workers=busy_shares(summary.workers, at_hand=at_hand, now=now),
        busy_share=_busy_share(summary, told, at_hand, now),
    )


def _manifest(folder: Path) -> dict[str, Any]:
    file = folder / "manifest.json"
    try:
        manifest = json.loads(plain_text(file))
    except FileNotFoundError:
        raise UserError(
            str(folder), f"must be a run folder, but there is no {file.name} in it", "give runs/<name>"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(str(file), f"cannot be read: {one_line(error)}") from error
    if not isinstance(manifest, dict):
        raise UserError(str(file), f"must hold a JSON object, got {type(manifest).__name__}")
    return manifest


def _summary(folder: Path, manifest: Record, told: Record, notes: list[str]) -> Summary:
    objectives = [str(key) for key in _list(manifest.get("objectives"))]
    summary = Summary(objectives)
    if told:
        try:
            summary = Summary.from_record(told["summary"], objectives)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            notes.append(f"{STATUS}: its figures cannot be used ({one_line(error)}); the history is read instead")
    try:
        summary.follow(folder / "history.jsonl")
    except OSError as error:
        notes.append(f"history.jsonl cannot be read: {one_line(error)}")
    if summary.unreadable:
        notes.append(f"history.jsonl: {summary.unreadable} lines are no evaluations and were left out")
    return summary


def _state(manifest: Record, told: Record, now: float) -> tuple[State, str]:
    finished = str(manifest.get("finished") or "")
    if not told:
        return ("finished", f"finished {_moment(finished)}") if finished else ("unfinished", _begun(manifest))
    state, beat = str(told.get("state")), _seconds_of(told.get("beat"))
    since = f"{_moment(str(told.get('beat')))} ({_ago(now - beat)} ago)"
    if state == "running":
        return _state_of_running(told, now - beat, since, finished)
    reason = str(told.get("reason") or "")
    if state == "failed":
        return "failed", f"failed {since}: {reason}"
    if state == "finished":
        return "finished", f"finished {_moment(finished or str(told.get('beat')))}"
    return "stopped", f"stopped {since}"


def _begun(manifest: Record) -> str:
    """What is said of a run that no driver has told anything of."""
    runs = [str(_mapping(run).get("name")) for run in _list(_mapping(manifest.get("merged")).get("runs"))]
    return f"merged from {', '.join(runs)}; no search has gone on with it" if runs else "not finished"


def _state_of_running(told: Record, age: float, since: str, finished: str) -> tuple[State, str]:
    """Of a run whose driver said last that it runs."""
    lives = driver_lives(told)
    if lives is not False and age <= _SILENT_AFTER:
        return "running", f"running: {told.get('phase')}"
    if lives:
        return "silent", f"the driver lives but has told nothing since {since}"
    if finished:
        return "finished", f"finished {_moment(finished)}"
    return "lost", f"the driver does not answer since {since}"


def _running(folder: Path, told: Record, now: float) -> list[RunningCandidate]:
    found = []
    for place, entry in enumerate(_list(told.get("running"))):
        candidate = _mapping(entry)
        index = _whole(candidate.get("index"))
        sign = last_sign(folder / LOGS / f"{index}.jsonl") if place < _LOGS_READ else None
        handed_over = _seconds_of(candidate.get("since"))
        # An earlier attempt, or the short training before the long one, may have left signs, too.
        sign = sign if sign is not None and sign.began >= handed_over - _CLOCKS else None
        found.append(
            RunningCandidate(
                index=index,
                digest=str(candidate.get("digest", "")),
                epochs=_whole(candidate.get("epochs")),
                worker=sign.worker if sign else "",
                age_seconds=max(0.0, now - (sign.began if sign else handed_over)),
                sign=sign.text if sign else "",
                sign_seconds=max(0.0, now - sign.at) if sign else math.nan,
            )
        )
    return found


def _busy_share(summary: Summary, told: Record, at_hand: Mapping[str, float], now: float) -> float:
    slots, before = _number(told.get("slot_seconds")), _number(told.get("busy_before"), 0.0)
    if not slots > 0:
        return math.nan
    busy = summary.busy_seconds - before
    if told.get("phase") == "search":
        busy += sum(now - began for began in at_hand.values())
        slots += _whole(told.get("num_slots")) * max(0.0, now - _seconds_of(told.get("beat"))) if at_hand else 0.0
    return max(0.0, min(1.0, busy / slots))


def _total(manifest: Record, told: Record) -> int:
    if "total" in told:
        return _whole(told["total"])
    return _whole(_mapping(_mapping(manifest.get("config")).get("run")).get("candidates"))


def _named(value: object) -> tuple[str, str]:
    record = _mapping(value)
    return str(record.get("name") or ""), str(record.get("digest") or "")


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: object, missing: float = math.nan) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else missing


def _numbers(value: object) -> dict[str, float]:
    return {str(key): _number(item) for key, item in _mapping(value).items()}


def _whole(value: object) -> int:
    return value if type(value) is int else 0


def _seconds_of(text: object) -> float:
    """ISO 8601 as seconds since 1970; NaN for anything else."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return math.nan


def _moment(text: str) -> str:
    """``2026-11-24 00:17:24 UTC``; other text as it is."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError:
        return text


def _ago(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
