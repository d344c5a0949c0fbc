"""Everything a search can be told, as frozen records that check themselves. Mirrors `conf/search.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nas.deploy.options import DeployOptions
from nas.errors import UserError
from nas.run.ray_runner import RayRunner
from nas.run.runner import Runner
from nas.space.space import SearchSpace
from nas.strategy.problem import SearchStrategy
from nas.strategy.tpe import TPE
from nas.train.data.digits import Digits
from nas.train.data.images import DataSource
from nas.train.recipe import Recipe


def _at_least(where: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(where, f"must be a whole number of at least {least}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How much to do, and where to put it.

    Attributes:
        name: of the run folder; None: date and data set.
        folder: that holds the run folders.
        resume: a run folder to go on with, instead of starting one.
        candidates: evaluations in the search, failed ones included.
        epochs: that a candidate gets in the search.
        final_epochs: that a member of the front gets.
        front: at most so many members of the front are trained in full and exported.
        random_baseline: random candidates evaluated besides, for the report.
        workers: parallel trainings; None: as the runner decides.
        checkpoints: keep the state of each candidate's training, from which a member of the front goes on.
        forecast_only: stop after the forecast.
    """

    name: str | None = None
    folder: str = "runs"
    resume: str | None = None
    candidates: int = 24
    epochs: int = 6
    final_epochs: int = 30
    front: int = 8
    random_baseline: int = 0
    workers: int | None = None
    checkpoints: bool = False
    forecast_only: bool = False

    def __post_init__(self) -> None:
        for name, least in (("candidates", 1), ("epochs", 1), ("final_epochs", 1), ("front", 1)):
            _at_least(f"run.{name}", getattr(self, name), least)
        _at_least("run.random_baseline", self.random_baseline, 0)
        if self.workers is not None:
            _at_least("run.workers", self.workers, 1)
        if self.name is not None and (not self.name or "/" in self.name or self.name.startswith(".")):
            raise UserError("run.name", f"must be a plain folder name, got {self.name!r}", "run.folder says where")


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """How a device without a latency model for the space gets one.

    Attributes:
        samples: architectures that are exported and measured.
        blocks: timing blocks a file; the exported models of the front get the full protocol.
        refresh: measure again even where a latency model is stored.
    """

    samples: int = 40
    blocks: int = 8
    refresh: bool = False

    def __post_init__(self) -> None:
        _at_least("calibration.samples", self.samples, 12)
        _at_least("calibration.blocks", self.blocks, 3)


@dataclass(frozen=True, kw_only=True)
class CalibrateSettings:
    """The whole of ``nas calibrate``. Every field has the default of the command.

    Attributes:
        device: name of its card.
        space: name of a space, a path to one, or the space.
        data: whose images the networks take; not read where ``input`` is given.
        input: ``channels x height x width`` of the data, e.g. ``3x32x32``; None: the data's.
        classes: of the classifier, with ``input``; None: the data's.
        precisions: of the files that are measured; None: those that a search exports.
        where: ``offline`` to measure by files carried to the device; None: as its card says.
        calibration: how many samples, how thoroughly.
        deploy: how files are made.
        confidence: of the bound that is reported.
        seed: of the choice of architectures.
        allow: packages that custom operators may come from.
    """

    device: str = "this-machine"
    space: str | SearchSpace = "mobilenet-tiny"
    data: DataSource = field(default_factory=Digits)
    input: str | None = None
    classes: int | None = None
    precisions: Sequence[str] | None = None
    where: str | None = None
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    deploy: DeployOptions = field(default_factory=DeployOptions)
    confidence: float = 0.95
    seed: int = 0
    allow: Sequence[str] = ()

    def __post_init__(self) -> None:
        _at_least("seed", self.seed, 0)
        if self.classes is not None:
            _at_least("classes", self.classes, 2)
        if (self.input is None) != (self.classes is None):
            raise UserError("input", "must be given together with classes", "e.g. input=3x32x32 classes=10")


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The whole of a search. Every field has the default of ``nas search``."""

    space: str | SearchSpace = "mobilenet-tiny"
    data: DataSource = field(default_factory=Digits)
    device: str | Sequence[str] = "this-machine"
    strategy: SearchStrategy = field(default_factory=TPE)
    recipe: Recipe = field(default_factory=Recipe)
    runner: Runner = field(default_factory=RayRunner)
    deploy: DeployOptions = field(default_factory=DeployOptions)
    objectives: Sequence[str] = ("accuracy", "latency")
    budget: Mapping[str, object] = field(default_factory=dict)
    confidence: float = 0.95
    seed: int = 0
    run: RunOptions = field(default_factory=RunOptions)
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    allow: Sequence[str] = ()

    def __post_init__(self) -> None:
        _at_least("seed", self.seed, 0)
