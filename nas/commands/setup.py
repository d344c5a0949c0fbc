"""Step 1 of a search: from settings to checked objects, before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.commands.display import Display
from nas.commands.locate_device import device_folders
from nas.commands.locate_space import find_space
from nas.commands.settings import SearchSettings
from nas.device.card import Device, load_device
from nas.device.card_memory import default_limits
from nas.device.energy import check_card
from nas.errors import UserError
from nas.model.check import check_space
from nas.model.population_costs import PopulationCosts
from nas.problem.goals import Budget, Objective, budgets_from, objectives_from
from nas.problem.metrics import METRICS
from nas.space.space import SearchSpace
from nas.train.scores.aggregate import AGGREGATES
from nas.train.scores.network import check_scores
from nas.train.task import ImageClassification, image_classification
from nas.units import format_quantity, format_size


@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """What every later step needs.

    Attributes:
        settings: as given.
        space: where to search.
        task: what to learn.
        devices: that latencies belong to, at least one.
        costs: exact figures of the space's architectures for the task's input.
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
    for device in devices:
        if METRICS["energy"].key(device.name) in goals:
            check_card(device, device.precision)
    space = find_space(settings.space) if isinstance(settings.space, str) else settings.space
    task = image_classification(settings.data.load())
    shape, classes, allow = task.input_shape, task.num_classes, tuple(settings.allow)
    check_space(space, input_shape=shape, num_classes=classes, allow=allow)
    display.say("space", f"{space.name}  {format_size(space.size)} architectures (digest {space.digest})")
    display.say("data", task.data.summary())
    for device in devices:
        display.say("device", describe(device))
    for budget in budgets:
        display.say("budget", str(budget))
    costs = PopulationCosts(space, input_shape=shape, num_classes=classes, allow=allow)
    return Setup(
        settings=settings,
        space=space,
        task=task,
        devices=devices,
        costs=costs,
        objectives=objectives,
        budgets=budgets,
    )


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
