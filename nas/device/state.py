"""The state of a processor that changes while it works: frequency, temperature, throttling.

Responsible for reading what Linux tells of it. What cannot be read is None or empty; nothing here raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")
# Bits of a Raspberry Pi's firmware that say what holds now; higher bits tell what happened since it was switched on.
_PI_FLAGS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """A processor at one moment.

    Attributes:
        frequency_mhz: now, as the kernel tells it.
        temperature_c: the hottest thermal zone.
        throttled: what keeps the processor below its speed now, in words; "" where nothing is known to.
        throttle_count: how often hardware has throttled since start, where it counts (x86); None elsewhere.
    """

    frequency_mhz: float | None = None
    temperature_c: float | None = None
    throttled: str = ""
    throttle_count: int | None = None


def machine_state(core: int | None = None, *, root: Path = _ROOT) -> MachineState:
    """The state now.

    Args:
        core: whose frequency; None: the first's.
        root: of the file system that is asked.
    """
    return MachineState(
        frequency_mhz=_frequency_mhz(core or 0, root),
        temperature_c=_temperature_c(root),
        throttled=", ".join([*_cooling(root), *_pi_flags(root)]),
        throttle_count=_throttle_count(root),
    )


def read_text(path: Path) -> str:
    """The stripped text of a file, "" where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _frequency_mhz(core: int, root: Path) -> float | None:
    text = read_text(root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq")
    if text.isdigit():
        return int(text) / 1e3
    listed = [
        line.partition(":")[2] for line in read_text(root / "proc/cpuinfo").splitlines() if line.startswith("cpu MHz")
    ]
    try:
        return round(float(listed[min(core, len(listed) - 1)]), 1) if listed else None
    except ValueError:
        return None


def _temperature_c(root: Path) -> float | None:
    readings = [read_text(zone) for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))]
    degrees = [int(text) / 1e3 for text in readings if text.lstrip("-").isdigit()]
    return max(degrees) if degrees else None


def _cooling(root: Path) -> list[str]:
    """Cooling devices that hold the processor back: a state above 0 lowers its highest frequency."""
    found = []
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind, now = read_text(device / "type"), read_text(device / "cur_state")
        if ("cpufreq" in kind or kind == "Processor") and now.isdigit() and int(now) > 0:
            found.append(f"{kind} at {now} of {read_text(device / 'max_state') or '?'}")
    return found


def _pi_flags(root: Path) -> list[str]:
    for path in sorted((root / "sys/devices/platform/soc").glob("*firmware*/get_throttled")):
        try:
            flags = int(read_text(path), 16)
        except ValueError:
            continue
        return [text for bit, text in _PI_FLAGS.items() if flags >> bit & 1]
    return []


def _throttle_count(root: Path) -> int | None:
    cpus = root / "sys/devices/system/cpu"
    counts = [read_text(path) for path in cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    known = [int(text) for text in counts if text.isdigit()]
    return sum(known) if known else None
