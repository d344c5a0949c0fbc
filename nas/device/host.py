"""What machine a measurement was taken on, and in what state.

Responsible for the facts that explain a latency, and for the few of them that must agree before a stored latency model
is used again.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import onnxruntime
import psutil

_CPU = Path("/sys/devices/system/cpu")
_THERMAL = Path("/sys/class/thermal")


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """The machine and its state at one moment. What cannot be read is None or an empty string.

    Attributes:
        cpu: the processor's model name.
        architecture: instruction set, e.g. ``x86_64``.
        cores: logical processors that this process may use.
        memory_bytes: of the whole machine.
        os: kernel and distribution in one line.
        python: version.
        onnxruntime: version.
        load_average: runnable processes over the last minute.
        frequency_mhz: of the processor now, as the kernel tells it.
        governor: of the kernel's frequency scaling.
        temperature_c: the hottest thermal zone.
        core: the logical processor that the timing thread was bound to; None where that is not possible.
        time: ISO 8601 in UTC.
    """

    cpu: str
    architecture: str
    cores: int
    memory_bytes: int
    os: str
    python: str
    onnxruntime: str
    load_average: float | None
    frequency_mhz: float | None
    governor: str
    temperature_c: float | None
    core: int | None = None
    time: str = ""

    def to_record(self) -> dict[str, object]:
        """As plain JSON."""
        return asdict(self)

    def fingerprint(self, threads: int) -> dict[str, str]:
        """What latencies depend on: they carry over to another session only where all of this is the same."""
        return {
            "cpu": self.cpu,
            "architecture": self.architecture,
            "onnxruntime": self.onnxruntime,
            "threads": str(threads),
        }


def host_facts() -> HostFacts:
    """The facts of this machine, now. Takes under a millisecond and never raises for what cannot be read."""
    return HostFacts(
        cpu=cpu_model(),
        architecture=platform.machine(),
        cores=num_usable_cores(),
        memory_bytes=int(psutil.virtual_memory().total),
        os=platform.platform(),
        python=platform.python_version(),
        onnxruntime=onnxruntime.__version__,
        load_average=_load_average(),
        frequency_mhz=_frequency_mhz(),
        governor=_read(_CPU / "cpu0/cpufreq/scaling_governor"),
        temperature_c=_temperature_c(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def differences(stored: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """How two fingerprints differ, one readable phrase each; empty where they agree."""
    keys = sorted({*stored, *now})
    return tuple(
        f"{key} was {stored.get(key, 'unknown')}, is {now.get(key, 'unknown')}"
        for key in keys
        if stored.get(key) != now.get(key)
    )


def num_usable_cores() -> int:
    """Logical processors that this process may run on; at least 1."""
    if os.name == "posix" and platform.system() == "Linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str:
    """The processor's name as the kernel tells it, family and model included where it gives them."""
    fields: dict[str, str] = {}
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    # A virtual machine often reports a bare "AMD EPYC": family, model and stepping tell generations apart.
    names = [fields.get("model name") or fields.get("Model") or platform.processor() or platform.machine()]
    if "cpu family" in fields:
        names.append(f"(family {fields['cpu family']}, model {fields.get('model', '?')})")
    return " ".join(names)


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _frequency_mhz() -> float | None:
    text = _read(_CPU / "cpu0/cpufreq/scaling_cur_freq")
    if text.isdigit():
        return int(text) / 1e3
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("cpu MHz"):
            return round(float(line.partition(":")[2]), 1)
    return None


def _temperature_c() -> float | None:
    readings = [_read(zone) for zone in sorted(_THERMAL.glob("thermal_zone*/temp"))]
    degrees = [int(text) / 1e3 for text in readings if text.lstrip("-").isdigit()]
    return max(degrees) if degrees else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
