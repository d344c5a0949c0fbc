"""A program at the other end of a pipe that answers in lines of JSON.

Responsible for keeping both directions moving, for telling the far end that somebody is still there, and for its end
when this end stops, in whatever way.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from nas.device.where.job import parsed

_HEARTBEAT_S = 10.0
_FAREWELL_S = 5.0
_LINES_KEPT = 40


class Link:
    """A running program. A live handle: make it with `linked`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process, self._stdin = process, process.stdin
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._complaints: deque[str] = deque(maxlen=_LINES_KEPT)
        self._sending = threading.Lock()
        self._over = threading.Event()
        self._readers = [
            threading.Thread(target=self._read, args=(process.stdout,), daemon=True),
            threading.Thread(target=self._collect, args=(process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def send(self, content: bytes) -> None:
        """Sends all of it. An end that has gone is noticed when its last words are read."""
        left = memoryview(content)
        # Past the buffer: closing must never wait for an end that reads no more.
        with self._sending, suppress(BrokenPipeError, ValueError):
            while left:
                left = left[os.write(self._stdin.fileno(), left) :]

    def keep_alive(self) -> None:
        """From now on tells the far end every few seconds that this end is there."""

        def beat() -> None:
            while not self._over.wait(_HEARTBEAT_S):
                self.send(b"\n")

        threading.Thread(target=beat, daemon=True).start()

    def events(self) -> Iterator[dict[str, Any]]:
        """Its lines as they come, until it ends. Other output, such as a greeting, is left out."""
        while (line := self._lines.get()) is not None:
            record = parsed(line)
            if record is not None and "event" in record:
                yield record

    def last_words(self) -> tuple[int, str]:
        """Once it has ended: exit status and standard error."""
        status = self._process.wait()
        for reader in self._readers:
            reader.join(_FAREWELL_S)
        return status, "\n".join(self._complaints)

    def close(self) -> None:
        """Ends it: first politely."""
        self._over.set()
        with self._sending:
            self._stdin.close()
        try:
            self._process.wait(_FAREWELL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(_FAREWELL_S)

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._lines.put(line)
        self._lines.put(None)

    def _collect(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._complaints.append(line.decode(errors="replace").rstrip())


@contextmanager
def linked(command: Sequence[str]) -> Iterator[Link]:
    """Runs a program within; it has ended afterwards. Ctrl-C reaches this process only, which then ends it."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    link = Link(process)
    try:
        yield link
    finally:
        link.close()
