"""Step 1 of a search: from settings to checked objects, before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.commands.display import Display
from nas.commands.locate_device import device_folders
from nas.commands.locate_space import find_space
from nas.commands.settings import SearchSettings
from nas.deploy.options import DeployOptions
from nas.deploy.quantise import host_activations
from nas.deploy.teacher import distillation_of
from nas.device.card import PRECISIONS as DEVICE_PRECISIONS
from nas.device.card import Device, Precision, load_device, precision_on_device
from nas.device.card_memory import default_limits
from nas.device.energy import check_card
from nas.errors import UserError, unknown_name
from nas.model.check import check_space
from nas.model.deployed_costs import DeployedCosts
from nas.model.population_costs import PopulationCosts
from nas.problem.goals import Budget, Objective, budgets_from, objectives_from
from nas.problem.metrics import METRICS
from nas.space.space import SearchSpace
from nas.train.scores.aggregate import AGGREGATES
from nas.train.scores.network import check_scores
from nas.train.task import ImageClassification, image_classification
from nas.units import counted, format_quantity


@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """What every later step needs.

    Attributes:
        settings: as given.
        space: where to search.
        task: what to learn.
        devices: that latencies belong to, at least one.
        costs: exact figures of what is built for the task's input: of rows of ``space.undeployed``.
        objectives: what to push.
        budgets: what must hold.
    """

    settings: SearchSettings
    space: SearchSpace
    task: ImageClassification
    devices: tuple[Device, ...]
    costs: PopulationCosts
    objectives: tuple[Objective, ...]
    budgets: tuple[Budget, ...]

    @property
    def device(self) -> Device:
        """The first one, which tables and reports begin with."""
        return self.devices[0]

    @property
    def deployed(self) -> DeployedCosts:
        """Exact figures of the space's rows as they are shipped."""
        return DeployedCosts(space=self.space, built=self.costs)

    @property
    def chooses_file(self) -> bool:
        """Whether rows say more than what is built: what becomes of it."""
        return self.space.undeployed is not self.space

    @property
    def goals(self) -> list[Objective | Budget]:
        """Objectives and budgets together: what a user asked about."""
        return [*self.objectives, *self.budgets]


def prepare(settings: SearchSettings, display: Display) -> Setup:
    """Loads and checks everything that a search is told. Raises `UserError` for what does not fit."""
    check_scores(score_names(settings.scores))
    devices = _devices(settings.device)
    names = [device.name for device in devices]
    objectives = objectives_from(list(settings.objectives), device=names)
    budgets = budgets_from(_with_card_limits(settings.budget, devices), device=names, confidence=settings.confidence)
    goals = {*(objective.key for objective in objectives), *(budget.key for budget in budgets)}
    space = find_space(settings.space) if isinstance(settings.space, str) else settings.space
    for device in devices:
        if METRICS["energy"].key(device.name) in goals:
            for precision in searched_precisions(space, device, settings.deploy):
                check_card(device, precision)
    task = image_classification(settings.data.load())
    shape, classes, allow = task.input_shape, task.num_classes, tuple(settings.allow)
    check_space(space, input_shape=shape, num_classes=classes, allow=allow)
    # A teacher that is not there, or does not fit, is told before anything is trained.
    distillation_of(settings.compress, input_shape=shape, num_classes=classes, allow=allow)
    if settings.compress.qat_epochs:
        _note_unrounded(space, settings.deploy, display)
    display.say("space", f"{space.name}  {counted(space.size, 'architecture')} (digest {space.digest})")
    display.say("data", task.data.summary())
    for device in devices:
        display.say("device", describe(device))
    for budget in budgets:
        display.say("budget", str(budget))
    costs = PopulationCosts(space.undeployed, input_shape=shape, num_classes=classes, allow=allow)
    return Setup(
        settings=settings,
        space=space,
        task=task,
        devices=devices,
        costs=costs,
        objectives=objectives,
        budgets=budgets,
    )


def _note_unrounded(space: SearchSpace, deploy: DeployOptions, display: Display) -> None:
    """Says where quantisation-aware training will touch nothing."""
    if "int8" not in (space.precisions or deploy.precisions):
        display.note("compress.qat_epochs has no effect: no file is to be int8")
    elif space.deploy is not None and space.deploy.stages:
        display.note("files of several precisions are quantised by calibration only: compress.qat_epochs is for int8")


def searched_precisions(space: SearchSpace, device: Device, deploy: DeployOptions) -> tuple[Precision, ...]:
    """The precisions whose latency a search bounds and minimises: those that rows choose, else the device's."""
    chosen = [device_precision(name, deploy) for name in space.precisions]
    return tuple(dict.fromkeys(chosen)) or (device.precision,)


def device_precision(exported: str, deploy: DeployOptions) -> Precision:
    """The precision of a device for that of a file that is going to be exported."""
    wanted = precision_on_device(exported, deploy.activations or host_activations())
    for name in DEVICE_PRECISIONS:
        if name == wanted:
            return name
    raise unknown_name("precision", "precision that latencies are known in", exported, DEVICE_PRECISIONS)


def describe(device: Device) -> str:
    """``pixel-3  onnxruntime, 1 thread, batch 1, float32, ssh pi@pixel``"""
    threads = f"{device.threads} thread{'s' if device.threads > 1 else ''}"
    return f"{device.name}  {device.runtime}, {threads}, batch {device.batch}, {device.precision}, {device.where}"


def score_names(given: Sequence[str]) -> tuple[str, ...]:
    """The scores that names of scores and of aggregates mean, each once."""
    return tuple(dict.fromkeys(name for one in given for name in AGGREGATES.get(one, (one,))))


def _with_card_limits(budget: Mapping[str, object], devices: Sequence[Device]) -> dict[str, object]:
    """The budgets with the memory of microcontrollers, where the user says nothing else."""
    limits = dict(budget)
    for name in {name for device in devices for name in default_limits(device)}:
        if limits.get(name) is None:
            limits[name] = {one.name: own[name] for one in devices if name in (own := default_limits(one))}
    return limits


def _devices(names: str | Sequence[str]) -> tuple[Device, ...]:
    given = [names] if isinstance(names, str) else list(names)
    if not given:
        raise UserError("device", "must name at least one device, got none")
    if len(set(given)) != len(given):
        raise UserError("device", f"must name each device once, got {given}")
    return tuple(load_device(name, device_folders()) for name in given)


def quantity(setup: Setup, key: str, value: float) -> str:
    """A metric's value with its unit; accuracy in percent."""
    metric = next((goal.metric for goal in setup.goals if goal.key == key), None)
    if metric is None:
        return f"{value:g}"
    return format_quantity(value * 100 if metric.dimension == "share" else value, metric.dimension)
