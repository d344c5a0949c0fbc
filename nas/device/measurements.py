"""Measured architectures on disk: what a latency model is fitted to, and what nobody wants to measure twice.

Responsible for `<device folder>/measurements/<subject>.jsonl`: a line about what was measured, then a line an
architecture, each flushed to the disk before the next is timed. An interrupted calibration goes on where it was, and a
later one with more samples adds to it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nas.device.protocol import Measurement
from nas.errors import UserError

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Measured:
    """An architecture that was timed.

    Attributes:
        row: canonical row of the space.
        random: drawn at random, so that it may judge a model; else chosen for the fit.
        latency_ms: measured, above 0.
        spread: robust coefficient of variation of its blocks.
        anchor_ms: the anchor's undisturbed latency at the time; NaN if there is none.
        protocol: how, in words.
        host: facts of the machine then, as plain JSON.
        fingerprint: those that must agree for measurements to be used together.
        time: ISO 8601 in UTC; "" if not known.
        note: why the timing did not settle and is not to be used; "" where it did.
    """

    row: tuple[int, ...]
    random: bool
    latency_ms: float
    spread: float
    anchor_ms: float
    protocol: str
    host: Mapping[str, object] = field(default_factory=dict)
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    time: str = ""
    note: str = ""

    @classmethod
    def of(cls, measurement: Measurement, *, row: Sequence[int], random: bool, protocol: str, threads: int) -> Measured:
        """What is kept of a measurement."""
        return cls(
            row=tuple(int(option) for option in row),
            random=random,
            latency_ms=measurement.latency_ms,
            spread=measurement.spread,
            anchor_ms=measurement.anchor_ms,
            protocol=protocol,
            host=measurement.host.to_record(),
            fingerprint=measurement.host.fingerprint(threads),
            time=measurement.host.time,
            note="" if measurement.settled else measurement.note or "did not settle",
        )


class MeasurementFile:
    """The measurements of one subject: a device with its threads and batch, a space on an input, a precision.

    Args:
        path: of the file, which may not be there yet.
        subject: what is measured, as plain JSON. A file about another subject (an edited space, say) is put aside as
            ``<name>.old`` when something is to be added.
    """

    def __init__(self, path: Path, subject: Mapping[str, object]) -> None:
        self.path = path
        self._head = {"format": FORMAT, **subject}

    def read(self) -> list[Measured]:
        """All measurements; [] where there is no file, or one about another subject. A torn last line is left out.

        Raises:
            UserError: a line in the middle that is none.
        """
        lines = self._lines()
        if not lines or _parsed(lines[0]) != self._head:
            return []
        found = []
        for number, line in enumerate(lines[1:], start=2):
            record = _parsed(line)
            try:
                found.append(_measured(record))
            except (KeyError, TypeError, ValueError):
                if number == len(lines):
                    break  # torn when its writer died
                problem = "must be a measurement, it cannot be read"
                raise UserError(
                    f"{self.path}, line {number}", problem, "remove the line, or calibrate with refresh=true"
                ) from None
        return found

    def append(self, measured: Sequence[Measured]) -> None:
        """Adds lines; they are on the disk when it returns. Raises `UserError` where it cannot write."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = self._lines()
            if lines and _parsed(lines[0]) != self._head:
                self.forget()
                lines = []
            text = "".join(json.dumps(_record(one)) + "\n" for one in measured)
            if not lines:
                text = json.dumps(self._head) + "\n" + text
            elif not lines[-1].endswith("\n"):
                self._cut(lines[-1])
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(str(self.path), f"cannot be written, {error.strerror or error}") from error

    def forget(self) -> None:
        """Puts the file aside as ``<name>.old``, if there is one."""
        if self.path.is_file():
            self.path.replace(self.path.with_name(self.path.name + ".old"))

    def _lines(self) -> list[str]:
        if not self.path.is_file():
            return []
        return self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)

    def _cut(self, torn: str) -> None:
        """Removes a last line that its writer did not finish."""
        size = self.path.stat().st_size - len(torn.encode("utf-8"))
        os.truncate(self.path, size)


def _record(measured: Measured) -> dict[str, object]:
    record = asdict(measured)
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in record.items()}


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _measured(record: Mapping[str, Any]) -> Measured:
    latency_ms = float(record["latency_ms"])
    if not (math.isfinite(latency_ms) and latency_ms > 0):
        raise ValueError("not a latency")
    anchor_ms = record["anchor_ms"]
    return Measured(
        row=tuple(int(option) for option in record["row"]),
        random=bool(record["random"]),
        latency_ms=latency_ms,
        spread=float(record["spread"]),
        anchor_ms=math.nan if anchor_ms is None else float(anchor_ms),
        protocol=str(record["protocol"]),
        host=dict(record["host"]),
        fingerprint={str(key): str(value) for key, value in record["fingerprint"].items()},
        time=str(record["time"]),
        note=str(record["note"]),
    )
