"""What runs on a Ray worker: one attempt at one candidate.

Responsible for the worker's side of a session. It imports little, because each worker process imports it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import ray

from nas.errors import one_line
from nas.problem.evaluation import Candidate, Evaluation
from nas.run.runner import failure, import_error_in, judge, this_worker


def attempt(work: list[ray.ObjectRef], candidate: Candidate, memory_bytes: int | None) -> Iterator[str | Evaluation]:
    """First the name of the worker, as soon as it has begun, then the evaluation.

    Args:
        work: one reference to the work, in a list so that it is resolved here, where a failure can be told.
        candidate: what to judge.
        memory_bytes: that the work may take beyond what the process holds already; None for no limit.
    """
    worker = this_worker()
    yield worker
    try:
        function = ray.get(work[0])
    except Exception as error:  # whatever unpickling a user's class raises
        yield failure(candidate, import_error_in(str(error)) or one_line(error), worker=worker)
        return
    with limited_memory(memory_bytes):
        evaluation = judge(function, candidate, worker=worker)
    yield evaluation


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
