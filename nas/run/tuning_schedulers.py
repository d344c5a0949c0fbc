"""Which trials of a tuning go on: schedulers of Ray Tune, and the one trial that none of them touches.

References:
    [Li2018] L. Li et al. A System for Massively Parallel Hyperparameter Tuning (ASHA). arXiv 1810.05934, 2018.
    [Jaderberg2017] see `nas.run.tuning_space`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler

from nas.run.tuning_space import Range, Value, step

SchedulerName = Literal["asha", "pbt", "none"]
SCHEDULERS: tuple[SchedulerName, ...] = get_args(SchedulerName)
EPOCH, SCORE = "epoch", "accuracy"
TRIAL, FIELDS, TOKEN, SPARED = "trial", "fields", "token", "spared"  # keys of what Tune calls a config


class Explore:
    """Settings of a trial that takes over another one's state: a small step from that one's. Changes with each call.

    Args:
        space: name -> range.
        seed: of the steps.
    """

    def __init__(self, space: Mapping[str, Range], seed: int) -> None:
        self._space = dict(space)
        self._rng = np.random.default_rng(seed)

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        """See `ray.tune.schedulers.PopulationBasedTraining`'s ``custom_explore_fn``."""
        fields: dict[str, Value] = step(self._space, config[TRIAL][FIELDS], self._rng)
        return {TRIAL: {**config[TRIAL], FIELDS: fields, TOKEN: self._rng.bytes(4).hex()}}


@dataclass(frozen=True, kw_only=True)
class Scheduling:
    """How trials are weeded out.

    Attributes:
        name: ``asha`` stops what is not among the best ``1/eta`` of those that came as far [Li2018], ``pbt`` has the
            worst quarter go on from the state of one of the best with other settings [Jaderberg2017], ``none`` trains
            all to the end.
        epochs: of a whole training.
        grace: epochs before the first look of ``asha``.
        eta: of ``asha``.
        interval: epochs between two looks of ``pbt``.
    """

    name: SchedulerName
    epochs: int
    grace: int
    eta: int
    interval: int

    @property
    def milestones(self) -> tuple[int, ...]:
        """Epochs after which a trial is looked at, rising; the last is the end."""
        before: list[int] = []
        if self.name == "asha":
            epoch = self.grace
            while epoch < self.epochs:
                before.append(epoch)
                epoch *= self.eta
        elif self.name == "pbt":
            before = list(range(self.interval, self.epochs, self.interval))
        return (*before, self.epochs)

    @property
    def takes_over(self) -> bool:
        """Whether a trial may go on from the state of another one."""
        return self.name == "pbt"

    def expected_epochs(self, trials: int) -> float:
        """Epochs that so many trials take together, the spared one to the end; an estimate for ``asha``."""
        if self.name != "asha":
            return float(trials * self.epochs)
        total, alive, behind = float(self.epochs), float(trials - 1), 0
        for epoch in self.milestones:
            total += alive * (epoch - behind)
            alive, behind = alive / self.eta, epoch
        return total

    def scheduler(self, space: Mapping[str, Range], *, seed: int) -> TrialScheduler:
        """For Tune, with the spared trial left alone."""
        if self.name == "asha":
            asha = ASHAScheduler(
                time_attr=EPOCH, max_t=max(2, self.epochs), grace_period=self.grace, reduction_factor=self.eta
            )
            return Sparing(asha, informed=True)
        if self.name == "pbt":
            population = PopulationBasedTraining(
                time_attr=EPOCH,
                perturbation_interval=self.interval,
                custom_explore_fn=Explore(space, seed),
                log_config=False,
            )
            return Sparing(population, informed=False)
        return FIFOScheduler()


class Sparing(TrialScheduler):  # type: ignore[misc]  # Ray has no types
    """Another scheduler, for all trials but those whose config says that they are spared: these go on to the end.

    Args:
        scheduler: for the others.
        informed: whether it is told how the spared ones do.
    """

    def __init__(self, scheduler: TrialScheduler, *, informed: bool) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._informed = informed

    @property
    def metric(self) -> str | None:
        return self._scheduler.metric  # type: ignore[no-any-return]

    @property
    def supports_buffered_results(self) -> bool:
        return bool(self._scheduler.supports_buffered_results)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return bool(self._scheduler.set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if self._tells(trial):
            self._scheduler.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        if self._tells(trial):
            self._scheduler.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        said = TrialScheduler.CONTINUE
        if self._tells(trial):
            said = self._scheduler.on_trial_result(tune_controller, trial, result)
        return str(TrialScheduler.CONTINUE if _is_spared(trial) else said)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if self._tells(trial):
            self._scheduler.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        if self._tells(trial):
            self._scheduler.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        for trial in tune_controller.get_trials():
            if _is_spared(trial) and trial.status in ("PENDING", "PAUSED"):
                return trial  # the longest of all begins first; and the other scheduler may not know it
        return self._scheduler.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        return str(self._scheduler.debug_string())

    def save(self, checkpoint_path: str) -> None:
        self._scheduler.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        self._scheduler.restore(checkpoint_path)

    def _tells(self, trial: Any) -> bool:
        return self._informed or not _is_spared(trial)


def _is_spared(trial: Any) -> bool:
    return bool(trial.config[TRIAL][SPARED])
