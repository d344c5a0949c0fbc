"""A history in a few figures, kept up to date as its file grows.

Responsible for what can be said of a run of any length in bounded space, from plain JSON lines alone: whoever only
looks at a run imports neither numpy nor what evaluates candidates.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nas.problem.metrics import METRICS

NO_RESULT = ("failed", "timeout", "infeasible")
_RECENT = 64  # evaluations that the rate is taken from
_KINDS = 40  # kinds of failures that are told apart; further ones are counted together
_WORKERS = 2000  # workers that are told apart, those with the latest results
_BLOCK = 1 << 22  # bytes of a history that are read at once
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_LOG = re.compile(r"; log (\S+)$")
_MAXIMISED = frozenset(metric.name for metric in METRICS.values() if metric.maximize)

Record = Mapping[str, Any]


@dataclass(kw_only=True)
class Worker:
    """What a worker has done.

    Attributes:
        count: evaluations.
        busy_seconds: that they took.
        first: beginning of the first one, seconds since 1970.
        last: end of the latest one.
    """

    count: int = 0
    busy_seconds: float = 0.0
    first: float = math.inf
    last: float = -math.inf


@dataclass(kw_only=True)
class FailureKind:
    """Failures that differ in numbers only.

    Attributes:
        status: ``failed``, ``timeout`` or ``infeasible``.
        error: of the first one.
        count: how many.
        first: index of the first one.
        log: of the latest one that has any, relative to the run folder; "" for none.
    """

    status: str
    error: str
    count: int = 0
    first: int = -1
    log: str = ""


class Summary:
    """Figures over the lines of a history.

    Args:
        objectives: metric keys whose best values are kept.
    """

    def __init__(self, objectives: Sequence[str] = ()) -> None:
        self.objectives = tuple(objectives)
        self._clear()

    def _clear(self) -> None:
        self.offset = 0  # bytes of the file that are in it
        self.counts: Counter[str] = Counter()
        self.promoted = 0
        self.unreadable = 0
        self.busy_seconds = 0.0  # of all workers
        self.best: dict[str, float] = {}
        self.failures: dict[str, FailureKind] = {}
        self.workers: dict[str, Worker] = {}
        self.ends: deque[float] = deque(maxlen=_RECENT)
        self._lowest = math.inf  # cost of the cheapest fidelity
        self._dearest: dict[str, float] = {}  # digest -> cost of its dearest fidelity; not kept in the record
        self._restored = False

    @property
    def total(self) -> int:
        """All evaluations."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """Evaluations but for promotions, as `nas.run.progress.Progress.done`."""
        return self.total - self.promoted

    @property
    def failed(self) -> int:
        """Evaluations without metrics, but for those stopped as hopeless."""
        return sum(self.counts[status] for status in NO_RESULT)

    def per_minute(self, now: float | None = None) -> float:
        """Evaluations a minute, over the latest ones (and until ``now``, seconds since 1970); NaN below two."""
        if len(self.ends) < 2:
            return math.nan
        ends = sorted(self.ends)
        span = max(ends[-1] if now is None else now, ends[-1]) - ends[0]
        return 60.0 * (len(ends) - 1) / span if span > 0 else math.nan

    def follow(self, path: Path, *, each: Callable[[Record], None] | None = None) -> int:
        """Takes in the whole lines that the file has grown by; how many.

        A file that is missing is empty; one that has become shorter is read anew. A line that is no evaluation is
        counted as unreadable.

        Args:
            path: of the history.
            each: is called with each evaluation.

        Raises:
            OSError: the file cannot be read.
        """
        if path.exists() and not path.is_file():  # a pipe: one would wait for ever
            raise OSError(f"{path.name} is no plain file")
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return 0
        before = self.total
        with file:
            if file.seek(0, 2) < self.offset:
                self._clear()
                before = 0
            file.seek(self.offset)
            rest = b""
            while block := file.read(_BLOCK):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    self.offset += len(line) + 1
                    self._take(line, each)
        return self.total - before

    def _take(self, line: bytes, each: Callable[[Record], None] | None) -> None:
        if not line.strip():
            return
        try:
            record = json.loads(line)
            self.add(record)
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
            self.unreadable += 1
            return
        if each is not None:
            each(record)

    def add(self, record: Record) -> None:
        """Takes a line in. Raises `KeyError`, `TypeError` or `ValueError` where it is no evaluation."""
        status, seconds = str(record["status"]), float(record.get("seconds") or 0.0)
        end = datetime.fromisoformat(record["finished"]).timestamp() if record.get("finished") else math.nan
        index, error, worker = int(record["index"]), str(record.get("error") or ""), str(record.get("worker") or "")
        fidelity = record["fidelity"]
        cost = fidelity["epochs"] * fidelity["data_share"] * fidelity["resolution"] ** 2
        self.promoted += self._is_promotion(str(record["digest"]), cost)
        self.busy_seconds += seconds
        self.counts[status] += 1
        if status == "complete":
            self._better(record)
        elif status in NO_RESULT:
            self._fail(status, error, index)
        if math.isfinite(end):
            self.ends.append(end)
        if worker and math.isfinite(end):
            self._work(worker, end, seconds)

    def _is_promotion(self, digest: str, cost: float) -> bool:
        before = self._dearest.get(digest)
        self._dearest[digest] = max(cost, before or 0.0)
        self._lowest = min(self._lowest, cost)
        if before is not None:
            return before < cost
        # A summary that was stored does not know its digests any more: new architectures enter the lowest rung.
        return self._restored and cost > self._lowest

    def _better(self, record: Record) -> None:
        metrics, predicted = record.get("metrics") or {}, record.get("predicted") or {}
        for key in self.objectives:
            value = metrics.get(key, predicted.get(key))
            if not isinstance(value, int | float) or not math.isfinite(value):
                continue
            before = self.best.get(key)
            better = max if key.partition(".")[0] in _MAXIMISED else min
            self.best[key] = float(value) if before is None else better(before, float(value))

    def _fail(self, status: str, error: str, index: int) -> None:
        found = _LOG.search(error)
        text = error[: found.start()] if found else error
        kind = f"{status}: {_NUMBERS.sub('#', text)}"
        if kind not in self.failures and len(self.failures) >= _KINDS:
            status, text = "failed", "other reasons"
            kind = text
        entry = self.failures.setdefault(kind, FailureKind(status=status, error=text, first=index))
        entry.count += 1
        entry.log = found.group(1) if found else entry.log

    def _work(self, name: str, end: float, seconds: float) -> None:
        worker = self.workers.setdefault(name, Worker())
        worker.count += 1
        worker.busy_seconds += seconds
        worker.first = min(worker.first, end - seconds)
        worker.last = max(worker.last, end)
        if len(self.workers) > _WORKERS:
            del self.workers[min(self.workers, key=lambda name: self.workers[name].last)]

    def to_record(self) -> dict[str, Any]:
        """As plain JSON, of bounded size."""
        return {
            "offset": self.offset,
            "counts": dict(self.counts),
            "promoted": self.promoted,
            "unreadable": self.unreadable,
            "busy_seconds": self.busy_seconds,
            "best": dict(self.best),
            "failures": [asdict(kind) for kind in self.failures.values()],
            "workers": {name: asdict(worker) for name, worker in self.workers.items()},
            "ends": list(self.ends),
            "lowest": self._lowest if math.isfinite(self._lowest) else None,
        }

    @classmethod
    def from_record(cls, record: Record, objectives: Sequence[str] = ()) -> Summary:
        """What `to_record` gave. Raises `KeyError`, `TypeError` or `ValueError` where it is something else."""
        summary = cls(objectives)
        summary._restored = True
        summary.offset = int(record["offset"])
        summary.counts = Counter({str(status): int(count) for status, count in record["counts"].items()})
        summary.promoted = int(record["promoted"])
        summary.unreadable = int(record["unreadable"])
        summary.busy_seconds = float(record["busy_seconds"])
        summary.best = {str(key): float(value) for key, value in record["best"].items()}
        for entry in record["failures"]:
            kind = FailureKind(**entry)
            plain = f"{kind.status}: {_NUMBERS.sub('#', kind.error)}"
            summary.failures["other reasons" if kind.error == "other reasons" else plain] = kind
        summary.workers = {str(name): Worker(**entry) for name, entry in record["workers"].items()}
        summary.ends.extend(float(end) for end in record["ends"])
        summary._lowest = math.inf if record["lowest"] is None else float(record["lowest"])
        return summary
