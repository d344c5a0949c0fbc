"""The profile of a file of onnxruntime for a bundle: shares of its time, operator by operator.

Responsible for shares without a timing: a bundle takes latencies from where they were measured on a quiet machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.deploy.manifest import plain
from nas.deploy.profiling.graphs import read_graphs, read_source
from nas.deploy.profiling.profile import operator_profiles
from nas.deploy.profiling.recording import LocalRecorder
from nas.deploy.profiling.records import OperatorProfile
from nas.device.card import Device
from nas.device.session import ready
from nas.errors import UserError, first_line

# Of a profiler's record only shares are kept, which a device's name and threads do not enter.
_HERE = Device(name="export", description="the machine that exported")
# A recorder makes the fewer runs the longer one takes. Forty give shares within a hundredth of those of four hundred,
# in a tenth of the time: recording keeps one core, while others export on it.
_LEAST_MS = 100.0
_LEFT_OUT = ("time_ms", "bytes_per_second", "macs_per_second")


def profile_record(path: Path, *, about_ms: object = None) -> dict[str, Any]:
    """The profile of an ONNX file on this machine, as plain JSON: sums by family and by stage, and each operator.

    Args:
        path: with fixed input sizes but for the batch.
        about_ms: about how long a run takes, if that is known: it decides how many runs are recorded.

    Raises:
        UserError: onnxruntime cannot run or profile the file.
    """
    read_source(path)
    latency_ms = max(_LEAST_MS, float(about_ms) if isinstance(about_ms, int | float) else 0.0)
    try:
        options = ready(path, _HERE).session.get_session_options()
        graphs = read_graphs(path, options, batch=_HERE.batch)
        recording = LocalRecorder().record(graphs.runtime, options, _HERE, latency_ms=latency_ms)
    except UserError:
        raise
    except Exception as error:  # onnxruntime's errors share no public base class
        raise UserError(str(path), f"cannot be profiled, {first_line(error)}") from error
    operators = operator_profiles(graphs, recording, latency_ms=latency_ms)
    record = {
        "file": path.name,
        "runs": recording.runs,
        "recorded_ms": recording.run_ms,
        "gauge_us": recording.gauge_us,
        "families": _sums(operators, "family"),
        "stages": _sums(operators, "stage"),
        "operators": [
            {name: value for name, value in operator.to_record().items() if name not in _LEFT_OUT}
            for operator in operators
        ],
    }
    made = plain(record)
    assert isinstance(made, dict)
    return made


def _sums(operators: Sequence[OperatorProfile], key: str) -> list[dict[str, object]]:
    """Operators taken together by family or stage, the largest share first."""
    groups: dict[str, list[OperatorProfile]] = {}
    for operator in operators:
        groups.setdefault(str(getattr(operator, key)), []).append(operator)
    parts: list[dict[str, object]] = [
        {
            "name": name,
            "num_operators": len(group),
            "share": sum(operator.share for operator in group),
            "macs": sum(operator.macs or 0 for operator in group),
            "total_bytes": sum(operator.total_bytes for operator in group),
        }
        for name, group in groups.items()
    ]
    return sorted(parts, key=lambda part: -float(str(part["share"])))
