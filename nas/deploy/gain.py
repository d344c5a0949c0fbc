"""What compression bought: milliseconds on the device, beside what it saved on paper.

Responsible for holding two files against each other on one device. Half the multiply-accumulates rarely are half the
time, and zeros are none at all where the runtime multiplies by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.device.card import Device
from nas.device.protocol import FULL, Measurement, TimingProtocol
from nas.device.where.measure import measure_on


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Two files of one network on one device.

    Attributes:
        before, after: how long they take.
        macs_before, macs_after: multiply-accumulates for one sample.
        bytes_before, bytes_after: sizes of the files.
    """

    before: Measurement
    after: Measurement
    macs_before: int
    macs_after: int
    bytes_before: int
    bytes_after: int

    @property
    def settled(self) -> bool:
        """Whether both latencies are any; the shares of time are to be used only then."""
        return self.before.settled and self.after.settled

    @property
    def time_share(self) -> float:
        """Latency after over latency before; below 1 is faster."""
        return self.after.latency_ms / self.before.latency_ms

    @property
    def macs_share(self) -> float:
        """Multiply-accumulates after over before."""
        return self.macs_after / self.macs_before

    @property
    def bytes_share(self) -> float:
        """File size after over before."""
        return self.bytes_after / self.bytes_before

    @property
    def _note(self) -> str:
        return next((each.note for each in (self.before, self.after) if not each.settled), "")

    def describe(self) -> str:
        """One line for people: ``51 % of the MACs, 90 % of the time (0.152 -> 0.137 ms), 54 % of the file``."""
        time = (
            f"{self.time_share:.0%} of the time ({self.before.latency_ms:.3g} -> {self.after.latency_ms:.3g} ms)"
            if self.settled
            else f"time not known ({self._note})"
        )
        return f"{self.macs_share:.0%} of the MACs, {time}, {self.bytes_share:.0%} of the file".replace("%", " %")


def measure_gain(
    before: Path, after: Path, *, macs: tuple[int, int], device: Device, protocol: TimingProtocol = FULL
) -> Gain:
    """Times both files, interleaved, where the device's card says.

    Args:
        before: ONNX file of the network as it was.
        after: of the compressed one.
        macs: of both, for one sample.
        device: threads, batch and place.
        protocol: how thoroughly.

    Raises:
        UserError: a file or a device that cannot be used; see `nas.device.where.measure.measure_on`.
    """
    first, second = measure_on(device, [before, after], protocol=protocol)
    return Gain(
        before=first,
        after=second,
        macs_before=macs[0],
        macs_after=macs[1],
        bytes_before=before.stat().st_size,
        bytes_after=after.stat().st_size,
    )
