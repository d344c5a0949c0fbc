"""Runs a job on the machine that it was sent to: the one implementation of the protocol, in a file of its own.

Responsible for what happens there: the lock, the disk, files in, lines out. Needs Python 3.9, onnxruntime with its
NumPy, and of this project only what `nas.device.where.bundle` packs beside it: no module of those imports anything
else, or uses what is newer in Python.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import select
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from nas.device.host import HostFacts, differences, host_facts
from nas.device.protocol import Measurement
from nas.device.timing import measure
from nas.device.where.failures import BoardBusyError
from nas.device.where.job import FORMAT, JOB, RESULTS, Job, JobFile, read_results, sha256_of
from nas.device.where.lock import machine_lock
from nas.errors import UserError

Tell = Callable[[Mapping[str, object]], None]

# A runner that hears nothing for so long has lost its master.
SILENCE_S = 60.0
_SPARE_BYTES = 16 * 2**20
_KEEP_S = 7 * 86400.0
_CHUNK = 2**20


def main(arguments: Sequence[str], program: Path) -> int:
    """``serve FOLDER``: a job and its files on standard input; else the job in a folder, the program's own by default.

    Returns:
        An exit status: 0 when all is measured, 2 for a user error, 3 when a timing did not settle.
    """
    if arguments[:1] == ["serve"]:
        return serve(sys.stdin.buffer, sys.stdout, Path(arguments[1]).expanduser())
    folder = Path(arguments[0]) if arguments else program.resolve().parent
    try:
        return run_folder(folder, sys.stderr)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"{folder}: cannot be used, {error.strerror or error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"stopped; what is measured is in {folder / RESULTS}, run it again to go on\n")
        return 130


def serve(requests: BinaryIO, replies: TextIO, folder: Path) -> int:
    """Does the job that comes in ``requests``: a line, then the bytes of the files that the first reply asks for.

    Each reply is a line of JSON with an ``event``: ``hello``, ``progress``, ``measured``, ``error``, ``end``.
    """

    def tell(record: Mapping[str, object]) -> None:
        replies.write(json.dumps(record) + "\n")
        replies.flush()

    try:
        job = Job.from_text(requests.readline())
        with machine_lock(job.asked_by):
            _prepare(folder)
            missing = _missing(job, folder)
            tell({"event": "hello", "format": FORMAT, "missing": [file.sha256 for file in missing]})
            for file in missing:
                _receive(requests, file, folder)
            _end_with(requests)
            _run(job, job.files, folder, tell)
            _clean_up(job, folder)
        tell({"event": "end"})
    except UserError as error:
        tell(_failure("busy" if isinstance(error, BoardBusyError) else "user", error))
        return 2
    except OSError as error:
        text = error.strerror or str(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        problem = text if full else f"cannot be used, {text}"
        tell(_failure("disk" if full else "system", UserError(str(folder), problem)))
        return 2
    return 0


def run_folder(folder: Path, log: TextIO) -> int:
    """Does the job that lies in ``folder``, and adds a line to its results for each file, as soon as it is measured.

    Raises:
        UserError: no job, a file that is missing or damaged, results of another machine, or a busy machine.
    """
    try:
        job = Job.from_text((folder / JOB).read_text(encoding="utf-8"), where=str(folder / JOB))
    except OSError as error:
        raise UserError(str(folder / JOB), f"cannot be read, {error.strerror}", "copy the whole folder") from error
    damaged = [file.name for file in job.files if sha256_of(file.path(folder)) != file.sha256]
    if damaged:
        raise UserError(str(folder), f"{len(damaged)} files are missing or damaged ({damaged[0]})", "copy it again")
    results = folder / RESULTS
    text = results.read_text(encoding="utf-8") if results.is_file() else ""
    known = read_results(text, job)
    anchors_ms = _anchors_ms(known, job, results)
    left = [file for file in job.files if not known.get(file.sha256, {}).get("settled")]
    with machine_lock(job.asked_by), results.open("a", encoding="utf-8") as lines:
        if text and not text.endswith("\n"):
            lines.write("\n")  # the last line was torn when its writer died

        def tell(record: Mapping[str, object]) -> None:
            if record["event"] == "measured":
                lines.write(json.dumps(record) + "\n")
                lines.flush()
                os.fsync(lines.fileno())
            elif record["event"] == "progress":
                log.write(f"\r{record['done']} of {record['total']} files measured")
                log.flush()

        refused = _run(job, left, folder, tell, reference_ms=min(anchors_ms, default=None))
    log.write(f"\nall {len(job.files)} files are in {results}; carry it back\n")
    if refused:
        log.write(f"{refused} timings did not settle: run this again when the machine is quiet to repeat them\n")
    return 3 if refused else 0


def _run(job: Job, files: Sequence[JobFile], folder: Path, tell: Tell, *, reference_ms: float | None = None) -> int:
    """Measures files and tells of each group.

    Returns:
        How many did not settle.
    """
    paths = {file.path(folder): file for file in files}
    settled: dict[Path, bool] = {}

    def on_measured(group: Sequence[Measurement]) -> None:
        for taken in group:
            settled[taken.file] = taken.settled
            file = paths[taken.file]
            tell({**json.loads(job.result_line(taken, file.sha256)), "name": file.name})

    levels = [level for level in (job.reference_ms, reference_ms) if level is not None]
    try:
        measure(
            list(paths),
            device=job.device,
            protocol=job.protocol,
            reference_ms=min(levels, default=None),
            progress=lambda done, total: tell({"event": "progress", "done": done, "total": total}),
            on_measured=on_measured,
            cores=job.cores,
        )
    except UserError as error:
        # By the name that people know; onnxruntime repeats the path.
        where, problem = error.where, error.problem
        for path, file in paths.items():
            where, problem = where.replace(str(path), file.name), problem.replace(str(path), file.name)
        raise UserError(where, problem, error.advice) from error
    return sum(not good for good in settled.values())


def _prepare(folder: Path) -> None:
    """Makes the folder, and removes what earlier, broken-off jobs have left there for a week."""
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    for path in [*files.iterdir(), *folder.glob("nas-runner-*")]:
        if time.time() - path.stat().st_mtime > _KEEP_S:
            path.unlink()


def _missing(job: Job, folder: Path) -> list[JobFile]:
    missing = [file for file in job.files if sha256_of(file.path(folder)) != file.sha256]
    needed = sum(file.size for file in missing) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if missing and needed > free:
        raise OSError(errno.ENOSPC, f"{needed // 2**20} MiB are needed and {free // 2**20} MiB are free")
    return missing


def _receive(requests: BinaryIO, file: JobFile, folder: Path) -> None:
    path = file.path(folder)
    part = path.with_suffix(".part")
    digest, left = hashlib.sha256(), file.size
    try:
        with part.open("wb") as target:
            while left:
                chunk = requests.read(min(left, _CHUNK))
                if not chunk:
                    raise UserError(file.name, "did not arrive whole")
                digest.update(chunk)
                target.write(chunk)
                left -= len(chunk)
        if digest.hexdigest() != file.sha256:
            raise UserError(file.name, "was damaged on its way, its SHA-256 differs", "try again")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _end_with(requests: BinaryIO) -> None:
    """Ends this process when its master goes away: its standard input closes, or is silent for too long."""

    def watch(descriptor: int) -> None:
        while True:
            heard, _, _ = select.select([descriptor], [], [], SILENCE_S)
            if not heard or not os.read(descriptor, 4096):
                os._exit(1)

    try:
        descriptor = requests.fileno()
    except OSError:  # not a file: the caller holds both ends
        return
    threading.Thread(target=watch, args=(descriptor,), daemon=True).start()


def _clean_up(job: Job, folder: Path) -> None:
    for file in job.files:
        file.path(folder).unlink(missing_ok=True)


def _anchors_ms(known: Mapping[str, Mapping[str, Any]], job: Job, results: Path) -> list[float]:
    """The anchor's levels in results that are there, all of which must be of this machine."""
    here = host_facts().fingerprint(job.device.threads)
    for record in known.values():
        changes = differences(HostFacts.from_record(record["host"]).fingerprint(job.device.threads), here)
        if changes:
            advice = "remove it to measure everything here"
            raise UserError(str(results), f"must be of this machine: {'; '.join(changes)}", advice)
    return [float(record["anchor_ms"]) for record in known.values()]


def _failure(kind: str, error: UserError) -> dict[str, object]:
    return {
        "event": "error",
        "kind": kind,
        "where": error.where,
        "problem": error.problem,
        "advice": error.advice,
    }
