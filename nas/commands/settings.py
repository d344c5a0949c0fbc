"""Everything a search can be told, as frozen records that check themselves. Mirrors `conf/search.yaml`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nas.deploy.deployed import FileJudging
from nas.deploy.options import DeployOptions
from nas.deploy.shrunk import Shares
from nas.errors import UserError
from nas.problem.evaluation import Fidelity
from nas.run.callbacks.callback import Callback
from nas.run.ray_runner import RayRunner
from nas.run.runner import Runner
from nas.space.space import SearchSpace
from nas.strategy.problem import SearchStrategy
from nas.strategy.surrogate.strategy import Surrogate
from nas.train.compression.options import CompressOptions
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
        folder: that holds the run folders; at an address (``s3://...``) the run is copied there while it goes on.
        resume: a run folder to go on with, instead of starting one; a path or an address.
        candidates: architectures that the search tries, failed ones included.
        epochs: that a candidate gets in the search; several, from few to many: those of a ladder, on which the best
            are judged again and again (`nas.strategy.halving`).
        resolution: multiples of the networks' own input resolution, one for each of ``epochs``; None: 1.
        data_share: shares of the training split, one for each of ``epochs``; None: all of it.
        eta: of so many candidates on a rung of the ladder, one goes on to the next.
        stop_hopeless: share of trainings that may be stopped early by mistake (`nas.train.curves`); None: none is
            stopped.
        warm_start: run folders of earlier searches in the same space (paths or addresses), with whose results this one
            begins.
        final_epochs: that a member of the front gets.
        front: at most so many members of the front are trained in full and exported.
        random_baseline: random candidates evaluated besides, for the report.
        workers: parallel trainings; None: as the runner decides.
        checkpoints: keep the state of each candidate's training, from which a member of the front goes on.
        forecast_only: stop after the forecast.
        file_images: validation images that the file of a candidate is run on, where the space has a ``deploy`` section.
        file_calibration: training images that it is quantised by, in the search.
        wide_share: share of its epochs that a network is trained for before it is made narrower; 0: it is trained
            narrow from the start, which costs less and gave better networks (``experiments/joint_search``).
    """

    name: str | None = None
    folder: str = "runs"
    resume: str | None = None
    candidates: int = 24
    epochs: int | Sequence[int] = 6
    resolution: Sequence[float] | None = None
    data_share: Sequence[float] | None = None
    eta: int = 3
    stop_hopeless: float | None = None
    warm_start: str | Sequence[str] | None = None
    final_epochs: int = 30
    front: int = 8
    random_baseline: int = 0
    workers: int | None = None
    checkpoints: bool = False
    forecast_only: bool = False
    file_images: int = 512
    file_calibration: int = 64
    wide_share: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("candidates", 1), ("final_epochs", 1), ("front", 1), ("eta", 2)):
            _at_least(f"run.{name}", getattr(self, name), least)
        _check_ladder(self)
        rate = self.stop_hopeless
        if rate is not None and not (_is_number(rate) and 0 < rate < 1):
            advice = "it is the share of trainings that may be stopped by mistake, e.g. 0.05"
            raise UserError("run.stop_hopeless", f"must be a number between 0 and 1 or null, got {rate!r}", advice)
        for folder in self.earlier_runs if isinstance(self.warm_start, Sequence | None) else [self.warm_start]:
            if not isinstance(folder, str) or not folder:
                raise UserError("run.warm_start", f"must name run folders, got {folder!r}", "e.g. runs/<name>")
        _at_least("run.random_baseline", self.random_baseline, 0)
        for name in ("file_images", "file_calibration"):
            _at_least(f"run.{name}", getattr(self, name), 1)
        if not (_is_number(self.wide_share) and 0 <= self.wide_share < 1):
            raise UserError("run.wide_share", f"must be a number of at least 0 and below 1, got {self.wide_share!r}")
        if self.workers is not None:
            _at_least("run.workers", self.workers, 1)
        if self.name is not None and (not self.name or "/" in self.name or self.name.startswith(".")):
            raise UserError("run.name", f"must be a plain folder name, got {self.name!r}", "run.folder says where")

    @property
    def rungs(self) -> tuple[Fidelity, ...]:
        """The ladder, from the cheapest to the dearest; one rung where ``epochs`` is a number."""
        if isinstance(self.epochs, int):
            return (Fidelity(epochs=self.epochs),)
        ones = (1.0,) * len(self.epochs)
        parts = zip(self.epochs, self.resolution or ones, self.data_share or ones, strict=True)
        return tuple(
            Fidelity(epochs=epochs, resolution=float(resolution), data_share=float(share))
            for epochs, resolution, share in parts
        )

    @property
    def judging(self) -> FileJudging:
        """How candidates are judged by their files."""
        return FileJudging(
            images=self.file_images,
            calibration_images=self.file_calibration,
            shares=Shares(wide=float(self.wide_share)),
        )

    @property
    def earlier_runs(self) -> tuple[str, ...]:
        """The folders of ``warm_start``."""
        if self.warm_start is None:
            return ()
        return (self.warm_start,) if isinstance(self.warm_start, str) else tuple(self.warm_start)


def _check_ladder(run: RunOptions) -> None:
    """Raises `UserError` where epochs, resolutions and data shares do not make a ladder."""
    several = isinstance(run.epochs, Sequence) and not isinstance(run.epochs, str)
    epochs = list(run.epochs) if isinstance(run.epochs, Sequence) else [run.epochs]
    if several and not epochs:
        raise UserError("run.epochs", "must hold at least one number of epochs, got []")
    for value in [run.epochs] if isinstance(run.epochs, str) else epochs:
        _at_least("run.epochs", value, 1)
    for name, values, most in (("resolution", run.resolution, 4.0), ("data_share", run.data_share, 1.0)):
        if values is None:
            continue
        given = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else values
        if not several or not isinstance(given, list) or len(given) != len(epochs):
            rule = f"must be null or a list with one number for each of run.epochs ({epochs}), got {given!r}"
            raise UserError(f"run.{name}", rule, f"e.g. run.epochs=[2,6] run.{name}=[0.5,1]")
        for part in given:
            if not _is_number(part) or not 0 < part <= most:
                raise UserError(f"run.{name}", f"must hold numbers above 0 and at most {most:g}, got {part!r}")
    costs = [fidelity.cost for fidelity in run.rungs]
    if any(low >= high for low, high in itertools.pairwise(costs)):
        rule = f"must go from cheap to dear, got {list(epochs)}"
        raise UserError("run.epochs", rule, "a rung costs epochs x data share x resolution squared")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
        operators: measure kernels instead of a space: one model that serves every space.
        probes: chains of layers that are measured for it.
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
    operators: bool = False
    probes: int = 200
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
    strategy: SearchStrategy = field(default_factory=Surrogate)
    recipe: Recipe = field(default_factory=Recipe)
    runner: Runner = field(default_factory=RayRunner)
    deploy: DeployOptions = field(default_factory=DeployOptions)
    compress: CompressOptions = field(default_factory=CompressOptions)
    objectives: Sequence[str] = ("accuracy", "latency")
    budget: Mapping[str, object] = field(default_factory=dict)
    confidence: float = 0.95
    seed: int = 0
    run: RunOptions = field(default_factory=RunOptions)
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    scores: Sequence[str] = ()
    allow: Sequence[str] = ()
    callbacks: Sequence[Callback] = ()

    def __post_init__(self) -> None:
        _at_least("seed", self.seed, 0)
        for callback in self.callbacks:
            callback.check()
