"""How many candidates run at a time: usable cores, and what fits on the nodes of a cluster."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

_CPU = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Physical cores that this process may keep busy: hyperthreads count once, and a container's quota holds."""
    processors = os.sched_getaffinity(0) if sys.platform == "linux" else set(range(os.cpu_count() or 1))
    cores = {_core(processor) for processor in processors}
    return max(1, math.floor(min(len(cores), _quota())))


def num_fitting(nodes: Iterable[Mapping[str, float]], need: Mapping[str, float]) -> int:
    """How often ``need`` fits at once; a candidate must fit on a node as a whole.

    Args:
        nodes: resource -> amount, for each node.
        need: resource -> amount a candidate takes; zeros are ignored.
    """
    wanted = {resource: amount for resource, amount in need.items() if amount > 0}
    assert wanted, "a candidate takes at least a share of a processor"
    return sum(
        # The tiny surplus keeps 1 / 0.1 from being rounded down to 9.
        min(math.floor(node.get(resource, 0.0) / amount + 1e-6) for resource, amount in wanted.items())
        for node in nodes
    )


def _core(processor: int) -> tuple[str, ...]:
    """What tells physical cores apart; the processor's own number where the kernel does not say."""
    topology = _CPU / f"cpu{processor}" / "topology"
    try:
        return tuple((topology / name).read_text().strip() for name in ("physical_package_id", "core_id"))
    except OSError:
        return (str(processor),)


def _quota() -> float:
    """Processors' worth of time that the control group grants; infinite where it does not say."""
    try:
        quota, period = _QUOTA.read_text().split()
        return float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
