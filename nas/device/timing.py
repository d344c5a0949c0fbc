"""The timing protocol: how long a file takes on a machine, although other things run on it too.

Responsible for the order in which files and anchor are timed, and for what is timed again. One core is bound; files
take turns, one *block* of runs each, and a block counts when the anchor model was undisturbed right before and right
after it and when nearly all of its runs had the processor throughout. A block's minimum is what the model takes when
nothing disturbs it; the median over blocks removes the blocks that were lucky, or disturbed from beginning to end.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nas.device.anchor import Anchor, anchor_model
from nas.device.blocks import Block, counting, summary, take_block
from nas.device.cores import BoundCore, bound_core
from nas.device.host import HostFacts, host_facts
from nas.device.protocol import FULL, Measurement, TimedDevice, TimingProtocol
from nas.device.session import Stopwatch, ready
from nas.device.state import MachineState, machine_state

Progress = Callable[[int, int], None]
OnMeasured = Callable[[Sequence[Measurement]], None]

# Files that take turns at once where measurements are to be told as they come: what is lost at the most in between.
MAX_GROUP = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """What files are timed with, on whichever machine.

    Attributes:
        device: name of the device.
        load: a file -> it, ready to be timed. Raises `UserError` for one that cannot be.
        anchor: the anchor model, likewise.
        core: that is bound.
        facts: of the machine.
        state: of its processor now.
    """

    device: str
    load: Callable[[Path], Stopwatch]
    anchor: Stopwatch
    core: BoundCore
    facts: Callable[[], HostFacts]
    state: Callable[[], MachineState]


def measure(
    files: Sequence[Path],
    *,
    device: TimedDevice,
    protocol: TimingProtocol = FULL,
    reference_ms: float | None = None,
    progress: Progress | None = None,
    on_measured: OnMeasured | None = None,
    cores: Collection[int] = (),
) -> list[Measurement]:
    """The latency of each file on this machine, used as ``device`` says, in the order of ``files``.

    Args:
        files: ONNX files with fixed input sizes but for the batch; inputs are random and the same each time.
        device: threads and batch to use.
        protocol: how thoroughly.
        reference_ms: the anchor's undisturbed latency from an earlier call on this machine
            (`Measurement.anchor_ms`). With it a machine that is slow throughout is noticed, and waited for.
        progress: called with (files done, files) each time another file's worth of blocks is through.
        on_measured: called with the measurements of each group of files, at most `MAX_GROUP`, as soon as they are
            there. A file comes again, and the later one holds, where its blocks stop counting afterwards.
        cores: logical processors that may be used; empty: all.

    Raises:
        UserError: a file that is missing, broken, or does not take the device's batch; before anything is timed in
            the group that it belongs to.
    """
    if not files:
        return []
    with bound_core(device.threads, cores) as core, _collector_off():
        bench = Bench(
            device=device.name,
            load=partial(ready, device=device),
            anchor=anchor_model(),
            core=core,
            facts=lambda: replace(host_facts(), core=core.current),
            state=lambda: machine_state(core.current),
        )
        return measure_on_bench(
            bench, files, protocol=protocol, reference_ms=reference_ms, progress=progress, on_measured=on_measured
        )


def measure_on_bench(
    bench: Bench,
    files: Sequence[Path],
    *,
    protocol: TimingProtocol,
    reference_ms: float | None = None,
    progress: Progress | None = None,
    on_measured: OnMeasured | None = None,
) -> list[Measurement]:
    """As `measure`, with a bench of any kind; the anchor's undisturbed latency is found out first."""
    max_files = protocol.max_files if on_measured is None else min(protocol.max_files, MAX_GROUP)
    anchor = Anchor(bench.anchor, protocol, bench.core, reference_ms=reference_ms)
    timing = _Timing(bench, files, anchor, protocol, _Told(progress or _no_progress, len(files)))
    done: list[Measurement] = []
    for group in _groups(files, protocol.max_bytes, max_files):
        done += timing.settle(group)
        if on_measured is not None:
            on_measured(done[-len(group) :])
    for _ in range(protocol.max_tries):
        # The anchor may have turned out to be faster than was known when these were through.
        lost = [index for index, taken in enumerate(done) if taken.settled and timing.lacks(index)]
        if not lost:
            break
        for places in _groups([files[index] for index in lost], protocol.max_bytes, max_files):
            again = [lost[place] for place in places]
            for index, taken in enumerate(timing.settle(again)):
                done[again[index]] = taken
            if on_measured is not None:
                on_measured([done[index] for index in again])
    final = [timing.measurement(index, taken.host) for index, taken in enumerate(done)]
    changed = [now for index, now in enumerate(final) if now.settled != done[index].settled]
    if changed and on_measured is not None:
        on_measured(changed)
    timing.told.all_done()
    return final


class _Timing:
    """Blocks of all files of one call. A live handle."""

    def __init__(
        self, bench: Bench, files: Sequence[Path], anchor: Anchor, protocol: TimingProtocol, told: _Told
    ) -> None:
        self._bench, self._files, self._anchor, self._protocol, self.told = bench, files, anchor, protocol, told
        self._blocks: list[list[Block]] = [[] for _ in files]

    def lacks(self, index: int) -> bool:
        """Whether fewer blocks of a file count than are needed, as the anchor's level is known now."""
        return self._num_counting(index) < self._protocol.blocks

    def settle(self, group: Sequence[int]) -> list[Measurement]:
        """Times files until enough of their blocks count, or they have been tried often enough."""
        host, before = self._bench.facts(), self._bench.state()
        for attempt in range(1 + self._protocol.max_tries):
            lacking = [index for index in group if self.lacks(index)]
            counted = sum(map(self._num_counting, lacking))
            self._time(lacking)
            if attempt and sum(map(self._num_counting, lacking)) <= counted:
                break  # another pass would not help either
        host = replace(host, core=self._bench.core.current).during(before, self._bench.state())
        self.told.group_done(group)
        return [self.measurement(index, host) for index in group]

    def measurement(self, index: int, host: HostFacts) -> Measurement:
        """What the blocks of a file say now."""
        blocks, anchor, protocol = self._blocks[index], self._anchor, self._protocol
        return summary(self._files[index], blocks, anchor, protocol=protocol, device=self._bench.device, host=host)

    def _time(self, group: Sequence[int]) -> None:
        """One pass: a block of each file in turns, until each has enough that count or was tried often enough."""
        if not group:
            return
        protocol, anchor = self._protocol, self._anchor
        models = {index: self._bench.load(self._files[index]) for index in group}
        before = anchor.wait_until_quiet()
        for _ in range(protocol.blocks * protocol.max_tries):
            open_files = [index for index in group if self.lacks(index)]
            if not open_files:
                break
            started = time.perf_counter()
            for index in open_files:
                if not anchor.is_quiet(before):
                    before = anchor.wait_until_quiet()
                block, before = take_block(models[index], anchor, protocol, before)
                self._blocks[index].append(block)
            self.told.within(sum(map(self._num_counting, group)) // protocol.blocks)
            if any(map(self.lacks, group)):
                time.sleep(max(0.0, protocol.min_round_s - (time.perf_counter() - started)))

    def _num_counting(self, index: int) -> int:
        return min(self._protocol.blocks, len(counting(self._blocks[index], self._anchor, self._protocol)))


class _Told:
    """Progress that only grows, and ends when all is done: files that are timed again were never told as done."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._done: set[int] = set()
        self._last = 0

    def within(self, files: int) -> None:
        """``files`` worth of blocks count in the group that is timed now; the last of all files is told at the end."""
        self._tell(min(len(self._done) + files, self._total - 1))

    def group_done(self, group: Sequence[int]) -> None:
        self._done |= set(group)
        self.within(0)

    def all_done(self) -> None:
        self._tell(self._total)

    def _tell(self, done: int) -> None:
        if done > self._last:
            self._last = done
            self._progress(done, self._total)


def _groups(files: Sequence[Path], max_bytes: int, max_files: int) -> list[list[int]]:
    """Indices of files that are held in memory together, in order; a large file may be alone."""
    groups: list[list[int]] = []
    size = 0
    for index, path in enumerate(files):
        num_bytes = path.stat().st_size if path.is_file() else 0
        if not groups or len(groups[-1]) == max_files or size + num_bytes > max_bytes:
            groups.append([])
            size = 0
        groups[-1].append(index)
        size += num_bytes
    return groups


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


def _no_progress(done: int, total: int) -> None:
    pass
