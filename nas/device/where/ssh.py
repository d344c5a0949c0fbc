"""Timing on a machine that OpenSSH reaches.

Responsible for one connection, over which runner, job and files go and from which measurements come as they are taken,
and for saying in one line why there is none. The machine needs a shell, Python 3.9 and onnxruntime. Host keys are
checked, nothing is ever asked, and what was running there ends when this end does.
"""

from __future__ import annotations

import base64
import re
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.device.protocol import Measurement, TimedDevice, TimingProtocol
from nas.device.timing import OnMeasured, Progress
from nas.device.where.bundle import runner_bytes
from nas.device.where.failures import BoardBusyError, ConnectionLostError
from nas.device.where.job import FORMAT, Job, job_for
from nas.device.where.link import Link, linked
from nas.device.where.places import Ssh
from nas.errors import UserError

_ALIVE_S, _ALIVE_TIMES = 15, 4
# Written for any Python, so that an old one is told apart from none. The runner comes first on standard input.
_BOOTSTRAP = """
import json, os, sys, tempfile
def stop(kind, problem):
    error = dict(event='error', kind=kind, where=sys.executable, problem=problem, advice='')
    sys.stdout.write(json.dumps(error) + '\\n')
    sys.exit(2)
if sys.version_info < (3, 9):
    stop('python', 'must be Python 3.9 or newer, it is %d.%d' % sys.version_info[:2])
import runpy
folder, size = os.path.expanduser(sys.argv[1]), int(sys.argv[2])
try:
    os.makedirs(folder, exist_ok=True)
    handle, path = tempfile.mkstemp('.pyz', 'nas-runner-', folder)
    with os.fdopen(handle, 'wb') as file:
        file.write(sys.stdin.buffer.read(size))
except OSError as error:
    if error.errno in (28, 122):
        stop('disk', error.strerror)
    stop('system', 'must let a folder %s be written, %s' % (folder, error.strerror))
sys.argv = [path, 'serve', folder]
try:
    runpy.run_path(path, run_name='__main__')
finally:
    os.unlink(path)
"""
# What OpenSSH complains of, what that means, whether its own words add to it, and what to do.
_COMPLAINTS: tuple[tuple[str, str, bool, str], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "has another host key than the known one",
        False,
        "if it was set up anew, remove the old key with `ssh-keygen -R {known}`, and log in once by hand",
    ),
    (
        r"Host key verification failed|host key is known",
        "has a host key that is not known",
        False,
        "log in once by hand with `{login}`, and compare its fingerprint",
    ),
    (
        r"UNPROTECTED PRIVATE KEY FILE|bad permissions",
        "cannot be asked with a private key that others can read",
        False,
        "chmod 600 {key}",
    ),
    (
        r"Permission denied|Too many authentication failures|Load key",
        "does not accept the key",
        True,
        "give `key:`, load it into the agent, or add it there with `ssh-copy-id`",
    ),
    (
        r"Could not resolve|Name or service not known|refused|timed out|No route|unreachable|reset by peer|"
        r"closed by|kex_exchange",
        "cannot be reached",
        True,
        "check host, port and network with `{login}`",
    ),
)
_NOT_FOUND = (126, 127)


def measure_over_ssh(
    place: Ssh,
    files: Sequence[Path],
    *,
    device: TimedDevice,
    protocol: TimingProtocol,
    reference_ms: float | None = None,
    progress: Progress | None = None,
    on_measured: OnMeasured | None = None,
) -> list[Measurement]:
    """The latency of each file on the machine at ``place``, in the order of ``files``; see `nas.device.timing.measure`.

    Args:
        on_measured: called for each file as soon as its line arrives, so that nothing is lost with the connection.

    Raises:
        UserError: the machine cannot be reached or trusts neither way, lacks Python, onnxruntime or room, or a file
            cannot be timed.
        BoardBusyError: somebody else measures on it.
        ConnectionLostError: it went away meanwhile.
    """
    if not files:
        return []
    job, digests = job_for(files, device=device, protocol=protocol, reference_ms=reference_ms, cores=place.cores)
    runner = runner_bytes()
    with linked(ssh_command(place, len(runner))) as link:
        link.send(runner + job.to_text().encode() + b"\n")
        received = _Received(place, digests, progress, on_measured)
        for event in link.events():
            handle = received.handlers.get(event["event"])
            if handle is not None:
                handle(event)
            if event["event"] == "hello":
                _send_files(link, event, digests)
            if event["event"] == "end":
                return received.in_order(files)
        status, words = link.last_words()
    if received.greeted:
        raise _lost(place, len(received.measured), job, words)
    raise _no_answer(place, status, words)


def ssh_command(place: Ssh, runner_size: int) -> list[str]:
    """The command line that starts the runner at ``place``.

    Raises:
        UserError: no OpenSSH here, or a key or a file of known hosts that is not there.
    """
    program = shutil.which("ssh")
    if program is None:
        raise UserError(str(place), "needs OpenSSH on this machine, there is no `ssh`", "install openssh-client")
    options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no", "LogLevel=ERROR"]
    options += ["ClearAllForwardings=yes", f"ConnectTimeout={place.timeout_s}"]
    options += [f"ServerAliveInterval={_ALIVE_S}", f"ServerAliveCountMax={_ALIVE_TIMES}"]
    if place.known_hosts is not None:
        options += [f'UserKnownHostsFile="{_there(place, "known_hosts")}"', "GlobalKnownHostsFile=/dev/null"]
    if place.key is not None:
        options += [f'IdentityFile="{_there(place, "key")}"', "IdentitiesOnly=yes"]
    command = [program, "-T", "-x", *(word for option in options for word in ("-o", option))]
    command += ["-p", str(place.port)] if place.port else []
    command += ["-l", place.user] if place.user else []
    return [*command, "--", place.host, _remote(place, runner_size)]


def _there(place: Ssh, field: str) -> Path:
    path = Path(getattr(place, field))
    if not path.is_file():
        raise UserError(f"{place}: {field}", f"must be a file, there is no {path}", "give its path")
    return path.resolve()


def _remote(place: Ssh, runner_size: int) -> str:
    """What the shell there runs: without a quote, a newline or a sign that any shell reads in its own way."""
    home = place.python.startswith("~/")
    python = '"$HOME"/' + shlex.quote(place.python[2:]) if home else shlex.quote(place.python)
    code = base64.b64encode(_BOOTSTRAP.encode()).decode()
    load = f"import base64;exec(base64.b64decode('{code}'))"
    return f'exec {python} -c "{load}" {shlex.quote(place.folder)} {runner_size}'


def _send_files(link: Link, hello: Mapping[str, Any], digests: Mapping[Path, str]) -> None:
    paths = {digest: path for path, digest in digests.items()}
    for digest in hello["missing"]:
        link.send(paths[digest].read_bytes())
    link.keep_alive()


class _Received:
    """What came back so far. A live handle of one job."""

    def __init__(
        self,
        place: Ssh,
        digests: Mapping[Path, str],
        progress: Progress | None,
        on_measured: OnMeasured | None,
    ) -> None:
        self._place, self._digests = place, digests
        self._progress, self._on_measured = progress, on_measured
        self.measured: dict[Path, Measurement] = {}
        self.greeted = False
        self.handlers: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            "hello": self._hello,
            "progress": self._forward,
            "measured": self._measured,
            "error": self._error,
        }

    def in_order(self, files: Sequence[Path]) -> list[Measurement]:
        return [self.measured[path] for path in files]

    def _hello(self, event: Mapping[str, Any]) -> None:
        if event["format"] != FORMAT:
            problem = f"must run a runner of format {FORMAT}, it runs one of {event['format']}"
            raise UserError(str(self._place), problem, f"empty {self._place.folder} there")
        self.greeted = True

    def _forward(self, event: Mapping[str, Any]) -> None:
        if self._progress is not None:
            self._progress(event["done"], event["total"])

    def _measured(self, event: Mapping[str, Any]) -> None:
        paths = [path for path, digest in self._digests.items() if digest == event["sha256"]]
        group = [Measurement.from_record(event["measurement"], file=path) for path in paths]
        self.measured |= {taken.file: taken for taken in group}
        if self._on_measured is not None:
            self._on_measured(group)

    def _error(self, event: Mapping[str, Any]) -> None:
        place, problem, advice = self._place, event["problem"], event["advice"]
        if event["kind"] == "busy":
            raise BoardBusyError(str(place), problem, advice)
        if event["kind"] == "disk":
            raise UserError(str(place), f"has no room for the files, {problem}", f"empty {place.folder} there")
        if event["kind"] in ("python", "runtime"):
            raise UserError(f"{place}: {event['where']}", problem, advice or "give `python:` in the card")
        local = {path.name: str(path) for path in self._digests}
        raise UserError(local.get(event["where"], f"{place}: {event['where']}"), problem, advice)


def _lost(place: Ssh, num_measured: int, job: Job, words: str) -> UserError:
    because = f" ({_last_line(words)})" if words.strip() else ""
    problem = f"went away after {num_measured} of {len(job.files)} files{because}"
    return ConnectionLostError(str(place), problem, "what is measured is kept; start again to go on")


def _no_answer(place: Ssh, status: int, words: str) -> UserError:
    """Why nothing came back at all."""
    port = ["-p", str(place.port)] if place.port else []
    user = ["-l", place.user] if place.user else []
    names = {
        "login": " ".join(["ssh", *port, *user, place.host]),
        "known": f"[{place.host}]:{place.port}" if place.port else place.host,
        "key": place.key or "it",
    }
    for pattern, problem, quoted, advice in _COMPLAINTS:
        if re.search(pattern, words) and status not in _NOT_FOUND:
            said = f", {_last_line(words)}" if quoted else ""
            return UserError(str(place), problem + said, advice.format(**names))
    if status in _NOT_FOUND:
        problem = f"must have Python, '{place.python}' cannot be run there"
        return UserError(str(place), problem, "give `python:` in the card")
    return UserError(str(place), f"gave no answer, status {status}: {_last_line(words) or 'without a word'}")


def _last_line(words: str) -> str:
    """The last line that says something, without the decoration that OpenSSH puts around warnings."""
    lines = [line.strip(" @\r") for line in words.splitlines()]
    return next((line.rstrip(".") for line in reversed(lines) if line), "")[:200]
