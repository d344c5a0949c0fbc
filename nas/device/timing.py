"""The timing protocol: how long a file takes on this machine, although other things run on it too.

Responsible for the estimate and for saying when it cannot be trusted. One core is bound; files take turns, one *block*
of runs each, and a block counts when the anchor model was undisturbed right before and right after it and when nearly
all of its runs had the processor throughout. A block's minimum is what the model takes when nothing disturbs it; the
median over blocks removes the blocks that were lucky, or disturbed from beginning to end.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nas.device.anchor import Anchor
from nas.device.card import Device
from nas.device.cores import bound_core
from nas.device.host import HostFacts, host_facts
from nas.device.protocol import FULL, Measurement, TimingProtocol
from nas.device.session import ReadyModel, ready

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class _Block:
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


def measure(
    files: Sequence[Path],
    *,
    device: Device,
    protocol: TimingProtocol = FULL,
    reference_ms: float | None = None,
    progress: Progress | None = None,
) -> list[Measurement]:
    """The latency of each file on ``device``, in the order of ``files``.

    Args:
        files: ONNX files with fixed input sizes but for the batch; inputs are random and the same each time.
        device: threads and batch to use.
        protocol: how thoroughly.
        reference_ms: the anchor's undisturbed latency from an earlier call on this machine
            (`Measurement.anchor_ms`). With it a machine that is slow throughout is noticed, and waited for.
        progress: called with (files done, files) each time another file's worth of blocks is through.

    Raises:
        UserError: a file that is missing, broken, or does not take the device's batch; before anything is timed in
            the group that it belongs to.
    """
    report = progress or _no_progress
    host = host_facts()
    blocks: list[list[_Block]] = []
    if not files:
        return []
    with bound_core(device.threads) as core, _collector_off():
        anchor = Anchor(device, protocol, core, reference_ms=reference_ms)
        for group in _groups(files, protocol):
            models = [ready(files[index], device) for index in group]
            blocks += _time_group(models, anchor, protocol, _shifted(report, group[0], len(files)))
        for _ in range(protocol.max_tries):
            if not _time_again_what_lacks_blocks(files, blocks, anchor, device, protocol):
                break
        host = replace(host, core=core.current)
    return [
        _measurement(path, taken, anchor, protocol=protocol, device=device, host=host)
        for path, taken in zip(files, blocks, strict=True)
    ]


def _groups(files: Sequence[Path], protocol: TimingProtocol) -> list[list[int]]:
    """Indices of files that are held in memory together, in order; a large file may be alone."""
    groups: list[list[int]] = []
    size = 0
    for index, path in enumerate(files):
        num_bytes = path.stat().st_size if path.is_file() else 0
        if not groups or len(groups[-1]) == protocol.max_files or size + num_bytes > protocol.max_bytes:
            groups.append([])
            size = 0
        groups[-1].append(index)
        size += num_bytes
    return groups


def _time_group(
    models: list[ReadyModel], anchor: Anchor, protocol: TimingProtocol, progress: Progress
) -> list[list[_Block]]:
    """Blocks of each model, taken in turns until each has enough that count or has been tried often enough."""
    blocks: list[list[_Block]] = [[] for _ in models]
    counting = [0] * len(models)
    before = anchor.wait_until_quiet()
    for _ in range(protocol.blocks * protocol.max_tries):
        open_models = [index for index, count in enumerate(counting) if count < protocol.blocks]
        if not open_models:
            break
        started = time.perf_counter()
        for index in open_models:
            if not anchor.is_quiet(before):
                before = anchor.wait_until_quiet()
            block, before = _block(models[index], anchor, protocol, before)
            blocks[index].append(block)
            counting[index] += _counts(block, anchor, protocol)
        progress(sum(counting) // protocol.blocks, len(models))
        if sum(counting) < protocol.blocks * len(models):
            time.sleep(max(0.0, protocol.min_round_s - (time.perf_counter() - started)))
    progress(len(models), len(models))
    return blocks


def _block(model: ReadyModel, anchor: Anchor, protocol: TimingProtocol, before_ms: float) -> tuple[_Block, float]:
    """A block of runs and the anchor's latency after it."""
    model.warm_up(protocol.warmups)
    times_ms, wall_to_cpu = model.timed_runs(protocol.runs)
    after_ms = anchor.time()
    whole = wall_to_cpu <= protocol.max_wall_to_cpu
    block = _Block(
        times_ms=times_ms,
        least_ms=float(times_ms[whole].min() if whole.any() else times_ms.min()),
        interrupted=1 - float(whole.mean()),
        anchor_ms=max(before_ms, after_ms),
    )
    return block, after_ms


def _counts(block: _Block, anchor: Anchor, protocol: TimingProtocol) -> bool:
    return block.interrupted <= protocol.max_interrupted and anchor.is_quiet(block.anchor_ms)


def _time_again_what_lacks_blocks(
    files: Sequence[Path], blocks: list[list[_Block]], anchor: Anchor, device: Device, protocol: TimingProtocol
) -> bool:
    """Goes over files again whose blocks no longer count, now that the anchor's level is better known.

    Returns:
        Whether there were any: going over them may have lowered the level once more.
    """
    lacking = [
        index
        for index, taken in enumerate(blocks)
        if sum(_counts(block, anchor, protocol) for block in taken) < protocol.blocks
    ]
    for group in _groups([files[index] for index in lacking], protocol):
        models = [ready(files[lacking[place]], device) for place in group]
        for place, again in zip(group, _time_group(models, anchor, protocol, _no_progress), strict=True):
            blocks[lacking[place]] += again
    return bool(lacking)


def _measurement(
    path: Path,
    blocks: list[_Block],
    anchor: Anchor,
    *,
    protocol: TimingProtocol,
    device: Device,
    host: HostFacts,
) -> Measurement:
    kept = [block for block in blocks if _counts(block, anchor, protocol)]
    note = ""
    if len(kept) < protocol.blocks:
        note = f"only {len(kept)} of {len(blocks)} blocks were undisturbed, {protocol.blocks} are needed"
    elif anchor.seen_level_ms > anchor.level_ms * (1 + protocol.max_drift):
        note = f"this machine is {anchor.seen_level_ms / anchor.level_ms:.2f} times slower than it was"
    # Without a block that counts the estimate is still given, from all there are, and is marked by the note.
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
        device=device.name,
        host=host,
    )


@contextmanager
def _collector_off() -> Iterator[None]:
    """No garbage collection of Python's within, as it would fall into somebody's timing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _shifted(progress: Progress, done: int, total: int) -> Progress:
    """Progress over ``total`` files from the progress within a group, told only where it grows."""
    told = done

    def tell(within: int, _: int) -> None:
        nonlocal told
        if done + within > told:
            told = done + within
            progress(told, total)

    return tell


def _no_progress(done: int, total: int) -> None:
    pass
