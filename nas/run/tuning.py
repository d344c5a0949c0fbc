"""Trials of one training under other settings, by Ray Tune.

Responsible for Tune: its files stay in one folder, it says nothing, and it is restored from a folder of one's own only.
What a trial found is not taken from Tune: the work of a trial keeps its own record.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

from nas.errors import UserError, one_line
from nas.run.ray_runner import RayRunner
from nas.run.tuning_schedulers import EPOCH, FIELDS, SCORE, SPARED, TOKEN, TRIAL, Scheduling
from nas.run.tuning_seal import foreign, seal
from nas.run.tuning_space import Fields, Range

_NAME = "tune"
_STATES_KEPT = 4  # of a trial, where others may take them over
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the command's to answer
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What a trial is to do.

    Attributes:
        place: of the trial, from 0; the spared one is 0.
        fields: its settings now.
        token: names them: another one where a trial goes on with other settings.
        start: folder with the files of a `Rung` that it goes on from; None: its own, or none.
    """

    place: int
    fields: Fields
    token: str
    start: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Rung:
    """How far a trial is.

    Attributes:
        epoch: so many are done.
        score: the higher, the better.
        files: name -> file, from which another trial can go on; empty where none ever does.
    """

    epoch: int
    score: float
    files: Mapping[str, Path] = field(default_factory=dict)


TrialWork = Callable[[Assignment], Iterator[Rung]]
"""The work of a trial, told rung by rung; it may be left at any of them, and begun again at any time."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Trials that are held against each other.

    Attributes:
        settings: of each trial; the first is spared by the scheduler.
        space: name -> range, for schedulers that change settings on the way.
        scheduling: which go on.
        seed: of what the scheduler draws.
        folder: of Tune's files, made and sealed.
    """

    settings: Sequence[Fields]
    space: Mapping[str, Range]
    scheduling: Scheduling
    seed: int
    folder: Path

    @property
    def storage(self) -> Path:
        """Where Tune's experiment lies."""
        return self.folder.resolve() / _NAME

    def check(self) -> None:
        """Raises `UserError` where there is a state of Tune that was not written here."""
        reason = foreign(self.folder) if self.storage.exists() else ""
        if reason:
            problem = f"{reason}; Ray Tune's state in it is read by pickle, which runs what its writer wanted"
            advice = "tune.restore=false leaves that state unread, and goes on from records and safetensors"
            raise UserError(str(self.folder), problem, advice)


def run_trials(work: TrialWork, tuning: Tuning, *, runner: RayRunner, restore: bool = True) -> None:
    """Runs all trials to their ends, on the Ray that is started already; goes on where there is a state of Tune.

    A trial whose worker is lost is begun again ``runner.retries`` times. An interrupt passes; what is on the disk then
    is enough to go on.

    Args:
        work: of a trial; sent to the workers once.
        tuning: the trials.
        runner: what a trial takes, and how often it is begun again.
        restore: go on from Tune's own state; False removes it unread, and all trials begin (and find their records).

    Raises:
        UserError: a state of Tune that was not written here, or Tune fails as a whole.
    """
    assert ray.is_initialized(), "workers are started by a runner"
    if not restore:
        shutil.rmtree(tuning.storage, ignore_errors=True)
    tuning.check()
    seal(tuning.folder)
    trainable = tune.with_resources(
        tune.with_parameters(_trial, work=work, share=runner.gpus if 0 < runner.gpus < 1 else 1.0), _resources(runner)
    )
    try:
        with _environment(_QUIET):
            _tuner(trainable, tuning, runner).fit()
    except (UserError, OSError):
        raise
    except Exception as error:  # Tune raises whatever its parts raise
        problem = f"Ray Tune gave up: {one_line(error)}"
        raise UserError(
            str(tuning.folder), problem, "tune.restore=false begins anew from the trials' records"
        ) from error


def _tuner(trainable: Any, tuning: Tuning, runner: RayRunner) -> Tuner:
    configs = [{FIELDS: dict(fields), TOKEN: "0", SPARED: place == 0} for place, fields in enumerate(tuning.settings)]
    space = {TRIAL: tune.grid_search(configs)}
    if Tuner.can_restore(str(tuning.storage)):
        return Tuner.restore(str(tuning.storage), trainable, resume_unfinished=True, restart_errored=True)
    shutil.rmtree(tuning.storage, ignore_errors=True)  # begun, but killed before there was anything in it
    kept = _STATES_KEPT if tuning.scheduling.takes_over else None
    return Tuner(
        trainable,
        param_space=space,
        tune_config=TuneConfig(
            metric=SCORE,
            mode="max",
            scheduler=tuning.scheduling.scheduler(tuning.space, seed=tuning.seed),
            reuse_actors=True,
            trial_name_creator=_name_of,
            trial_dirname_creator=_name_of,
        ),
        run_config=RunConfig(
            name=_NAME,
            storage_path=str(tuning.storage.parent),
            verbose=0,
            failure_config=FailureConfig(max_failures=runner.retries),
            checkpoint_config=CheckpointConfig(num_to_keep=kept),
        ),
    )


def _name_of(trial: Any) -> str:
    return f"trial-{trial.trial_id}"


def _trial(config: dict[str, Any], work: TrialWork, share: float) -> None:
    """What Tune runs in a worker."""
    if share < 1:
        from nas.train.gpu_share import limit_gpu_memory  # torch is imported by work that needs it

        limit_gpu_memory(share)
    own, given = config[TRIAL], tune.get_checkpoint()
    place = int(tune.get_context().get_trial_id().rpartition("_")[2])  # a config may be another trial's by now
    with contextlib.ExitStack() as stack:
        start = Path(stack.enter_context(given.as_directory())) if given is not None else None
        for rung in work(Assignment(place=place, fields=own[FIELDS], token=own[TOKEN], start=start)):
            _report(rung)


def _report(rung: Rung) -> None:
    metrics = {EPOCH: rung.epoch, SCORE: rung.score}
    if not rung.files:
        tune.report(metrics)
        return
    with tempfile.TemporaryDirectory(prefix="nas-tune-") as scratch:
        for name, file in rung.files.items():
            shutil.copyfile(file, Path(scratch) / name)
        tune.report(metrics, checkpoint=Checkpoint.from_directory(scratch))


def _resources(runner: RayRunner) -> dict[str, float]:
    need = {"cpu": runner.cpus, "gpu": runner.gpus, "memory": float(runner.memory_bytes or 0)}
    return {name: amount for name, amount in need.items() if amount}


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Variables that Tune reads, for as long as it runs; what the user set stays."""
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
