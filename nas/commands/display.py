"""What a command tells while it runs, apart from how it is shown.

Responsible for the border between commands and whoever shows them: a terminal, a log, a notebook, nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Display(Protocol):
    """Shows the events of a command. Must not raise."""

    def say(self, topic: str, text: str) -> None:
        """A finished fact, e.g. ``say("space", "mobilenet-tiny  1.2e9 architectures")``."""

    def progress(self, topic: str, done: int, total: int, *, text: str = "", each: bool = False) -> None:
        """``done`` of ``total`` of ``topic``; ``each`` marks steps that deserve a log line of their own."""

    def note(self, text: str) -> None:
        """Something the user should know about and may have to act on."""

    def result(self, table: str, figures: Mapping[str, object]) -> None:
        """The outcome, as text for a person and as plain data for a script."""


class Silent:
    """Shows nothing; what Python callers get unless they pass a display."""

    def say(self, topic: str, text: str) -> None:
        pass

    def progress(self, topic: str, done: int, total: int, *, text: str = "", each: bool = False) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def result(self, table: str, figures: Mapping[str, object]) -> None:
        pass


class Remembering:
    """Passes events on to another display, and keeps the notes for the run folder.

    Args:
        shown_by: the display that shows them.
    """

    def __init__(self, shown_by: Display) -> None:
        self._shown_by = shown_by
        self.notes: list[str] = []

    def say(self, topic: str, text: str) -> None:
        self._shown_by.say(topic, text)

    def progress(self, topic: str, done: int, total: int, *, text: str = "", each: bool = False) -> None:
        self._shown_by.progress(topic, done, total, text=text, each=each)

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._shown_by.note(text)

    def result(self, table: str, figures: Mapping[str, object]) -> None:
        self._shown_by.result(table, figures)
