"""Timing on an Android phone through adb, with the benchmark program of onnxruntime.

Responsible for the commands and for reading their output. The protocol is the same as everywhere: a block is one run of
the program, whose per-run times come from its result file. The anchor is run by the same program beside each block.
What differs: a block starts a process, so that its first runs are colder than elsewhere (more warm-ups are worth it),
and no processor time is known, so that interrupted runs are told by the anchor and by the others only.

Commands and parsing follow the program's source and Android's toybox; they have not been run on a phone.

References:
    onnxruntime, `onnxruntime/test/perftest` (command_args_parser.cc, performance_result.h).
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nas.device.anchor import ANCHOR
from nas.device.cores import BoundCore
from nas.device.host import HostFacts, utc_now
from nas.device.protocol import Measurement, TimedDevice, TimingProtocol
from nas.device.session import ready
from nas.device.state import MachineState
from nas.device.timing import Bench, OnMeasured, Progress, measure_on_bench
from nas.device.where.job import asker
from nas.device.where.lock import lock_path, machine_lock
from nas.device.where.places import Adb
from nas.errors import UserError

_TIMEOUT_S = 300
_RESULT = "result.csv"
_STATUS = re.compile(r"^nas-status=(\d+)$", re.MULTILINE)
_RUN = re.compile(r"^[^,\n]*,([0-9.eE+-]+),[^\n]*,(\d+)\s*$", re.MULTILINE)
# Key -> what a shell on the phone prints for it.
_FACTS = {
    "model": "getprop ro.product.model",
    "soc": "getprop ro.soc.model",
    "abi": "getprop ro.product.cpu.abi",
    "android": "getprop ro.build.version.release",
    "kernel": "uname -sr",
    "cores": "nproc",
    "memory": "grep MemTotal /proc/meminfo",
    "load": "cat /proc/loadavg",
    "governor": "cat /sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor",
}
_STATE = {
    "frequency": "cat /sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq",
    "zones": "cat /sys/class/thermal/thermal_zone*/temp",
    "battery": "dumpsys battery | grep temperature",
    "thermal": "dumpsys thermalservice | grep 'Thermal Status'",
}


def measure_over_adb(
    place: Adb,
    files: Sequence[Path],
    *,
    device: TimedDevice,
    protocol: TimingProtocol,
    reference_ms: float | None = None,
    progress: Progress | None = None,
    on_measured: OnMeasured | None = None,
) -> list[Measurement]:
    """The latency of each file on the phone at ``place``, in the order of ``files``; see `nas.device.timing.measure`.

    Raises:
        UserError: no adb, no phone or several, a program that does not run there, or a file that cannot be timed.
        BoardBusyError: another process of this machine measures on it.
    """
    if not files:
        return []
    phone = Phone(place)
    with machine_lock(asker(), path=lock_path(f"adb-{place.serial}"), where=str(place)):
        phone.install()
        bench = Bench(
            device=device.name,
            load=partial(phone.load, device=device),
            anchor=phone.load(ANCHOR, _OneThread()),
            core=BoundCore(place.cores if len(place.cores) == 1 else ()),
            facts=phone.facts,
            state=phone.state,
        )
        try:
            return measure_on_bench(
                bench, files, protocol=protocol, reference_ms=reference_ms, progress=progress, on_measured=on_measured
            )
        finally:
            phone.shell(f"rm -rf {shlex.quote(place.folder)}")


class _OneThread:
    """How the anchor is run."""

    name, threads, batch = "anchor", 1, 1


@dataclass(frozen=True, kw_only=True, eq=False)
class PhoneModel:
    """A file on a phone; a `nas.device.session.Stopwatch`.

    Attributes:
        phone: that has it.
        name: of the file there.
        threads: to use.
        free: free dimensions of its inputs and their sizes, by name.
    """

    phone: Phone
    name: str
    threads: int
    free: Mapping[str, int]

    def block(self, warmups: int, runs: int) -> tuple[np.ndarray, np.ndarray]:
        """See `nas.device.session.Stopwatch`; the second array is 1 throughout, as no processor time is known."""
        output = self.phone.shell(run_command(self.phone.place, self, warmups + runs))
        times_ms = parse_run(output, warmups + runs, where=f"{self.phone.place}: {self.name}")[warmups:]
        return times_ms, np.ones(len(times_ms))


class Phone:
    """A phone on adb. A live handle."""

    def __init__(self, place: Adb) -> None:
        program = shutil.which(place.adb)
        if program is None:
            advice = "install Android's platform-tools, or give `adb:` in the card"
            raise UserError(str(place), f"needs adb on this machine, there is no '{place.adb}'", advice)
        self.place = place
        self._adb = [program, *(["-s", place.serial] if place.serial else [])]

    def install(self) -> None:
        """Puts the program and its libraries into the folder there.

        Raises:
            UserError: one of them is missing here, or the phone does not take it.
        """
        folder, benchmark = self.place.folder, self.place.benchmark
        for path in (benchmark, *self.place.libraries):
            if not path.is_file():
                raise UserError(f"{self.place}", f"needs a program for the phone, there is no {path}", "give its path")
        self.shell(f"mkdir -p {shlex.quote(folder)}")
        for path in (benchmark, *self.place.libraries):
            self.push(path, path.name)
        self.shell(f"chmod 755 {shlex.quote(f'{folder}/{benchmark.name}')}")

    def load(self, path: Path, device: TimedDevice) -> PhoneModel:
        """A file, put there. It is checked here first: the same files are refused as on this machine."""
        model = ready(path, device)
        free = {
            entry.shape[0]: device.batch
            for entry in model.session.get_inputs()
            if entry.shape and isinstance(entry.shape[0], str)
        }
        name = hashlib.sha256(path.read_bytes()).hexdigest()[:16] + ".onnx"
        self.push(path, name)
        return PhoneModel(phone=self, name=name, threads=device.threads, free=free)

    def push(self, path: Path, name: str) -> None:
        """Copies a file into the folder there."""
        self._run(["push", str(path), f"{self.place.folder}/{name}"])

    def shell(self, command: str) -> str:
        """Standard output of a command there."""
        return self._run(["shell", command])

    def facts(self) -> HostFacts:
        """What the phone says of itself; the program's digest stands for onnxruntime's version, which it hides."""
        core = (self.place.cores or (0,))[0]
        told = parse_labelled(self.shell(labelled(_FACTS, core)))
        digest = hashlib.sha256(self.place.benchmark.read_bytes()).hexdigest()[:12]
        memory = re.search(r"\d+", told["memory"])
        return HostFacts(
            cpu=" ".join(filter(None, (told["soc"], f"({told['model']})" if told["model"] else ""))),
            architecture=told["abi"],
            cores=int(told["cores"]) if told["cores"].isdigit() else 0,
            memory_bytes=int(memory.group()) * 1024 if memory else 0,
            os=f"Android {told['android']}, {told['kernel']}",
            python="",
            onnxruntime=f"{self.place.benchmark.name} {digest}",
            load_average=_number(told["load"].split(" ")[0]),
            frequency_mhz=None,
            governor=told["governor"],
            temperature_c=None,
            time=utc_now(),
        )

    def state(self) -> MachineState:
        """Frequency, temperature (the hottest of zones and battery) and Android's thermal status, now."""
        core = (self.place.cores or (0,))[0]
        return parse_state(self.shell(labelled(_STATE, core)))

    def _run(self, words: Sequence[str]) -> str:
        try:
            done = subprocess.run([*self._adb, *words], capture_output=True, timeout=_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            problem = f"gave no answer within {_TIMEOUT_S} s to `adb {words[0]}`"
            raise UserError(str(self.place), problem, "unplug it, plug it in, and start again") from None
        output = done.stdout.decode(errors="replace").replace("\r\n", "\n")
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip() or output.strip()
            raise _refusal(self.place, said)
        return output


def run_command(place: Adb, model: PhoneModel, runs: int) -> str:
    """What the shell on the phone runs for one block: its last lines are the status and the result file."""
    mask = sum(1 << core for core in place.cores)
    bound = f"taskset {mask:x} " if place.cores else ""
    free = "".join(f" -f {shlex.quote(f'{name}:{size}')}" for name, size in model.free.items())
    return (
        f"cd {shlex.quote(place.folder)} && rm -f {_RESULT}; LD_LIBRARY_PATH=. {bound}./{place.benchmark.name} "
        f"-I -S 1 -m times -r {runs} -x {model.threads} -y 1 -e cpu{free} {model.name} {_RESULT} 2>&1; "
        f"echo nas-status=$?; cat {_RESULT} 2>/dev/null; true"
    )


def parse_run(output: str, runs: int, *, where: str) -> np.ndarray:
    """Wall time of each run in ms, ``(runs,)``, from the output of `run_command`.

    Raises:
        UserError: the program failed, or gave another number of runs.
    """
    status = _STATUS.search(output)
    if status is None or status.group(1) != "0":
        said = (output[: status.start()] if status else output).strip().splitlines()
        last = said[-1][:200] if said else "nothing"
        raise UserError(where, f"cannot be run on the phone, the program says: {last}", "try the command by hand")
    times_s = [float(seconds) for seconds, _ in _RUN.findall(output[status.end() :])]
    if len(times_s) != runs or min(times_s) <= 0:
        raise UserError(where, f"must give {runs} times, the program gave {len(times_s)}", "try another build of it")
    return np.array(times_s) * 1e3


def labelled(commands: Mapping[str, str], core: int) -> str:
    """One shell command that runs several, each behind a line with its key; those that fail print nothing."""
    parts = [f"echo nas-key={key}; {command.format(core=core)} 2>/dev/null" for key, command in commands.items()]
    return "; ".join([*parts, "true"])


def parse_labelled(output: str) -> dict[str, str]:
    """Key -> stripped output of its command."""
    parts = re.split(r"^nas-key=(\w+)\n?", output, flags=re.MULTILINE)
    return {key: text.strip() for key, text in zip(parts[1::2], parts[2::2], strict=True)}


def parse_state(output: str) -> MachineState:
    """From the output of `labelled` reads. Android's thermal status counts from 0, none, to 6, shutdown."""
    told = parse_labelled(output)
    zones = [value for text in told["zones"].split() if (value := _number(text)) is not None]
    # Zones are in thousandths of a degree, the battery in tenths; an unused zone says 0 or below.
    degrees = [value / 1e3 for value in zones if 1e3 < value < 2e5]
    battery = re.search(r"-?\d+", told["battery"])
    degrees += [int(battery.group()) / 10] if battery else []
    status = re.search(r"\d+", told["thermal"])
    throttled = f"thermal status {status.group()}" if status and int(status.group()) > 0 else ""
    frequency_khz = _number(told["frequency"])
    return MachineState(
        frequency_mhz=None if frequency_khz is None else frequency_khz / 1e3,
        temperature_c=max(degrees, default=None),
        throttled=throttled,
    )


def _refusal(place: Adb, said: str) -> UserError:
    last = said.splitlines()[-1][:200] if said else "it gave no reason"
    if "unauthorized" in said:
        return UserError(str(place), "is not authorised, the phone asks whether to trust this machine", "say yes there")
    if "more than one device" in said:
        return UserError(str(place), "must say which phone, there are several", "give `serial:`, see `adb devices`")
    if "not found" in said or "no devices" in said or "offline" in said:
        return UserError(str(place), f"is not there, adb says: {last}", "plug it in, see `adb devices`")
    if "No space left" in said:
        return UserError(str(place), f"has no room for the files, adb says: {last}", f"empty {place.folder} there")
    return UserError(str(place), f"refused, adb says: {last}")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
