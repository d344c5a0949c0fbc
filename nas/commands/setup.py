"""Step 1 of a search: from settings to checked objects, before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.commands.display import Display
from nas.commands.locate_space import find_space
from nas.commands.settings import SearchSettings
from nas.device.card import Device, load_device
from nas.locate import resource_folder
from nas.model.check import check_space
from nas.model.population_costs import PopulationCosts
from nas.problem.goals import Budget, Objective, budgets_from, objectives_from
from nas.space.space import SearchSpace
from nas.train.task import ImageClassification, image_classification
from nas.units import format_quantity, format_size


@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """What every later step needs.

    Attributes:
        settings: as given.
        space: where to search.
        task: what to learn.
        device: that latencies belong to.
        costs: exact figures of the space's architectures for the task's input.
        objectives: what to push.
        budgets: what must hold.
    """

    settings: SearchSettings
    space: SearchSpace
    task: ImageClassification
    device: Device
    costs: PopulationCosts
    objectives: tuple[Objective, ...]
    budgets: tuple[Budget, ...]

    @property
    def latency_key(self) -> str:
        return f"latency_ms.{self.device.name}"

    @property
    def goals(self) -> list[Objective | Budget]:
        """Objectives and budgets together: what a user asked about."""
        return [*self.objectives, *self.budgets]


def device_folders() -> list[Path]:
    """Folders with device cards and latency models: the user's own, which are written to, then the shipped ones."""
    return [Path("latency_models"), resource_folder("latency_models")]


def prepare(settings: SearchSettings, display: Display) -> Setup:
    """Loads and checks everything that a search is told. Raises `UserError` for what does not fit."""
    device = load_device(settings.device, device_folders())
    objectives = objectives_from(list(settings.objectives), device=device.name)
    budgets = budgets_from(settings.budget, device=device.name, confidence=settings.confidence)
    space = find_space(settings.space) if isinstance(settings.space, str) else settings.space
    task = image_classification(settings.data.load())
    shape, classes, allow = task.input_shape, task.num_classes, tuple(settings.allow)
    check_space(space, input_shape=shape, num_classes=classes, allow=allow)
    display.say("space", f"{space.name}  {format_size(space.size)} architectures (digest {space.digest})")
    display.say("data", task.data.summary())
    threads = f"{device.threads} thread{'s' if device.threads > 1 else ''}"
    display.say("device", f"{device.name}  {device.runtime}, {threads}, batch {device.batch}, {device.precision}")
    for budget in budgets:
        display.say("budget", str(budget))
    costs = PopulationCosts(space, input_shape=shape, num_classes=classes, allow=allow)
    return Setup(
        settings=settings,
        space=space,
        task=task,
        device=device,
        costs=costs,
        objectives=objectives,
        budgets=budgets,
    )


def quantity(setup: Setup, key: str, value: float) -> str:
    """A metric's value with its unit; accuracy in percent."""
    metric = next((goal.metric for goal in setup.goals if goal.key == key), None)
    if metric is None:
        return f"{value:g}"
    return format_quantity(value * 100 if metric.dimension == "share" else value, metric.dimension)
