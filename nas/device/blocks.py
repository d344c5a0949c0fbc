"""Blocks of timed runs: which of them count, and what they say together.

Responsible for the estimate, and for the reason where there is none to be trusted. Nothing is averaged away: a block
that something disturbed does not count, one that differs from the others does not count, and where too few are left the
measurement is marked as not settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.device.anchor import Anchor
from nas.device.host import HostFacts
from nas.device.protocol import Measurement, TimingProtocol
from nas.device.session import Stopwatch


@dataclass(frozen=True, kw_only=True)
class Block:
    """Runs of one file.

    Attributes:
        times_ms: ``(runs,)``.
        least_ms: of the runs that nothing interrupted; of all, where there is none.
        interrupted: share of runs that something interrupted.
        anchor_ms: the anchor's latency beside it, the larger of before and after.
    """

    times_ms: np.ndarray
    least_ms: float
    interrupted: float
    anchor_ms: float


def take_block(model: Stopwatch, anchor: Anchor, protocol: TimingProtocol, before_ms: float) -> tuple[Block, float]:
    """A block of runs, and the anchor's latency after it.

    Args:
        before_ms: the anchor's latency before it.
    """
    times_ms, wall_to_cpu = model.block(protocol.warmups, protocol.runs)
    after_ms = anchor.time()
    whole = wall_to_cpu <= protocol.max_wall_to_cpu
    block = Block(
        times_ms=times_ms,
        least_ms=float(times_ms[whole].min() if whole.any() else times_ms.min()),
        interrupted=1 - float(whole.mean()),
        anchor_ms=max(before_ms, after_ms),
    )
    return block, after_ms


def undisturbed(blocks: Sequence[Block], anchor: Anchor, protocol: TimingProtocol) -> list[Block]:
    """Those beside which the anchor was undisturbed, as its level is known now, and that kept the processor."""
    return [
        block for block in blocks if block.interrupted <= protocol.max_interrupted and anchor.is_quiet(block.anchor_ms)
    ]


def agreeing(blocks: Sequence[Block], protocol: TimingProtocol) -> list[Block]:
    """Those near the median of all."""
    if not blocks:
        return []
    middle_ms = float(np.median([block.least_ms for block in blocks]))
    return [block for block in blocks if abs(block.least_ms - middle_ms) <= protocol.max_outlier * middle_ms]


def counting(blocks: Sequence[Block], anchor: Anchor, protocol: TimingProtocol) -> list[Block]:
    """The undisturbed ones that agree; none, where more than a few do not: of two levels neither is the latency."""
    quiet = undisturbed(blocks, anchor, protocol)
    agree = agreeing(quiet, protocol)
    return agree if len(quiet) - len(agree) <= protocol.max_outliers * len(quiet) else []


def summary(
    path: Path,
    blocks: Sequence[Block],
    anchor: Anchor,
    *,
    protocol: TimingProtocol,
    device: str,
    host: HostFacts,
) -> Measurement:
    """What the blocks of a file say. Where none counts, the estimate is of all of them, and not settled."""
    kept = counting(blocks, anchor, protocol)
    note = _objection(blocks, kept, anchor, protocol, host)
    minima = np.array([block.least_ms for block in kept or blocks])
    times_ms = np.concatenate([block.times_ms for block in blocks])
    return Measurement(
        file=path,
        latency_ms=float(np.median(minima)),
        p50_ms=float(np.percentile(times_ms, 50)),
        p90_ms=float(np.percentile(times_ms, 90)),
        spread=float(1.4826 * np.median(np.abs(minima - np.median(minima))) / np.median(minima)),
        blocks=len(kept),
        blocks_timed=len(blocks),
        runs=sum(len(block.times_ms) for block in kept),
        anchor_ms=anchor.seen_level_ms,
        settled=not note,
        note=note,
        device=device,
        host=host,
    )


def _objection(
    blocks: Sequence[Block], kept: Sequence[Block], anchor: Anchor, protocol: TimingProtocol, host: HostFacts
) -> str:
    """Why the estimate is not to be trusted; "" where it is."""
    quiet = undisturbed(blocks, anchor, protocol)
    if len(quiet) < protocol.blocks:
        return f"only {len(quiet)} of {len(blocks)} blocks were undisturbed, {protocol.blocks} are needed"
    if len(kept) < protocol.blocks:
        number = len(agreeing(quiet, protocol))
        return f"only {number} of {len(quiet)} undisturbed blocks agree within {protocol.max_outlier:.0%}"
    if anchor.seen_level_ms > anchor.level_ms * (1 + protocol.max_drift):
        return f"this machine is {anchor.seen_level_ms / anchor.level_ms:.2f} times slower than it was"
    if host.throttled_throughout and not anchor.has_reference:
        # The anchor cannot tell: it has never seen the machine at its own speed.
        return f"the processor was throttled throughout: {host.throttled}"
    return ""
