"""Everything that `nas retrain` can be told, as frozen records that check themselves. Mirrors `conf/retrain.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nas.commands.export_settings import FRONT
from nas.commands.settings import SearchSettings
from nas.errors import UserError, unknown_name
from nas.run.ray_runner import RayRunner
from nas.run.tuning_schedulers import SCHEDULERS, SchedulerName, Scheduling
from nas.run.tuning_space import Range, parse_range
from nas.train.checks import check_flag, check_number, check_one_of
from nas.train.compression.options import CompressOptions
from nas.train.recipe import Recipe

OF_RECIPE = (
    "learning_rate", "weight_decay", "momentum", "batch_size", "final_share", "warmup_epochs", "label_smoothing",
    "shift", "flip", "cutout", "mixup", "ema_decay",
)  # fmt: skip
OF_TEACHER = ("distil_weight", "temperature")
_WHOLE = ("batch_size",)
_SPACE: Mapping[str, object] = {
    "learning_rate": "log x0.3 x3",
    "weight_decay": "log x0.1 x10",
    "label_smoothing": "uniform 0 0.2",
    "shift": "uniform 0 0.2",
    "cutout": "uniform 0 0.4",
}
_TIMES_LONGER = 3  # than the run trained its front, where epochs are not given


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """How the recipe is tuned.

    Attributes:
        trials: settings that are tried for each model, the untuned ones among them.
        scheduler: ``asha`` stops what falls behind, ``pbt`` changes settings on the way, ``none`` trains all.
        grace: epochs before ``asha`` looks for the first time; None: a ninth of all.
        eta: ``asha`` lets one in so many go on.
        interval: epochs between two looks of ``pbt``; None: a tenth of all.
        space: setting -> range in words (`nas.run.tuning_space.parse_range`); None: it stays as it is.
        restore: go on from Ray Tune's own state where a retraining was killed; False leaves that unread.

    Raises:
        UserError: a field that does not fit. Ranges are checked by `ranges`, against the recipe.
    """

    trials: int = 8
    scheduler: SchedulerName = "asha"
    grace: int | None = None
    eta: int = 3
    interval: int | None = None
    space: Mapping[str, object] = field(default_factory=lambda: dict(_SPACE))
    restore: bool = True

    def __post_init__(self) -> None:
        check_number("tune.trials", self.trials, low=1, high=10_000, integer=True)
        check_one_of("tune.scheduler", "scheduler", self.scheduler, SCHEDULERS)
        check_number("tune.eta", self.eta, low=2, integer=True)
        for name in ("grace", "interval"):
            if getattr(self, name) is not None:
                check_number(f"tune.{name}", getattr(self, name), low=1, integer=True)
        check_flag("tune.restore", self.restore)
        if not isinstance(self.space, Mapping):
            raise UserError("tune.space", f"must be settings with their ranges, got {self.space!r}")
        for name in self.space:
            if name not in (*OF_RECIPE, *OF_TEACHER):
                raise unknown_name(f"tune.space.{name}", "setting", str(name), (*OF_RECIPE, *OF_TEACHER))

    def scheduling(self, epochs: int) -> Scheduling:
        """For trainings of so many epochs. Raises `UserError` where they are too few for it."""
        for name in ("grace", "interval"):
            if (given := getattr(self, name)) is not None and given > epochs:
                raise UserError(f"tune.{name}", f"must be at most the {epochs} epochs of a training, got {given}")
        return Scheduling(
            name=self.scheduler,
            epochs=epochs,
            grace=self.grace or max(1, epochs // 9),
            eta=self.eta,
            interval=self.interval or max(1, epochs // 10),
        )


@dataclass(frozen=True, kw_only=True)
class RetrainSettings:
    """The whole of a retraining.

    Attributes:
        run: folder whose models are trained again.
        search: what that run was about: space, data, device, objectives, budgets, recipe, how files are made, seed; and
            the runner. Its ``run`` is not looked at.
        models: ``front``, ``all``, or digests or their beginnings.
        epochs: of a training; None: three times as many as the run's models got.
        tune: how the recipe is tuned.
        compress: the teacher that models learn from.
        gpus_per_trial: GPUs that a trial is trained on; None: the runner's.
        folder: of the new run folder; None: that of the run.
        name: of the new run folder; None: ``<run>-retrained``.
        resume: a folder of a retraining to go on with.
        forecast_only: stop after the plan.

    Raises:
        UserError: a field that does not fit.
    """

    run: Path
    search: SearchSettings = field(default_factory=SearchSettings)
    models: str | Sequence[str] = FRONT
    epochs: int | None = None
    tune: TuneOptions = field(default_factory=TuneOptions)
    compress: CompressOptions = field(default_factory=CompressOptions)
    gpus_per_trial: float | None = None
    folder: Path | None = None
    name: str | None = None
    resume: Path | None = None
    forecast_only: bool = False

    def __post_init__(self) -> None:
        if self.epochs is not None:
            check_number("epochs", self.epochs, low=1, integer=True)
        check_flag("forecast_only", self.forecast_only)
        if self.gpus_per_trial is not None:
            check_number("gpus_per_trial", self.gpus_per_trial, low=0)
        if not isinstance(self.search.runner, RayRunner):
            advice = "runner=ray runner.workers=1 trains one at a time"
            raise UserError("runner", "must be ray: trials are Ray Tune's", advice)
        if self.runner.replicas > 1 and self.compress.distil_kind == "onnx":
            problem = "must not be a file where a trial is trained on several GPUs"
            raise UserError("compress.distil", problem, "give a torch module, or gpus_per_trial=1")
        if self.runner.replicas > 1 and self.compress.feature_weight > 0:
            problem = f"must be 0 where a trial is trained on several GPUs, got {self.compress.feature_weight:g}"
            raise UserError("compress.feature_weight", problem, "or give gpus_per_trial=1")
        _ = self.ranges

    @property
    def runner(self) -> RayRunner:
        """Where trials run, with the GPUs of a trial. Raises `UserError` for GPUs that are no share and not whole."""
        runner = self.search.runner
        assert isinstance(runner, RayRunner)
        try:
            return runner if self.gpus_per_trial is None else replace(runner, gpus=float(self.gpus_per_trial))
        except UserError as error:
            raise UserError("gpus_per_trial", error.problem, error.advice) from error

    @property
    def ranges(self) -> dict[str, Range]:
        """Setting -> range, of those that are tuned. Raises `UserError` where the recipe refuses a value of one."""
        return ranges(self.tune, self.search.recipe, self.compress)

    def epochs_after(self, earlier: int) -> int:
        """Epochs of a training, where the run's models got ``earlier``."""
        return self.epochs or _TIMES_LONGER * earlier


def ranges(tune: TuneOptions, recipe: Recipe, compress: CompressOptions) -> dict[str, Range]:
    """Setting -> range, of those that are tuned; every value of them can be had.

    Raises:
        UserError: a text that is no range, a value that the recipe refuses, a setting of a teacher where there is none,
            or one that cannot change on the way.
    """
    own: dict[str, Any] = {**asdict(recipe), **asdict(compress)}
    found: dict[str, Range] = {}
    for name, given in tune.space.items():
        if given is None:
            continue
        where = f"tune.space.{name}"
        span = parse_range(given, where=where, own=own[name], whole=name in _WHOLE)
        if name in OF_TEACHER and compress.distil_kind == "none":
            raise UserError(where, "must be null where there is no teacher", "compress=distilled, or compress.distil=…")
        if name == "ema_decay" and tune.scheduler == "pbt" and 0 in span.ends and span.ends != (0,):
            problem = "must not come to 0 with tune.scheduler=pbt: a training with an average cannot go on without"
            raise UserError(where, problem, "begin above 0, or use asha")
        for value in span.ends:
            _check_value(where, name, value, recipe, compress)
        found[name] = span
    if tune.trials > 1 and not found:
        raise UserError("tune.space", "must have a setting to tune, got none", "or give tune.trials=1")
    return found


def _check_value(where: str, name: str, value: Any, recipe: Recipe, compress: CompressOptions) -> None:
    known = {one.name for one in fields(Recipe)}
    try:
        replace(recipe, **{name: value}) if name in known else replace(compress, **{name: value})
    except UserError as error:
        raise UserError(where, error.problem, error.advice) from error
    if name in known:
        wanted = type(getattr(recipe, name))
        numbers = wanted in (int, float) and isinstance(value, int | float) and not isinstance(value, bool)
        if not numbers and not isinstance(value, wanted):
            raise UserError(where, f"must hold values like {getattr(recipe, name)!r}, got {value!r}")
