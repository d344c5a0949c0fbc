"""Energy counters: what a machine or a meter says that it has consumed.

Responsible for reading them, wraparound included. Three kinds: the package counters that Linux offers under powercap
(RAPL: Intel, AMD), the board counter of an NVIDIA GPU through ``nvidia-smi``, and the log of an external meter.
They count everything on the package, the board or the plug, other programs included: measure on a machine that does
nothing else; `nas.device.energy` takes off what it draws when idle.

The powercap and ``nvidia-smi`` counters were tested against recorded trees and output, not on hardware that has them.
"""

from __future__ import annotations

import csv
import math
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas.errors import UserError

POWERCAP = Path("/sys/class/powercap")
_ENERGY, _RANGE = "energy_uj", "max_energy_range_uj"
_UJ_PER_MJ = 1e3
_SMI_PAUSE_S = 0.02
METER_COLUMNS = ("time_s", "power_w")

Run = Callable[[Sequence[str]], str]


@dataclass(frozen=True, kw_only=True)
class Consumed:
    """What was consumed while something ran.

    Attributes:
        energy_mj: all of it, that of other programs included.
        seconds: that it ran.
    """

    energy_mj: float
    seconds: float


class EnergyMeter(Protocol):
    """Something that tells how much energy flows while work is done."""

    def during(self, work: Callable[[], object]) -> Consumed:
        """Does the work, and says what was consumed meanwhile. Raises `UserError` where the counter cannot be read."""
        ...


@dataclass(frozen=True, kw_only=True)
class Powercap:
    """The package counters that Linux shows under ``/sys/class/powercap``.

    Only top-level zones (``intel-rapl:0``, one a socket) are counted, as their sub-zones are part of them; ``psys``,
    which would count the packages again, is left out. A counter starts again from 0 behind its range.

    Attributes:
        zones: their folders, sorted.
        ranges_mj: behind which each starts again.
    """

    zones: tuple[Path, ...]
    ranges_mj: tuple[float, ...]

    @classmethod
    def find(cls, root: Path = POWERCAP) -> Powercap:
        """The counters of this machine.

        Raises:
            UserError: there are none, or they may not be read (on most systems only by root).
        """
        zones = tuple(zone for zone in sorted(root.glob("*:*")) if _is_package(zone))
        if not zones:
            advice = "it takes a processor with RAPL, on bare metal; use a meter, or an estimate"
            raise UserError(str(root), "must hold an energy counter, there is none", advice)
        ranges = tuple(_read_uj(zone / _RANGE) / _UJ_PER_MJ for zone in zones)
        for zone in zones:
            _read_uj(zone / _ENERGY)
        return cls(zones=zones, ranges_mj=ranges)

    def during(self, work: Callable[[], object]) -> Consumed:
        """See `EnergyMeter`. The work must be shorter than a counter's range lasts: many minutes at full load."""
        before, started = self.read_mj(), time.monotonic()
        work()
        seconds, after = time.monotonic() - started, self.read_mj()
        return Consumed(energy_mj=self.between_mj(before, after), seconds=seconds)

    def read_mj(self) -> tuple[float, ...]:
        """What each zone shows now. Raises `UserError` where one may no longer be read."""
        return tuple(_read_uj(zone / _ENERGY) / _UJ_PER_MJ for zone in self.zones)

    def between_mj(self, before: Sequence[float], after: Sequence[float]) -> float:
        """Energy between two readings, summed over zones. One that shows less than before has started again once."""
        total = 0.0
        for start, end, span in zip(before, after, self.ranges_mj, strict=True):
            total += end - start if end >= start else end - start + span
        return total


@dataclass(frozen=True, kw_only=True)
class NvidiaSmi:
    """The power that ``nvidia-smi`` shows for a GPU, sampled and summed up while work runs.

    It is an average over some 25 to 100 ms, and asking takes some 20 ms: work must last for seconds.

    Attributes:
        index: of the GPU.
        program: to run.
        run: gives the output of a command; replaced in tests.
    """

    index: int = 0
    program: str = "nvidia-smi"
    run: Run = field(default=lambda command: _output(command))

    def during(self, work: Callable[[], object]) -> Consumed:
        """See `EnergyMeter`. Power is sampled in another thread, beginning before the work and ending after it."""
        samples, failures, stop = [(time.monotonic(), self.power_w())], list[UserError](), threading.Event()

        def sample() -> None:
            while not stop.wait(_SMI_PAUSE_S):
                try:
                    samples.append((time.monotonic(), self.power_w()))
                except UserError as error:
                    failures.append(error)
                    return

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        started = time.monotonic()
        try:
            work()
        finally:
            ended = time.monotonic()
            stop.set()
            thread.join()
        if failures:
            raise failures[0]
        samples.append((max(time.monotonic(), ended), self.power_w()))
        seconds, power_w = np.array(samples).T
        energy_mj = _energy_mj(seconds, power_w, started, ended)
        return Consumed(energy_mj=energy_mj, seconds=ended - started)

    def power_w(self) -> float:
        """Board power now. Raises `UserError` where there is no such program or GPU, or it shows no power."""
        command = [self.program, f"--id={self.index}", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
        text = self.run(command).strip()
        try:
            power_w = float(text)
        except ValueError:
            power_w = math.nan
        if not (math.isfinite(power_w) and power_w >= 0):
            raise UserError(f"{self.program}, GPU {self.index}", f"must show a power in W, got {text!r}")
        return power_w


@dataclass(frozen=True, kw_only=True, eq=False)
class MeterLog:
    """The power that an external meter has recorded.

    Attributes:
        seconds: ``(n,)``, increasing, on the clock that runs were noted with.
        power_w: ``(n,)``, at least 0.
        source: file.
    """

    seconds: NDArray[np.float64]
    power_w: NDArray[np.float64]
    source: str

    def energy_mj(self, start_s: float, end_s: float) -> float:
        """Energy between two moments, by the trapezoidal rule.

        Raises:
            UserError: the log does not cover them, or has no sample between them.
        """
        first, last = float(self.seconds[0]), float(self.seconds[-1])
        if not (first <= start_s < end_s <= last):
            problem = f"must cover {start_s:.3f} to {end_s:.3f} s, it covers {first:.3f} to {last:.3f} s"
            raise UserError(self.source, problem, "record on one clock, from before the first run to after the last")
        inside = (self.seconds > start_s) & (self.seconds < end_s)
        if not inside.any():
            problem = f"must have a sample between {start_s:.3f} and {end_s:.3f} s, it has none"
            raise UserError(self.source, problem, "sample faster, or time more runs in a row")
        return _energy_mj(self.seconds, self.power_w, start_s, end_s)


def read_meter(path: Path) -> MeterLog:
    """A meter's log: CSV with the columns ``time_s`` and ``power_w``, in any order, others ignored.

    Raises:
        UserError: no such file, a missing column, a line that is no number, fewer than two samples, times that do not
            increase, or a negative power; with the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in METER_COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                advice = "times in seconds and powers in watts, one sample a line"
                raise UserError(str(path), f"must have a column {missing[0]}, it has {reader.fieldnames or []}", advice)
            samples = [_sample(path, reader.line_num, row["time_s"], row["power_w"]) for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(str(path), f"cannot be read, {error}") from error
    if len(samples) < 2:
        raise UserError(str(path), f"must hold at least two samples, got {len(samples)}")
    seconds, power_w = np.array(samples).T
    later = np.flatnonzero(np.diff(seconds) <= 0)
    if later.size:
        raise UserError(f"{path}, sample {int(later[0]) + 2}", "must be later than the one before it")
    return MeterLog(seconds=seconds, power_w=power_w, source=str(path))


def _energy_mj(seconds: NDArray[np.float64], power_w: NDArray[np.float64], start_s: float, end_s: float) -> float:
    """By the trapezoidal rule; power is held constant outside of the samples."""
    inside = (seconds > start_s) & (seconds < end_s)
    moments = np.concatenate([[start_s], seconds[inside], [end_s]])
    return float(np.trapezoid(np.interp(moments, seconds, power_w), moments)) * 1e3


def _sample(path: Path, line: int, moment: str | None, power: str | None) -> tuple[float, float]:
    try:
        found = (float(moment or ""), float(power or ""))
    except ValueError:
        raise UserError(f"{path}, line {line}", f"must hold two numbers, got {moment!r} and {power!r}") from None
    if not all(map(math.isfinite, found)) or found[1] < 0:
        raise UserError(f"{path}, line {line}", f"must hold a time and a power of at least 0, got {moment} and {power}")
    return found


def _is_package(zone: Path) -> bool:
    """Whether a zone is a package of its own: ``intel-rapl:0``, not ``intel-rapl:0:1``, and not the platform's."""
    if zone.name.count(":") != 1 or not (zone / _ENERGY).exists():
        return False
    try:
        return not (zone / "name").read_text(encoding="utf-8").startswith("psys")
    except OSError:
        return True


def _read_uj(path: Path) -> float:
    try:
        text = path.read_text(encoding="utf-8").strip()
        return float(int(text))
    except PermissionError as error:
        advice = f"run as root, or let your user read it: sudo chmod a+r {path}"
        raise UserError(str(path), "must be readable, access is denied", advice) from error
    except OSError as error:
        raise UserError(str(path), f"cannot be read, {error.strerror}") from error
    except ValueError as error:
        raise UserError(str(path), f"must be a number of microjoules, got {text!r}") from error


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(command[0], f"cannot be run, {error}", "it comes with the NVIDIA driver") from error
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise UserError(command[0], f"failed, {reason[0] if reason else done.returncode}")
    return done.stdout
