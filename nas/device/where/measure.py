"""Timing a device's files wherever they are timed: one function for every place.

Responsible for the choice among places only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.device.card import Device
from nas.device.protocol import FULL, Measurement, TimingProtocol
from nas.device.timing import OnMeasured, Progress, measure
from nas.device.where.adb import measure_over_adb
from nas.device.where.job import asker
from nas.device.where.lock import machine_lock
from nas.device.where.offline import measure_offline
from nas.device.where.places import Adb, Local, Offline, Ssh
from nas.device.where.ssh import measure_over_ssh
from nas.errors import UserError


def measure_on(
    device: Device,
    files: Sequence[Path],
    *,
    protocol: TimingProtocol = FULL,
    reference_ms: float | None = None,
    progress: Progress | None = None,
    on_measured: OnMeasured | None = None,
) -> list[Measurement]:
    """The latency of each file, in the order of ``files``, measured where the device's card says.

    Args:
        device: threads, batch and place.
        files: ONNX files with fixed input sizes but for the batch.
        protocol: how thoroughly.
        reference_ms: the anchor's undisturbed latency from an earlier call on the same machine.
        progress: called with (files done, files); it never goes back, and reaches the end once.
        on_measured: called with measurements as soon as they are there, also before an error. A file may come again:
            the later measurement holds.

    Raises:
        UserError: a file or a machine that cannot be used, or a device that is measured nowhere.
        WaitingForResults: an offline folder has to be carried somewhere first.
        ConnectionLostError: the machine went away meanwhile.
        BoardBusyError: somebody else measures on it.
    """
    place = device.where
    if isinstance(place, Local):
        # Told to those who come from elsewhere; here the anchor is enough to wait for a neighbour.
        with machine_lock(asker(), needed=False):
            return measure(
                files,
                device=device,
                protocol=protocol,
                reference_ms=reference_ms,
                progress=progress,
                on_measured=on_measured,
                cores=place.cores,
            )
    if isinstance(place, Ssh):
        return measure_over_ssh(
            place,
            files,
            device=device,
            protocol=protocol,
            reference_ms=reference_ms,
            progress=progress,
            on_measured=on_measured,
        )
    if isinstance(place, Adb):
        return measure_over_adb(
            place,
            files,
            device=device,
            protocol=protocol,
            reference_ms=reference_ms,
            progress=progress,
            on_measured=on_measured,
        )
    if isinstance(place, Offline):
        return measure_offline(
            place, files, device=device, protocol=protocol, reference_ms=reference_ms, on_measured=on_measured
        )
    advice = "give `where:` in its device.yaml, or measure on another device"
    raise UserError(device.name, "must be measured somewhere, its card says `where: none`", advice)
