"""Ray started here, or a cluster joined, for as long as a search needs it.

Responsible for the life of the connection: quiet, within bounded time, and with nothing left running.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import ray
import ray._private.worker as ray_output

from nas.errors import UserError, one_line
from nas.run.attempt import Bounds, attempt
from nas.run.capacity import num_fitting, usable_cores
from nas.run.elastic import KEPT_SECONDS, Slots
from nas.run.ray_address import check_reachable, why_not
from nas.run.ray_runner import RayRunner
from nas.run.ray_session import Limits, RaySession
from nas.run.runner import Work
from nas.run.shipping import runtime_env
from nas.units import format_quantity

_log = logging.getLogger(__name__)
_LARGEST_STORE = 4e9
_BEATS = 6  # looks for signs of life within the time after which a candidate is taken for hung
_LOOK_SECONDS = 1.0  # between looks for a node to come
_SAME = "its Ray, its Python and its token must be the same as here"


class RayWorkers:
    """See `nas.run.runner.Workers`. Made by `start_workers`.

    Args:
        runner: how it was configured.
        workers: candidates at a time that are wanted; None: as many as fit.
        num_slots: that there are at the start.
        owned: whether leaving ends the connection (and the local Ray with it).
    """

    def __init__(self, runner: RayRunner, *, workers: int | None, num_slots: int, owned: bool) -> None:
        self._runner = runner
        self._workers = workers
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
        silence = runner.heartbeat_seconds
        return RaySession(
            ray.remote(num_returns="streaming", max_retries=0, **options)(attempt),
            reference,
            slots=Slots(lambda: _num_fitting(runner), most=self._workers, clock=time.monotonic),
            limits=Limits(
                retries=runner.retries,
                seconds=limit,
                grace_seconds=1.0 + 0.1 * limit if math.isfinite(limit) else 0.0,
                silence_seconds=math.inf if silence is None else silence,
            ),
            bounds=Bounds(
                memory_bytes=runner.memory_bytes,
                gpu_share=runner.gpus if 0 < runner.gpus < 1 else 1.0,
                beat_seconds=None if silence is None else silence / _BEATS,
            ),
        )

    def close(self) -> None:
        """See `nas.run.runner.Workers`."""
        if self._owned:
            self._owned = False
            if self._runner.address is not None and self._workers is not None:
                _ask_for_room(self._runner, 0)
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
        if runner.address is not None and workers is not None:
            _ask_for_room(runner, workers)
        num_slots = _num_slots(runner, workers)
    except BaseException:
        if owned:
            ray.shutdown()
            _show_notices(True)
        raise
    return RayWorkers(runner, workers=workers, num_slots=num_slots, owned=owned)


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
        **_kept_workers(),
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
        _hide_token()
    except Exception as error:  # Ray raises whatever its parts raise
        raise UserError(
            "runner", f"Ray cannot be started here: {one_line(error)}", "runner=serial does without it"
        ) from error


def _kept_workers() -> dict[str, str]:
    """Lets a worker go on with the next queued candidate, rather than be given back and asked for again.

    Ray does so for half a second by itself, and candidates take longer. What is read here is this process's part of
    Ray; for how long others have to wait for their turn is bounded by it.
    """
    name = "RAY_worker_lease_timeout_milliseconds"
    return {name: os.environ.get(name, str(round(KEPT_SECONDS * 1000)))}


def _hide_token() -> None:
    """Whoever has the token runs code on this Ray, which listens on all addresses. Ray leaves it readable for all."""
    path = Path.home() / ".ray" / "auth_token"
    with contextlib.suppress(OSError):  # none, or not this user's
        if stat.S_ISREG(path.lstat().st_mode) and path.lstat().st_mode & 0o077:
            path.chmod(0o600)


def _join(address: str, runner: RayRunner, modules: tuple[str, ...]) -> None:
    check_reachable(address)
    environment = runtime_env(runner, modules, num_threads=_num_threads(runner))
    try:
        with _environment(_kept_workers()):
            ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # other versions, no token, no network: Ray's text says which
        raise UserError("runner.address", f"cannot join the cluster at {address}: {why_not(error)}", _SAME) from error


def _ask_for_room(runner: RayRunner, workers: int) -> None:
    """Tells an autoscaling cluster for how many candidates there should be nodes; others pass over it."""
    from ray.autoscaler import sdk

    need = {"CPU": math.ceil(runner.cpus), "GPU": math.ceil(runner.gpus)}
    bundle = {resource: amount for resource, amount in need.items() if amount}
    with contextlib.suppress(Exception):  # it is a wish; whatever it meets, the search goes on with what is there
        sdk.request_resources(bundles=[bundle] * workers)


def _num_fitting(runner: RayRunner) -> int | None:
    """Candidates that fit on the nodes of now; None where the head does not answer."""
    try:
        return num_fitting(_nodes(), _need(runner))
    except Exception as error:  # Ray raises whatever its parts raise; the search has its candidates and can wait
        _log.debug("the cluster does not say which nodes it has: %s", one_line(error))
        return None


def _need(runner: RayRunner) -> dict[str, float]:
    return {"CPU": runner.cpus, "GPU": runner.gpus, "memory": float(runner.memory_bytes or 0)}


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _num_slots(runner: RayRunner, workers: int | None) -> int:
    """What was asked for, as far as it fits on the nodes there are, or that come within the time to wait for them."""
    need, until = _need(runner), time.monotonic() + runner.wait_seconds
    while (fitting := num_fitting(nodes := _nodes(), need)) < 1:
        left = until - time.monotonic()
        if left > 0:
            time.sleep(min(left, _LOOK_SECONDS))
            continue
        best = {key: max((node.get(key, 0.0) for node in nodes), default=0.0) for key, amount in need.items() if amount}
        waited = f" after {runner.wait_for_nodes}" if runner.wait_for_nodes else ""
        raise UserError(
            "runner",
            f"a candidate needs {_resources(need)}, but the largest node has {_resources(best)}{waited}",
            "lower runner.cpus, runner.gpus or runner.memory, or give runner.wait_for_nodes",
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
