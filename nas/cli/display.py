"""How events reach a terminal, a log or a script: one class a way.

Texts may hold names from files of others: whatever would drive a terminal is spelt out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from nas.commands.display import Display, Silent
from nas.errors import printable, unknown_name

_WIDTH = 9


class PlainDisplay:
    """One line an event, no control characters: for pipes and logs. Bulk progress is logged at each tenth."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, int]] = {}  # topic -> total and the last tenth

    def say(self, topic: str, text: str) -> None:
        print(f"{topic:<{_WIDTH}}{printable(text)}", flush=True)

    def progress(self, topic: str, done: int, total: int, *, text: str = "", each: bool = False) -> None:
        tenth = 10 * done // max(total, 1)
        last_total, last = self._told.get(topic, (total, 0))
        if last_total != total or tenth < last:  # the topic begins anew
            last = 0
        if each or tenth > last:
            self.say(topic, f"{done}/{total}  {text}".rstrip())
        self._told[topic] = total, tenth

    def note(self, text: str) -> None:
        self.say("note", text)

    def result(self, table: str, figures: Mapping[str, object]) -> None:
        print(printable(table), flush=True)


class RichDisplay:
    """A live bar in a terminal; facts stay above it."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._topic = ""
        self._started = 0.0

    def say(self, topic: str, text: str) -> None:
        self._stop()
        self._console.print(f"{topic:<{_WIDTH}}{printable(text)}", markup=False)

    def progress(self, topic: str, done: int, total: int, *, text: str = "", each: bool = False) -> None:
        if self._progress is None or self._topic != topic:
            self._stop()
            self._progress = Progress(
                TextColumn(f"{topic:<{_WIDTH - 1}}", markup=False),
                BarColumn(bar_width=28),
                TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[text]}", markup=False),
                console=self._console,
                refresh_per_second=8,
            )
            self._task = self._progress.add_task(topic, total=total, text=printable(text))
            self._topic, self._started = topic, time.monotonic()
            self._progress.start()
        self._progress.update(self._task, completed=done, total=total, text=printable(text))
        if done >= total:
            self._stop()

    def note(self, text: str) -> None:
        self.say("note", text)

    def result(self, table: str, figures: Mapping[str, object]) -> None:
        self._stop()
        self._console.print(printable(table), markup=False)

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class JsonDisplay:
    """One JSON object a line on standard output, for scripts."""

    def say(self, topic: str, text: str) -> None:
        self._write({"event": "fact", "topic": topic, "text": text})

    def progress(self, topic: str, done: int, total: int, *, text: str = "", each: bool = False) -> None:
        self._write({"event": "progress", "topic": topic, "done": done, "total": total, "text": text})

    def note(self, text: str) -> None:
        self._write({"event": "note", "text": text})

    def result(self, table: str, figures: Mapping[str, object]) -> None:
        self._write({"event": "result", **figures})

    def _write(self, record: Mapping[str, object]) -> None:
        print(json.dumps(record), flush=True)


class QuietDisplay(Silent):
    """Only notes, on standard error."""

    def note(self, text: str) -> None:
        print(f"note: {printable(text)}", file=sys.stderr, flush=True)


_DISPLAYS: dict[str, Callable[[], Display]] = {
    "plain": PlainDisplay,
    "rich": RichDisplay,
    "json": JsonDisplay,
    "quiet": QuietDisplay,
}


def display_named(name: str) -> Display:
    """The display called ``name``; ``auto`` is a live one in a terminal and plain lines elsewhere."""
    if name == "auto":
        name = "rich" if sys.stdout.isatty() else "plain"
    if name not in _DISPLAYS:
        raise unknown_name("display", "display", name, ["auto", *_DISPLAYS])
    return _DISPLAYS[name]()
