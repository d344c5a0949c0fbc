"""What machine a measurement was taken on, and in what state.

Responsible for the facts that explain a latency, and for the few of them that must agree before a stored latency model
is used again.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import onnxruntime

from nas.device.state import MachineState, machine_state, read_text

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """The machine and its state at one moment. What cannot be read is None or an empty string.

    Attributes:
        cpu: the processor's model name.
        architecture: instruction set, e.g. ``x86_64``.
        cores: logical processors that this process may use.
        memory_bytes: of the whole machine; 0 where it cannot be read.
        os: kernel and distribution in one line.
        python: version; "" where no Python ran the files.
        onnxruntime: version.
        load_average: runnable processes over the last minute.
        frequency_mhz: of the processor, as the kernel tells it, when the timing began.
        governor: of the kernel's frequency scaling.
        temperature_c: the hottest thermal zone, when the timing began.
        core: the logical processor that the timing thread was bound to; None where that is not possible.
        time: ISO 8601 in UTC.
        frequency_after_mhz, temperature_after_c: the same when the timing ended; None where it was not looked at again.
        throttled: what held the processor back at either moment, and what throttling was counted between them, in
            words; "" where nothing is known to have.
        throttled_throughout: something held it back at both moments.
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
    frequency_after_mhz: float | None = None
    temperature_after_c: float | None = None
    throttled: str = ""
    throttled_throughout: bool = False

    def to_record(self) -> dict[str, object]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> HostFacts:
        """What `to_record` gave; fields that are not known are left out. Raises `TypeError` where one is missing."""
        return cls(**{entry.name: record[entry.name] for entry in fields(cls) if entry.name in record})

    def during(self, before: MachineState, after: MachineState) -> HostFacts:
        """These facts, with the state before and after a timing."""
        moments = (("before", before), ("after", after))
        seen = [f"{state.throttled} {when}" for when, state in moments if state.throttled]
        if before.throttle_count is not None and after.throttle_count is not None:
            times = after.throttle_count - before.throttle_count
            seen += [f"throttled {times} times while timing"] if times > 0 else []
        return replace(
            self,
            frequency_mhz=before.frequency_mhz,
            temperature_c=before.temperature_c,
            frequency_after_mhz=after.frequency_mhz,
            temperature_after_c=after.temperature_c,
            throttled="; ".join(seen),
            throttled_throughout=bool(before.throttled and after.throttled),
        )

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
    state = machine_state()
    return HostFacts(
        cpu=cpu_model(),
        architecture=platform.machine(),
        cores=num_usable_cores(),
        memory_bytes=_memory_bytes(),
        os=platform.platform(),
        python=platform.python_version(),
        onnxruntime=onnxruntime.__version__,
        load_average=_load_average(),
        frequency_mhz=state.frequency_mhz,
        governor=read_text(_GOVERNOR),
        temperature_c=state.temperature_c,
        time=utc_now(),
    )


def utc_now() -> str:
    """ISO 8601 to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())


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
    for line in read_text(Path("/proc/cpuinfo")).splitlines():
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
    except (AttributeError, OSError):  # Windows has none
        return None


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return 0
