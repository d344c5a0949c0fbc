"""How a latency is taken, and the record of one that was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from nas.device.host import HostFacts


class TimedDevice(Protocol):
    """What timing needs to know of a device; a `nas.device.card.Device` is one."""

    @property
    def name(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def batch(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class TimingProtocol:
    """How a latency is taken; see `nas.device.timing` for the reasons.

    Attributes:
        blocks: blocks of runs that must count for each file.
        warmups: untimed runs before each block.
        runs: timed runs in a block.
        max_wall_to_cpu: a run whose wall time is more than this multiple of its processor time was interrupted.
        max_interrupted: share of interrupted runs up to which a block counts; otherwise it is timed again.
        max_drift: share by which the anchor may exceed its undisturbed latency beside a block that counts.
        max_outlier: share by which a block may differ from the median of a file's blocks and count.
        max_outliers: share of a file's undisturbed blocks that may differ by more, and are repeated.
        max_tries: blocks timed at the most for a file in one pass, as a multiple of ``blocks``; and repeated passes,
            for files whose blocks stop counting when the anchor turns out to be faster than was known.
        max_wait_s: seconds spent at the most, in all, on waiting for the machine to be undisturbed.
        min_round_s: seconds from one block of a file to its next at the least, so that its blocks do not all fall into
            one short state of the machine.
        max_files, max_bytes: how many files are held in memory, and take turns, at once.
    """

    blocks: int = 20
    warmups: int = 3
    runs: int = 10
    max_wall_to_cpu: float = 1.1
    max_interrupted: float = 0.2
    max_drift: float = 0.05
    max_outlier: float = 0.15
    max_outliers: float = 0.25
    max_tries: int = 3
    max_wait_s: float = 60.0
    min_round_s: float = 0.15
    max_files: int = 128
    max_bytes: int = 256 * 2**20

    def __post_init__(self) -> None:
        assert min(self.blocks, self.runs, self.max_files, self.max_tries) >= 1
        assert self.warmups >= 0
        assert self.max_wall_to_cpu > 1
        assert 0 <= self.max_interrupted < 1
        assert 0 <= self.max_outliers < 0.5
        assert min(self.max_drift, self.max_outlier) > 0
        assert min(self.max_wait_s, self.min_round_s) >= 0

    def describe(self) -> str:
        """One line for cards and reports."""
        return (
            f"one core bound, {self.blocks} blocks of {self.warmups} warm-ups and {self.runs} runs, each between two "
            f"blocks of an anchor model that must be within {self.max_drift:.0%} of its undisturbed latency, and "
            f"within {self.max_outlier:.0%} of their median; median of block minima"
        )

    def to_record(self) -> dict[str, object]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TimingProtocol:
        """What `to_record` gave. Raises `TypeError` for a field that is not known."""
        return cls(**record)


FULL = TimingProtocol()
# For fitting a predictor: many files, each a little less exactly.
CALIBRATION = TimingProtocol(blocks=8)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Timed runs of one file.

    Attributes:
        file: what was timed.
        latency_ms: the estimate, median of block minima: what the file takes when nothing disturbs it.
        p50_ms, p90_ms: percentiles over all timed runs, disturbed ones included.
        spread: robust coefficient of variation of the minima of the blocks that count: 1.4826 times their median
            absolute deviation over their median, as for the standard deviation of normal errors.
        blocks: blocks that count.
        blocks_timed: blocks that were timed.
        runs: timed runs in the blocks that count.
        anchor_ms: the anchor's undisturbed latency at the time, the same for all files of one call.
        settled: False where the estimate must not be used as a latency; ``note`` says why.
        note: empty when settled.
        device: name of the device.
        host: the machine, when the timing began, and what changed until it ended.
    """

    file: Path
    latency_ms: float
    p50_ms: float
    p90_ms: float
    spread: float
    blocks: int
    blocks_timed: int
    runs: int
    anchor_ms: float
    settled: bool
    note: str
    device: str
    host: HostFacts

    def to_record(self) -> dict[str, object]:
        """As plain JSON; the file by its name only."""
        return {
            "file": self.file.name,
            "latency_ms": self.latency_ms,
            "p50_ms": self.p50_ms,
            "p90_ms": self.p90_ms,
            "spread": self.spread,
            "blocks": self.blocks,
            "blocks_timed": self.blocks_timed,
            "runs": self.runs,
            "anchor_ms": self.anchor_ms,
            "settled": self.settled,
            "note": self.note,
            "device": self.device,
            "host": self.host.to_record(),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], *, file: Path) -> Measurement:
        """What `to_record` gave, about ``file``.

        Raises:
            KeyError, TypeError, ValueError: it is not such a record, or its latency is not positive.
        """
        names = {entry.name for entry in fields(cls)} - {"file", "host"}
        taken = cls(file=file, host=HostFacts.from_record(record["host"]), **{name: record[name] for name in names})
        if not taken.latency_ms > 0 or not taken.anchor_ms > 0:
            raise ValueError(f"a latency must be above 0, got {taken.latency_ms} ms, anchor {taken.anchor_ms} ms")
        return taken


def separate(measurements: Iterable[Measurement]) -> tuple[list[Measurement], list[Measurement]]:
    """Those that settled, which are latencies, and those that did not, which are refused; each in order."""
    settled: list[Measurement] = []
    refused: list[Measurement] = []
    for measurement in measurements:
        (settled if measurement.settled else refused).append(measurement)
    return settled, refused
