"""``logs/<index>.jsonl``: what happened to a candidate, event by event, as its worker saw it.

Responsible for writing it beside the work and for reading its ends. One small write an event, none a step. Whatever
goes wrong with a log is passed over: it must not cost a candidate.

Work tells its events to the logger ``nas.candidate``: the message names the event, ``extra={"fields": {...}}`` holds
its figures, and ``exc_info`` becomes a traceback. Outside of a log they are dropped for the price of a comparison.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import socket
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import one_line

if TYPE_CHECKING:  # whoever only reads logs imports nothing heavy
    from nas.problem.evaluation import Candidate, Evaluation
    from nas.run.runner import Work

LOGS = "logs"
EVENTS = logging.getLogger("nas.candidate")
MAX_BYTES = 64_000  # of an attempt; its end is written beyond it
_LONGEST_TRACE = 8_000  # characters; its end says where it was
_LONGEST_LOG = 1 << 20  # bytes that are read: some attempts
_TAIL = 32_000  # bytes of a log that its last line is looked for in
_OURS = logging.getLogger("nas")


@dataclass(frozen=True, kw_only=True, eq=False)
class Logged:
    """Work that leaves a log of each candidate. Itself work for any runner.

    Attributes:
        work: what is done.
        folder: of the logs. Where it is not there, as on a node that does not see the run folder, nothing is logged.
        phase: of the run, told in each log: the same candidate is trained again in full.
    """

    work: Work
    folder: Path
    phase: str = "search"

    def __call__(self, candidate: Candidate) -> Evaluation:
        """The evaluation that the work gives; raises what it raises."""
        with _log_of(candidate, self.folder, self.phase) as log:
            try:
                evaluation = self.work(candidate)
            except BaseException as error:
                log.end("failed", error=one_line(error), trace=_trace(error))
                raise
            log.end(evaluation.status, error=evaluation.error, seconds=evaluation.seconds)
        return evaluation


class _Log(logging.Handler):
    """An open log. What the package logs within it, from warnings on, is in it, too."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._size = 0  # what this attempt has written
        self._broken = not path.parent.is_dir()
        self._full = False

    def emit(self, record: logging.LogRecord) -> None:
        event = record.getMessage() if record.name == EVENTS.name else "message"
        fields: dict[str, Any] = dict(vars(record).get("fields") or {})
        if event == "message":
            fields |= {"level": record.levelname.lower(), "logger": record.name, "text": record.getMessage()}
        if record.exc_info and record.exc_info[1] is not None:
            fields["trace"] = _trace(record.exc_info[1])
        self.write(event, fields)

    def write(self, event: str, fields: Mapping[str, Any], *, last: bool = False) -> None:
        """Adds a line; beyond the limit only the ``last`` one."""
        if self._broken or (self._full and not last):
            return
        line = _line(event, fields)
        if self._size + len(line) > MAX_BYTES and not last:
            self._full = True
            line = _line("full", {"limit_bytes": MAX_BYTES})
        try:
            _append(self._path, line)
        except OSError:
            self._broken = True
        self._size += len(line)

    def end(self, status: str, *, error: str, seconds: float | None = None, trace: str = "") -> None:
        """Adds the last line."""
        fields: dict[str, Any] = {"status": status, "error": error, "seconds": seconds, "trace": trace}
        self.write("ended", {key: value for key, value in fields.items() if value not in ("", None)}, last=True)


@contextlib.contextmanager
def _log_of(candidate: Candidate, folder: Path, phase: str) -> Iterator[_Log]:
    log = _Log(folder / f"{candidate.index}.jsonl")
    level, propagate = EVENTS.level, EVENTS.propagate
    EVENTS.addHandler(log)
    _OURS.addHandler(log)
    EVENTS.setLevel(logging.INFO)
    EVENTS.propagate = False
    try:
        log.write(
            "begun",
            {
                "index": candidate.index,
                "digest": candidate.architecture.digest,
                "worker": f"{socket.gethostname()}:{os.getpid()}",
                "phase": phase,
                "epochs": candidate.fidelity.epochs,
                "seed": candidate.seed,
                "choices": dict(candidate.architecture.choices),
            },
        )
        yield log
    finally:
        EVENTS.setLevel(level)
        EVENTS.propagate = propagate
        EVENTS.removeHandler(log)
        _OURS.removeHandler(log)


def close_log(folder: Path, evaluation: Evaluation) -> str:
    """Ends the log of a candidate whose worker could not; the driver calls this for each failure.

    Returns:
        The log relative to the run folder, ``logs/17.jsonl``; "" where there is none.
    """
    path = folder / LOGS / f"{evaluation.candidate.index}.jsonl"
    try:
        if not path.is_file():
            return ""
        if _last(path).get("event") != "ended":
            fields = {"status": evaluation.status, "error": evaluation.error, "told_by": "the driver"}
            _append(path, _line("ended", fields))
    except OSError:
        return ""
    return f"{LOGS}/{path.name}"


@dataclass(frozen=True, kw_only=True)
class Sign:
    """The latest sign of life of a candidate.

    Attributes:
        worker: where it runs.
        began: seconds since 1970.
        at: when the sign was given.
        text: what it was, e.g. ``epoch 3 of 6``.
    """

    worker: str
    began: float
    at: float
    text: str


def last_sign(path: Path) -> Sign | None:
    """What a log says of the candidate that is running; None where there is no log that can be read."""
    try:
        with path.open("rb") as file:
            begun = _begun(file.read(_LONGEST_LOG))
        last = _last(path)
    except OSError:
        return None
    if not begun:
        return None
    text = str(last.get("event", ""))
    if text == "epoch":
        text = f"epoch {last.get('epoch')} of {last.get('epochs')}"
    return Sign(worker=str(begun.get("worker", "")), began=_moment(begun), at=_moment(last), text=text)


def _begun(content: bytes) -> dict[str, Any]:
    """The last beginning: a candidate may be tried again."""
    place = content.rfind(b'"event": "begun"')
    if place < 0:
        return {}
    start = content.rfind(b"\n", 0, place) + 1
    return _parsed(content[start:].split(b"\n", 1)[0])


def _last(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        lines = file.read().split(b"\n")
    return next((record for line in reversed(lines) if (record := _parsed(line))), {})


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _moment(record: Mapping[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(record.get("time"))).timestamp()
    except ValueError:
        return math.nan


def _line(event: str, fields: Mapping[str, Any]) -> bytes:
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in fields.items()
    }
    record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **plain}
    return (json.dumps(record, default=str) + "\n").encode()


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def _trace(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    return text if len(text) <= _LONGEST_TRACE else "…" + text[-_LONGEST_TRACE:]
