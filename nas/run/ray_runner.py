"""How a search is run on Ray, as a record. Ray itself is imported when it is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import UserError
from nas.run.capacity import usable_cores
from nas.run.shipping import check_packages, check_variables
from nas.units import parse_quantity

if TYPE_CHECKING:  # Ray takes half a second to import
    from nas.run.ray_workers import RayWorkers


@dataclass(frozen=True, kw_only=True)
class RayRunner:
    """Candidates as tasks of a Ray that is started for the search, or of a cluster that runs already.

    Attributes:
        workers: candidates at a time; None: one a physical core here, or as many as fit on the cluster.
        cpus: processors a candidate takes; torch gets as many threads, at least one.
        gpus: GPUs a candidate takes; 0.5 lets two candidates share one.
        memory: a candidate may take beyond what its worker holds already, e.g. ``4 GB``. It is set aside for it, and
            allocations beyond it fail (Linux). None: no limit but Ray's, which ends a worker when its node is full.
        time_limit: a candidate may take, e.g. ``10 min``; None for no limit. Time in a queue does not count.
        heartbeat: without a sign of life after which a candidate is taken for hung and its worker is killed, e.g. ``5
            min``; None for never. Processor time of the work, or of processes that it started, is a sign of life.
        retries: how often a candidate is run again after it lost its worker or node, or hung.
        address: None starts Ray here and ends it with the search; ``auto`` joins the cluster that this machine belongs
            to, ``host:port`` the one with that head.
        object_store: memory for what workers share, above all the data set, e.g. ``8 GB``; where Ray is started here.
            None: a fifth of the free memory, at most 4 GB.
        wait_for_nodes: how long to wait for a node of the cluster on which a candidate fits, e.g. ``10 min`` where
            nodes are started on demand; None: not at all. With ``workers``, an autoscaling cluster is asked for room
            for them.
        ship: send this installation of ``nas`` to the workers of a cluster, so that driver and workers run the same.
        pip: packages that Ray installs for the workers of a cluster, e.g. ``[timm==1.0.9]``.
        working_dir: a folder that is sent to the workers of a cluster and that they run in.
        env: environment variables of the workers of a cluster.

    Raises:
        UserError: a field that does not fit.
    """

    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    memory: str | None = None
    time_limit: str | None = "30 min"
    heartbeat: str | None = "5 min"
    retries: int = 2
    address: str | None = None
    object_store: str | None = None
    wait_for_nodes: str | None = None
    ship: bool = True
    pip: Sequence[str] = ()
    working_dir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.workers is not None:
            _check_workers("runner.workers", self.workers)
        if not 0 < self.cpus <= 4096:
            raise UserError("runner.cpus", f"must be above 0, got {self.cpus}")
        if self.cpus > 1 and self.cpus != int(self.cpus):
            raise UserError("runner.cpus", f"must be whole above 1, got {self.cpus}")
        if not 0 <= self.gpus <= 4096 or (self.gpus > 1 and self.gpus != int(self.gpus)):
            raise UserError("runner.gpus", f"must be a fraction up to 1, or whole, got {self.gpus}")
        if self.retries < 0:
            raise UserError("runner.retries", f"must be at least 0, got {self.retries}")
        if self.address is not None:
            _check_address(self.address)
        _ = self.memory_bytes, self.time_limit_ms, self.object_store_bytes  # refuses what is no quantity
        _ = self.heartbeat_seconds, self.wait_seconds
        check_packages(self.pip)
        check_variables(self.env)
        if self.working_dir is not None and not Path(self.working_dir).expanduser().is_dir():
            raise UserError("runner.working_dir", f"must be a folder, got {self.working_dir!r}")
        for name in ("pip", "working_dir", "env", "wait_for_nodes"):
            if self.address is None and getattr(self, name):
                rule = "is of use on a cluster only, but runner.address is null"
                raise UserError(f"runner.{name}", rule, "workers that are started here import what this process does")

    @property
    def memory_bytes(self) -> int | None:
        """``memory`` in bytes."""
        return _bytes(self.memory, "runner.memory", least=50e6)

    @property
    def object_store_bytes(self) -> int | None:
        """``object_store`` in bytes."""
        return _bytes(self.object_store, "runner.object_store", least=100e6)

    @property
    def time_limit_ms(self) -> float | None:
        """``time_limit`` in milliseconds."""
        return None if self.time_limit is None else parse_quantity(self.time_limit, "time", where="runner.time_limit")

    @property
    def heartbeat_seconds(self) -> float | None:
        """``heartbeat`` in seconds."""
        return _seconds(self.heartbeat, "runner.heartbeat", least=0.5)

    @property
    def wait_seconds(self) -> float:
        """``wait_for_nodes`` in seconds; 0 where it is None."""
        return _seconds(self.wait_for_nodes, "runner.wait_for_nodes", least=0.0) or 0.0

    @property
    def replicas(self) -> int:
        """Processes that train one candidate together: one a GPU where it gets several, else 1."""
        return max(1, int(self.gpus))

    @property
    def torch_device(self) -> str:
        """See `nas.run.runner.Runner`."""
        return "cuda" if self.gpus else "cpu"

    def check(self) -> None:
        """See `nas.run.runner.Runner`. A cluster must answer, unless this process has joined one already."""
        if self.address is not None:
            from nas.run.ray_workers import check_cluster

            check_cluster(self.address)

    def expected_slots(self, workers: int | None = None) -> int:
        """See `nas.run.runner.Runner`. Of a cluster's size nothing is known yet: as many as this machine has cores."""
        return workers or self.workers or usable_cores()

    @property
    def time_limit_seconds(self) -> float | None:
        """See `nas.run.runner.Runner`."""
        return None if self.time_limit_ms is None else self.time_limit_ms / 1e3

    def start(self, *, workers: int | None = None, modules: Sequence[str] = ()) -> RayWorkers:
        """See `nas.run.runner.Runner`. Takes 3 to 8 seconds where Ray is started here.

        Raises:
            UserError: no cluster answers, no candidate fits on it, or Ray cannot be started.
        """
        from nas.run.ray_workers import start_workers

        if workers is not None:
            _check_workers("run.workers", workers)
        return start_workers(self, workers=workers if workers is not None else self.workers, modules=tuple(modules))


def _check_workers(where: str, workers: int) -> None:
    if workers < 1:
        raise UserError(where, f"must be at least 1, got {workers}")


def _check_address(address: str) -> None:
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit() or not 0 < int(port) < 65536:
        problem = f"must be 'auto' or host:port, got {address!r}"
        raise UserError("runner.address", problem, "the port is that of `ray start --head`, usually 6379")


def _bytes(text: str | None, where: str, *, least: float) -> int | None:
    if text is None:
        return None
    value = parse_quantity(text, "bytes", where=where)
    if value < least:
        raise UserError(where, f"must be at least {least / 1e6:g} MB, got {text!r}")
    return int(value)


def _seconds(text: str | None, where: str, *, least: float) -> float | None:
    if text is None:
        return None
    value = parse_quantity(text, "time", where=where) / 1e3
    if value < least:
        raise UserError(where, f"must be at least {least:g} s, got {text!r}")
    return value
