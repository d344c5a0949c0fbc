"""How a run is, for a person and for a script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.problem.metrics import METRICS
from nas.run.status import RunStatus, read_status
from nas.run.utilisation import BusyShare
from nas.units import format_quantity, format_seconds

_WIDTH = 9
_RUNNING = 20  # candidates in flight that are listed
_WORKERS = 12
_FAILURES = 8
_BY_NAME = {metric.name: metric for metric in METRICS.values()}


def latest_run(folder: Path = Path("runs")) -> Path:
    """The run in ``folder`` that was written to last. Raises `UserError` where there is none."""
    runs = [path.parent for path in folder.glob("*/manifest.json")]
    if not runs:
        raise UserError("nas status", f"must be given a run folder, and {folder}/ holds none", "nas status runs/<name>")
    return max(runs, key=lambda run: max(path.stat().st_mtime for path in run.iterdir() if path.exists()))


def status(folder: Path) -> RunStatus:
    """See `nas.run.status.read_status`."""
    return read_status(folder)


def status_text(run: RunStatus) -> str:
    """Some lines for a terminal, without a final newline."""
    lines = [("run", f"{run.name}  {run.text}{_driver(run)}")]
    about = [f"space {_named(run.space)}", f"data {_named(run.data)}"]
    lines.append(("about", "  ".join([*about, f"device {', '.join(run.devices) or '-'}"])))
    lines.append(("search", _search(run)))
    if run.phase not in ("", "search") and run.phase_total:
        lines.append((run.phase, f"{run.phase_done}/{run.phase_total}"))
    if run.best or math.isfinite(run.hypervolume):
        lines.append(("best", _best(run)))
    lines += [("running" if not place else "", text) for place, text in enumerate(_running(run))]
    lines += [("workers" if not place else "", text) for place, text in enumerate(_workers(run))]
    lines += [("failures" if not place else "", text) for place, text in enumerate(_failures(run))]
    lines += [("note", text) for text in run.notes]
    if run.state in ("lost", "stopped", "failed", "unfinished"):
        lines.append(("next", f"nas search run.resume={run.folder}"))
    return "\n".join(f"{topic:<{_WIDTH}}{text}".rstrip() for topic, text in lines)


def status_record(run: RunStatus) -> dict[str, Any]:
    """All of it as plain JSON; what is not known is null."""
    return {
        "folder": str(run.folder),
        "name": run.name,
        "state": run.state,
        "text": run.text,
        "driver": run.driver,
        "beat_seconds": _plain(run.beat_seconds),
        "phase": run.phase,
        "phase_done": run.phase_done,
        "phase_total": run.phase_total,
        "done": run.done,
        "total": run.total,
        "counts": dict(run.counts),
        "promoted": run.promoted,
        "num_slots": run.num_slots,
        "waiting": run.waiting,
        "per_minute": _plain(run.per_minute),
        "seconds_left": _plain(run.seconds_left),
        "best": {key: _plain(value) for key, value in run.best.items()},
        "hypervolume": _plain(run.hypervolume),
        "busy_share": _plain(run.busy_share),
        "running": [_plain_all(asdict(one)) for one in run.running],
        "workers": [_plain_all(asdict(one)) for one in run.workers],
        "failures": [asdict(kind) for kind in run.failures],
        "created": run.created,
        "updated": run.updated,
        "space": {"name": run.space[0], "digest": run.space[1]},
        "data": {"name": run.data[0], "digest": run.data[1]},
        "devices": list(run.devices),
        "notes": list(run.notes),
    }


def metric_text(key: str, value: float) -> str:
    """``97.8 %``, ``0.31 ms``: a metric's value with its unit."""
    metric = _BY_NAME.get(key.partition(".")[0])
    if metric is None:
        return f"{value:g}"
    return format_quantity(100 * value if metric.dimension == "share" else value, metric.dimension)


def metric_name(key: str) -> str:
    """``latency`` for ``latency_ms.pixel-8``."""
    metric = _BY_NAME.get(key.partition(".")[0])
    return key if metric is None else metric.short


def _driver(run: RunStatus) -> str:
    if not run.alive or not run.driver:
        return ""
    return f"  ({run.driver}, {_age(run.beat_seconds)} ago)"


def _named(record: tuple[str, str]) -> str:
    return f"{record[0] or '-'} ({record[1] or '-'})"


def _search(run: RunStatus) -> str:
    failed = sum(run.counts.get(status, 0) for status in ("failed", "timeout", "infeasible"))
    parts = [f"{run.done}/{run.total or '?'}", f"failed {failed}"]
    parts += [f"stopped {run.counts['stopped']}"] if run.counts.get("stopped") else []
    parts += [f"promoted {run.promoted}"] if run.promoted else []
    if run.alive:
        parts += [f"running {len(run.running)} of {run.num_slots} slots"] if run.num_slots else []
        parts += [f"waiting {run.waiting}"] if run.waiting else []
        parts += [f"{run.per_minute:.3g} a minute"] if math.isfinite(run.per_minute) else []
        parts += [f"{format_seconds(run.seconds_left)} left"] if math.isfinite(run.seconds_left) else []
    return "  ".join(parts)


def _best(run: RunStatus) -> str:
    parts = [f"{metric_name(key)} {metric_text(key, value)}" for key, value in run.best.items()]
    parts += [f"hypervolume {run.hypervolume:.3f}"] if math.isfinite(run.hypervolume) else []
    return "  ".join(parts)


def _running(run: RunStatus) -> list[str]:
    lines = []
    for one in run.running[:_RUNNING]:
        sign = f"  {one.sign}, {_age(one.sign_seconds)} ago" if one.sign else ""
        worker = one.worker or "(worker not known)"
        epochs = f"{one.epochs} epoch{'' if one.epochs == 1 else 's'}"
        lines.append(f"#{one.index} {one.digest[:6]}  {epochs}  {worker}  {_age(one.age_seconds)}{sign}")
    return [*lines, *_more(len(run.running), _RUNNING, "candidate")]


def _workers(run: RunStatus) -> list[str]:
    lines = [f"busy {_percent(run.busy_share)} of all slots' time"] if math.isfinite(run.busy_share) else []
    lines += [_worker(one) for one in run.workers[:_WORKERS]]
    return [*lines, *_more(len(run.workers), _WORKERS, "worker")]


def _worker(one: BusyShare) -> str:
    share = f"{_percent(one.share)} busy" if math.isfinite(one.share) else "-"
    return f"{one.worker}  {one.count} done  {share}  over {_age(one.span_seconds)}"


def _failures(run: RunStatus) -> list[str]:
    lines = []
    for kind in run.failures[:_FAILURES]:
        where = f"; {kind.log}" if kind.log else ""
        lines.append(
            f"{kind.count} x {kind.status}: {kind.error or 'no reason recorded'}  (first #{kind.first}{where})"
        )
    return [*lines, *_more(len(run.failures), _FAILURES, "kind")]


def _more(count: int, shown: int, what: str) -> list[str]:
    left = count - shown
    return [f"and {left} more {what}{'s' if left > 1 else ''}"] if left > 0 else []


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _age(seconds: float) -> str:
    return format_seconds(seconds) if math.isfinite(seconds) else "?"


def _plain(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _plain_all(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, float) else value for key, value in record.items()}


def statuses(folder: Path) -> Sequence[tuple[Path, RunStatus | UserError]]:
    """All runs of a folder by name, each with how it is or with what is wrong with it; hidden folders are left out.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError("nas runs", f"must be given a folder with runs, but there is no {folder}/", "nas runs <folder>")
    found: list[tuple[Path, RunStatus | UserError]] = []
    for path in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        try:
            found.append((path, read_status(path)))
        except UserError as error:
            found.append((path, error))
        except Exception as error:  # a list must show all others, whatever is in one folder
            found.append((path, UserError(str(path), f"cannot be read: {type(error).__name__}: {error}")))
    return found
