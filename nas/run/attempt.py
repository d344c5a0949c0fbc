"""What runs on a Ray worker: one attempt at one candidate.

Responsible for the worker's side of a session. It imports little, because each worker process imports it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray

from nas.errors import one_line
from nas.problem.evaluation import Candidate, Evaluation
from nas.run.pulse import Beat, beats
from nas.run.runner import failure, import_error_in, judge, this_worker


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What an attempt may take, and how often it has to show that it lives.

    Attributes:
        memory_bytes: beyond what the process holds already; None for no limit.
        gpu_share: of the memory of its GPU; 1 for no limit.
        beat_seconds: between looks for signs of life; None for none.
    """

    memory_bytes: int | None = None
    gpu_share: float = 1.0
    beat_seconds: float | None = None


def attempt(work: list[ray.ObjectRef], candidate: Candidate, bounds: Bounds) -> Iterator[str | Beat | Evaluation]:
    """First the name of the worker, as soon as it has begun, then signs of life, then the evaluation.

    Args:
        work: one reference to the work, in a list so that it is resolved here, where a failure can be told.
        candidate: what to judge.
        bounds: within which.
    """
    worker = this_worker()
    yield worker
    try:
        function = ray.get(work[0])
        _limit_gpu_memory(bounds.gpu_share)
    except Exception as error:  # whatever unpickling a user's class raises
        yield failure(candidate, import_error_in(str(error)) or one_line(error), worker=worker)
        return
    with limited_memory(bounds.memory_bytes):
        if bounds.beat_seconds is None:
            evaluation = judge(function, candidate, worker=worker)
        else:
            for item in beats(function, candidate, worker=worker, every=bounds.beat_seconds):
                if isinstance(item, Beat):
                    yield item
                else:
                    evaluation = item
    yield evaluation


def _limit_gpu_memory(share: float) -> None:
    """Keeps those that share a GPU from taking each other's memory; torch is imported only where there is a share."""
    if share < 1:
        from nas.train.gpu_share import limit_gpu_memory

        limit_gpu_memory(share)


@contextlib.contextmanager
def limited_memory(num_bytes: int | None) -> Iterator[None]:
    """Within it, allocations beyond ``num_bytes`` more than now fail (numpy and Python: `MemoryError`).

    The kernel counts private writable memory, mapped and not yet touched included. Linux only; elsewhere no limit.
    """
    if num_bytes is None or sys.platform != "linux":
        yield
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = pages * resource.getpagesize() + num_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
