"""What a machine elsewhere is asked to do, and the lines that it answers with.

Responsible for the two formats, both plain JSON: a job, and a line for each measured file. Files travel and are
recognised by their SHA-256.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.device.protocol import Measurement, TimedDevice, TimingProtocol
from nas.errors import UserError

FORMAT = 1
RUNNER = "nas-runner.pyz"
JOB = "job.json"
RESULTS = "results.jsonl"
FILES = "files"


@dataclass(frozen=True, kw_only=True)
class Use:
    """How a device is used: what timing needs to know of it."""

    name: str
    threads: int
    batch: int


@dataclass(frozen=True, kw_only=True)
class JobFile:
    """A file to be timed.

    Attributes:
        name: for people.
        sha256: of its content; its name on the machine.
        size: in bytes.
    """

    name: str
    sha256: str
    size: int

    def path(self, folder: Path) -> Path:
        """Where it lies in the folder of a job."""
        return folder / FILES / f"{self.sha256}.onnx"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Files to be timed on a machine.

    Attributes:
        device: how it is used.
        protocol: how thoroughly.
        reference_ms: the anchor's undisturbed latency there as known from before; None if it is not.
        cores: logical processors that may be used; empty: all.
        asked_by: for those who find the machine busy.
        files: each content once.
    """

    device: Use
    protocol: TimingProtocol
    reference_ms: float | None
    cores: tuple[int, ...]
    asked_by: str
    files: tuple[JobFile, ...]

    def to_text(self) -> str:
        """One line of JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_text(cls, text: str | bytes, *, where: str = JOB) -> Job:
        """What `to_text` gave. Raises `UserError` for anything else, and for another version's."""
        record = parsed(text)
        if record is None or "format" not in record:
            raise UserError(where, "must be a job for this runner, it cannot be read", "write the folder again")
        if record["format"] != FORMAT:
            problem = f"must have format {FORMAT}, got {record['format']!r} of another version of nas"
            raise UserError(where, problem, "write the folder again, with its runner")
        try:
            return cls(
                device=Use(**record["device"]),
                protocol=TimingProtocol.from_record(record["protocol"]),
                reference_ms=record["reference_ms"],
                cores=tuple(record["cores"]),
                asked_by=record["asked_by"],
                files=tuple(JobFile(**entry) for entry in record["files"]),
            )
        except (KeyError, TypeError, AssertionError) as error:
            raise UserError(where, f"must be a job for this runner, {error} does not fit", "write it again") from error

    def result_line(self, measurement: Measurement, sha256: str) -> str:
        """The line of one measured file."""
        return json.dumps(
            {"event": "measured", **self.conditions(), "sha256": sha256, "measurement": measurement.to_record()}
        )

    def conditions(self) -> dict[str, object]:
        """What two measurements of a file must have in common to be of the same kind."""
        return {
            "format": FORMAT,
            "threads": self.device.threads,
            "batch": self.device.batch,
            "protocol": self.protocol.to_record(),
        }


def job_for(
    files: Sequence[Path],
    *,
    device: TimedDevice,
    protocol: TimingProtocol,
    reference_ms: float | None = None,
    cores: Collection[int] = (),
) -> tuple[Job, dict[Path, str]]:
    """The job of timing ``files``, and file -> SHA-256. Raises `UserError` for a file that is missing."""
    digests: dict[Path, str] = {}
    entries: dict[str, JobFile] = {}
    for path in files:
        if path not in digests:
            digests[path], size = _digest(path)
            entries.setdefault(digests[path], JobFile(name=path.name, sha256=digests[path], size=size))
    job = Job(
        device=Use(name=device.name, threads=device.threads, batch=device.batch),
        protocol=protocol,
        reference_ms=reference_ms,
        cores=tuple(cores),
        asked_by=asker(),
        files=tuple(entries.values()),
    )
    return job, digests


def parsed(line: str | bytes) -> dict[str, Any] | None:
    """A line as a mapping; None for one that is not."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def read_results(text: str, job: Job) -> dict[str, Mapping[str, Any]]:
    """SHA-256 -> record of the measurement, of all lines under the job's conditions; the last of a file holds.

    Lines of other jobs, and a torn one, are left out.
    """
    found: dict[str, Mapping[str, Any]] = {}
    conditions = job.conditions()
    for line in text.splitlines():
        record = parsed(line)
        if record is not None and all(record.get(key) == value for key, value in conditions.items()):
            found[str(record.get("sha256"))] = record.get("measurement") or {}
    return found


def sha256_of(path: Path) -> str:
    """Of a file's content; "" where there is none."""
    return _digest(path)[0] if path.is_file() else ""


def _digest(path: Path) -> tuple[str, int]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(str(path), f"must be an ONNX file, {error.strerror}", "export the model again") from error
    return hashlib.sha256(content).hexdigest(), len(content)


def asker() -> str:
    """Who measures, for those who find a machine busy: ``ann@workstation``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no entry in the user database
        user = "somebody"
    return f"{user}@{platform.node()}"
