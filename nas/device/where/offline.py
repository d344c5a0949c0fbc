"""Timing on a machine that only people reach: a folder goes there, and comes back with results.

Responsible for what is written into the folder, and for what is believed of what comes back.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.device.protocol import FULL, Measurement, TimedDevice, TimingProtocol
from nas.device.timing import OnMeasured
from nas.device.where.bundle import runner_bytes
from nas.device.where.failures import WaitingForResults
from nas.device.where.job import FILES, JOB, RESULTS, RUNNER, Job, job_for, parsed, read_results
from nas.device.where.places import Offline
from nas.errors import UserError

_COMMAND = f"python3 {RUNNER}"
_REPEAT = f"`{_COMMAND}` there once more repeats it"


def write_offline_job(
    folder: Path,
    files: Sequence[Path],
    device: TimedDevice,
    protocol: TimingProtocol = FULL,
    *,
    reference_ms: float | None = None,
    cores: Collection[int] = (),
) -> None:
    """Writes files, runner, job and a README into ``folder``; results that lie there stay.

    Raises:
        UserError: a file that is missing, or a folder that cannot be written.
    """
    job, digests = job_for(files, device=device, protocol=protocol, reference_ms=reference_ms, cores=cores)
    try:
        (folder / FILES).mkdir(parents=True, exist_ok=True)
        wanted = {file.sha256: file.path(folder) for file in job.files}
        for old in set((folder / FILES).iterdir()) - set(wanted.values()):
            old.unlink()
        for path, digest in digests.items():
            if not wanted[digest].is_file():
                shutil.copyfile(path, wanted[digest])
        (folder / RUNNER).write_bytes(runner_bytes())
        (folder / "README.md").write_text(_readme(job), encoding="utf-8")
        # The job comes last: a folder that has one is whole.
        (folder / JOB).write_text(job.to_text() + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(str(folder), f"cannot be written, {error.strerror or error}") from error


def read_offline_results(
    folder: Path, files: Sequence[Path], device: TimedDevice, *, on_measured: OnMeasured | None = None
) -> list[Measurement]:
    """The latency of each file, as measured by the runner of ``folder``, in the order of ``files``.

    A measurement counts for the very content that was timed, under the job's protocol and the device's use. Where the
    anchor was slower than in another measurement of the same machine, by more than the protocol allows, it is marked
    as not settled.

    Args:
        folder: that came back.
        files: to look up, by their content.
        device: threads and batch that they were to be timed with.
        on_measured: called with those that are there, also where others are missing.

    Raises:
        WaitingForResults: nothing has come back, or not all.
        UserError: no job, results of another job or version, a damaged line, or results of several machines.
    """
    job = _job(folder, device)
    _, digests = job_for(files, device=device, protocol=job.protocol)
    text = _results_text(folder)
    records = read_results(text, job)
    if text.strip() and not records:
        raise UserError(str(folder / RESULTS), _strangeness(text, job), "remove it, and measure again")
    found = _checked(folder, {path: records[digest] for path, digest in digests.items() if digest in records}, job)
    if found and on_measured is not None:
        on_measured(list(found.values()))
    missing = [path for path in digests if path not in found]
    if missing:
        raise _waiting(folder, len(digests), missing, device)
    return [found[path] for path in files]


def measure_offline(
    place: Offline,
    files: Sequence[Path],
    *,
    device: TimedDevice,
    protocol: TimingProtocol,
    reference_ms: float | None = None,
    on_measured: OnMeasured | None = None,
) -> list[Measurement]:
    """Reads the results of ``files`` where they have come back; else writes the folder and says what to do with it.

    Raises:
        WaitingForResults: somebody has to carry the folder there, or back.
        UserError: see `write_offline_job` and `read_offline_results`.
    """
    if not files:
        return []
    folder = place.folder or Path("offline") / device.name
    wanted, digests = job_for(files, device=device, protocol=protocol, reference_ms=reference_ms, cores=place.cores)
    if not _asks_for(folder, wanted):
        write_offline_job(folder, files, device, protocol, reference_ms=reference_ms, cores=place.cores)
    if read_results(_results_text(folder), wanted).keys() & set(digests.values()):
        return read_offline_results(folder, files, device, on_measured=on_measured)
    raise _waiting(folder, len(digests), list(digests), device)


def _asks_for(folder: Path, wanted: Job) -> bool:
    """Whether the job in ``folder`` covers all that is wanted, so that the folder may be on its way."""
    try:
        written = Job.from_text((folder / JOB).read_text(encoding="utf-8"))
    except (OSError, UserError):
        return False
    return written.conditions() == wanted.conditions() and set(wanted.files) <= set(written.files)


def _job(folder: Path, device: TimedDevice) -> Job:
    path = folder / JOB
    if not path.is_file():
        raise UserError(str(path), "must be the job that was measured, there is none", "write the folder first")
    job = Job.from_text(path.read_text(encoding="utf-8"), where=str(path))
    if (job.device.threads, job.device.batch) != (device.threads, device.batch):
        problem = (
            f"must be about {device.threads} threads and batch {device.batch}, "
            f"it is about {job.device.threads} and {job.device.batch}"
        )
        raise UserError(str(path), problem, "write the folder again")
    return job


def _results_text(folder: Path) -> str:
    path = folder / RESULTS
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError as error:
        raise UserError(str(path), f"cannot be read, {error.strerror}") from error


def _strangeness(text: str, job: Job) -> str:
    """What is wrong with results of which no line fits."""
    record = next((found for line in text.splitlines() if (found := parsed(line)) and "format" in found), None)
    if record is None:
        return "must be the lines that the runner wrote, none of them is"
    expected = job.conditions()
    differing = [key for key, value in expected.items() if record.get(key) != value]
    return f"must be the results of this job, they differ in {', '.join(differing)}"


def _checked(folder: Path, records: Mapping[Path, Mapping[str, Any]], job: Job) -> dict[Path, Measurement]:
    where = str(folder / RESULTS)
    found: dict[Path, Measurement] = {}
    for path, record in records.items():
        try:
            found[path] = Measurement.from_record(record, file=path)
        except (KeyError, TypeError, ValueError) as error:
            problem = f"must hold a measurement of {path.name}, {error} does not fit"
            raise UserError(where, problem, "remove that line, and run the runner again") from error
    hosts = {f"{taken.host.cpu} with onnxruntime {taken.host.onnxruntime}" for taken in found.values()}
    if len(hosts) > 1:
        problem = f"must be of one machine, got {' and '.join(sorted(hosts))}"
        raise UserError(where, problem, "remove it, and measure again on one")
    level_ms = min((taken.anchor_ms for taken in found.values()), default=0.0)
    return {path: _against(taken, level_ms, job.protocol) for path, taken in found.items()}


def _against(taken: Measurement, level_ms: float, protocol: TimingProtocol) -> Measurement:
    note = taken.note
    if taken.settled and taken.anchor_ms > level_ms * (1 + protocol.max_drift):
        note = f"the machine was {taken.anchor_ms / level_ms:.2f} times slower than at another time"
    return replace(taken, settled=False, note=f"{note}; {_REPEAT}") if note else taken


def _waiting(folder: Path, total: int, missing: Sequence[Path], device: TimedDevice) -> WaitingForResults:
    if len(missing) < total:
        names = ", ".join(path.name for path in missing[:3]) + (", ..." if len(missing) > 3 else "")
        problem = f"lacks the results of {len(missing)} of {total} files ({names})"
    else:
        problem = f"waits for the results of {total} files"
    advice = f"copy it to {device.name}, run `{_COMMAND}` in it, copy {RESULTS} back into it, and repeat this command"
    return WaitingForResults(str(folder), problem, advice)


def _readme(job: Job) -> str:
    return f"""# Measure {len(job.files)} files on {job.device.name}

1. Copy this whole folder to the machine.
2. In it, run

       {_COMMAND}

   It needs Python 3.9 or newer with onnxruntime (`python3 -m pip install onnxruntime`) and nothing else. Leave the
   machine alone meanwhile: no other work, mains power, its usual cooling.
3. Copy `{RESULTS}` back into this folder on the machine that it came from, and repeat the command that wrote it.

Each measured file is a line of `{RESULTS}`, written at once: stopped, the same command goes on where it was. Exit
status 3 says that some timings did not settle; the same command repeats those.

{job.device.threads} thread(s), batch {job.device.batch}; {job.protocol.describe()}.
"""
