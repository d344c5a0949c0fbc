"""Converters in a process of their own, started once for many models.

Responsible for keeping what converters do to a process (log lines on native streams, changed globals, crashes) out of
this one, and for paying their start (5 to 15 s of imports) once. Arguments and answers are JSON, one line each; tensors
travel as files. Run as a module, this file is the other end.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from dataclasses import dataclass, field
from typing import IO, Any

from nas.errors import UserError, one_line

_ALLOWED = "nas.deploy.targets."
_CONVERTERS_SECONDS = 1200.0
_LAST_BYTES = 2000


@dataclass(frozen=True, kw_only=True)
class _Running:
    process: subprocess.Popen[str]
    log: IO[bytes]


@dataclass(kw_only=True, eq=False)
class ConverterProcess:
    """A Python process that runs functions of `nas.deploy.targets` one after the other.

    It starts with the first call, and ends with this object or with this process. One call at a time.

    Attributes:
        target: whose it is, for messages.
        seconds: that one call may take.
    """

    target: str
    seconds: float = _CONVERTERS_SECONDS
    _running: _Running | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def call(self, function: str, **arguments: object) -> Any:
        """What ``function`` (``nas.deploy.targets.<module>:<name>``) answers to JSON-able arguments.

        Raises:
            UserError: raised by the function, or its process failed, ended or took longer than ``seconds``.
        """
        with self._lock:
            running = self._start()
            assert running.process.stdin is not None
            assert running.process.stdout is not None
            timer = threading.Timer(self.seconds, running.process.kill)
            timer.daemon = True
            timer.start()
            try:
                running.process.stdin.write(json.dumps({"function": function, "arguments": arguments}) + "\n")
                running.process.stdin.flush()
                line = running.process.stdout.readline()
            except OSError:
                line = ""
            finally:
                timer.cancel()
            if not line:
                raise self._ended(running)
        answer = json.loads(line)
        if "user_error" in answer:
            raise UserError(*answer["user_error"])
        if "failure" in answer:
            raise UserError(f"target {self.target}", f"the converter failed, {answer['failure']}", _ADVICE)
        return answer["result"]

    def close(self) -> None:
        """Ends the process, if one runs; a later call starts another."""
        if self._running is not None:
            _end(self._running)
            self._running = None

    def _start(self) -> _Running:
        if self._running is not None and self._running.process.poll() is None:
            return self._running
        log = tempfile.TemporaryFile(prefix="nas-converter-")  # noqa: SIM115 it lives as long as the process
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
        # The converters look for packages where this process does, which may have been started with another path.
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        self._running = _Running(process=process, log=log)
        weakref.finalize(self, _end, self._running)
        return self._running

    def _ended(self, running: _Running) -> UserError:
        code = running.process.wait()
        running.log.seek(max(0, running.log.seek(0, os.SEEK_END) - _LAST_BYTES))
        said = [line for line in running.log.read().decode(errors="replace").splitlines() if line.strip()]
        _end(running)
        self._running = None
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        problem = f"the converter's process ended with {how}" + (f", its last line: {said[-1].strip()}" if said else "")
        return UserError(f"target {self.target}", problem, _ADVICE)


_ADVICE = "leave the target or the precision out, or report the line with the architecture"


def _end(running: _Running) -> None:
    process = running.process
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    try:  # it holds nothing between two calls that would have to be put away
        process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    running.log.close()


def answer(line: str) -> dict[str, object]:
    """The answer to one request, as `ConverterProcess.call` reads it; never raises for what the function raises."""
    request = json.loads(line)
    module, _, name = request["function"].partition(":")
    assert module.startswith(_ALLOWED), f"{module} is none of the targets"
    try:
        return {"result": getattr(importlib.import_module(module), name)(**request["arguments"])}
    except UserError as error:
        return {"user_error": [error.where, error.problem, error.advice]}
    except Exception as error:  # converters raise whatever their parts raise
        return {"failure": one_line(error)}


def serve() -> None:
    """Answers requests from the standard input until it ends.

    Answers go to what was the standard output; everything that a library prints, natively too, goes to the errors.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(answer(line)) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
