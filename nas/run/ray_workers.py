"""Ray started here, or a cluster joined, for as long as a search needs it.

Responsible for the life of the connection: quiet, within bounded time, and with nothing left running.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import ray
import ray._private.worker as ray_output

from nas.errors import UserError, one_line
from nas.run.attempt import attempt
from nas.run.capacity import num_fitting, usable_cores
from nas.run.ray_address import check_reachable
from nas.run.ray_runner import RayRunner
from nas.run.ray_session import RaySession
from nas.run.runner import Work
from nas.units import format_quantity

_LARGEST_STORE = 4e9


class RayWorkers:
    """See `nas.run.runner.Workers`. Made by `start_workers`.

    Args:
        runner: how it was configured.
        num_slots: candidates at a time.
        owned: whether leaving ends the connection (and the local Ray with it).
    """

    def __init__(self, runner: RayRunner, *, num_slots: int, owned: bool) -> None:
        self._runner = runner
        self.num_slots = num_slots
        self._owned = owned
        where = "on this machine" if runner.address is None else f"on the cluster at {runner.address}"
        self.description = f"{num_slots} worker{'s' if num_slots > 1 else ''} {where} (Ray {ray.__version__})"

    def open(self, work: Work, *, time_factor: float = 1.0) -> RaySession:
        """See `nas.run.runner.Workers`. The work lies in the object store once a node; its arrays are not copied.

        Raises:
            UserError: the work cannot be pickled.
        """
        runner = self._runner
        limit_ms = runner.time_limit_ms
        limit = math.inf if limit_ms is None else limit_ms / 1e3 * time_factor
        try:
            reference = ray.put(work)
        except Exception as error:  # pickling runs the classes' own code
            raise UserError(
                "runner", f"the work cannot be sent to workers: {one_line(error)}", "runner=serial does without"
            ) from error
        options: dict[str, Any] = {"num_cpus": runner.cpus, "num_gpus": runner.gpus}
        if runner.memory_bytes is not None:
            options["memory"] = runner.memory_bytes
        return RaySession(
            ray.remote(num_returns="streaming", max_retries=0, **options)(attempt),
            reference,
            num_slots=self.num_slots,
            retries=runner.retries,
            limit_seconds=limit,
            grace_seconds=1.0 + 0.1 * limit if math.isfinite(limit) else 0.0,
            memory_bytes=runner.memory_bytes,
        )

    def close(self) -> None:
        """See `nas.run.runner.Workers`."""
        if self._owned:
            self._owned = False
            ray.shutdown()
            _show_notices(True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def start_workers(runner: RayRunner, *, workers: int | None, modules: tuple[str, ...]) -> RayWorkers:
    """Starts or joins Ray. One that the caller has initialised already is used as it is, and left running.

    Args:
        runner: how.
        workers: candidates at a time; None: as many as there are cores, or as fit.
        modules: import names that are sent to the workers of a cluster; workers here import what this process does.

    Raises:
        UserError: see `RayRunner.start`.
    """
    owned = not ray.is_initialized()
    try:
        if owned:
            _show_notices(False)
            with _kept_termination():
                if runner.address is None:
                    _start_here(runner, workers or usable_cores())
                else:
                    _join(runner.address, runner, modules)
        num_slots = _num_slots(runner, workers)
    except BaseException:
        if owned:
            ray.shutdown()
            _show_notices(True)
        raise
    return RayWorkers(runner, num_slots=num_slots, owned=owned)


def check_cluster(address: str) -> None:
    """Raises `UserError` if no cluster answers at ``address``; one that this process has joined already is used."""
    if not ray.is_initialized():
        check_reachable(address)


def _start_here(runner: RayRunner, workers: int) -> None:
    settings = {
        # Read by the processes that are started now: a thread a processor, whatever this shell says.
        "OMP_NUM_THREADS": str(_num_threads(runner)),
        "PYTHONPATH": os.pathsep.join(_import_path()),
        "RAY_USAGE_STATS_ENABLED": os.environ.get("RAY_USAGE_STATS_ENABLED", "0"),
    }
    try:
        with _environment(settings):
            ray.init(
                address="local",  # whatever RAY_ADDRESS or an earlier `ray start` has left behind
                num_cpus=math.ceil(workers * runner.cpus),
                num_gpus=None if runner.gpus else 0,
                object_store_memory=runner.object_store_bytes or _store_bytes(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
    except Exception as error:  # Ray raises whatever its parts raise
        raise UserError(
            "runner", f"Ray cannot be started here: {one_line(error)}", "runner=serial does without it"
        ) from error


def _join(address: str, runner: RayRunner, modules: tuple[str, ...]) -> None:
    check_reachable(address)
    environment: dict[str, Any] = {"env_vars": {"OMP_NUM_THREADS": str(_num_threads(runner))}}
    if modules:
        environment["py_modules"] = [str(_source(module)) for module in modules]
    try:
        ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # other versions, no token, no network: Ray's first line says which
        raise UserError(
            "runner.address",
            f"cannot join the cluster at {address}: {one_line(error)}",
            "its Ray and Python must be of the same versions as here",
        ) from error


def _source(module: str) -> Path:
    """The folder or file of an importable package or module, by its top-level name."""
    top = module.split(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    if places:
        return Path(places[0])
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise UserError("allow", f"cannot find the source of '{top}' to send it to workers", "is it importable here?")
    return Path(spec.origin)


def _num_slots(runner: RayRunner, workers: int | None) -> int:
    """What was asked for, as far as it fits on the nodes there are."""
    need = {"CPU": runner.cpus, "GPU": runner.gpus, "memory": float(runner.memory_bytes or 0)}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fitting = num_fitting(nodes, need)
    if fitting < 1:
        best = {key: max((node.get(key, 0.0) for node in nodes), default=0.0) for key, amount in need.items() if amount}
        raise UserError(
            "runner",
            f"a candidate needs {_resources(need)}, but the largest node has {_resources(best)}",
            "lower runner.cpus, runner.gpus or runner.memory",
        )
    return min(workers, fitting) if workers is not None else fitting


def _resources(amounts: Mapping[str, float]) -> str:
    return ", ".join(
        f"{format_quantity(amount, 'bytes')} memory" if key == "memory" else f"{amount:g} {key}"
        for key, amount in amounts.items()
        if amount or key != "memory"
    )


def _import_path() -> list[str]:
    """Where this process imports from beside its installation, in order: workers import the same."""
    installed = (Path(sys.prefix), Path(sys.base_prefix))
    folders = [Path(entry or ".").resolve() for entry in sys.path]
    return [str(folder) for folder in folders if not any(folder.is_relative_to(place) for place in installed)]


def _num_threads(runner: RayRunner) -> int:
    return max(1, int(runner.cpus))


def _store_bytes() -> int:
    """A fifth of what is free, of memory and of the memory file system that Ray maps it in."""
    free = psutil.virtual_memory().available
    shared = Path("/dev/shm")
    room = shutil.disk_usage(shared).free if shared.is_dir() else free
    return int(max(100e6, min(0.2 * free, 0.8 * room, _LARGEST_STORE)))


@contextlib.contextmanager
def _kept_termination() -> Iterator[None]:
    """Keeps the caller's answer to SIGTERM, which Ray replaces by an exit without a word."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _show_notices(shown: bool) -> None:
    """Whether Ray prints on standard output when a worker dies: it does so whatever `log_to_driver` says.

    That would break output which scripts read; the evaluation tells the same. There is no public switch.
    """
    vars(ray_output)["_worker_logs_enabled"] = shown
