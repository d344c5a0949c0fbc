"""What latency models are about: the architectures of a space on an input, and the device that runs them."""

from __future__ import annotations

from dataclasses import dataclass

from nas.commands.setup import Setup
from nas.commands.setup import device_precision as device_precision
from nas.deploy.options import DeployOptions
from nas.device.card import Device, Precision
from nas.device.predictor import Scope
from nas.model.population_costs import PopulationCosts
from nas.space.space import SearchSpace


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """Architectures, their files, and a device.

    Attributes:
        space: of the architectures, without what becomes of them (`SearchSpace.undeployed`).
        input_shape: channels, height, width of the data.
        num_classes: of the classifier.
        costs: exact figures of the architectures for that input.
        device: that runs the files.
        deploy: how files are made.
        allow: packages that custom operators may come from.
    """

    space: SearchSpace
    input_shape: tuple[int, int, int]
    num_classes: int
    costs: PopulationCosts
    device: Device
    deploy: DeployOptions
    allow: tuple[str, ...] = ()

    @classmethod
    def of(cls, setup: Setup, device: Device) -> Subject:
        """The subject of a search on one of its devices."""
        return cls(
            space=setup.space.undeployed,
            input_shape=setup.task.input_shape,
            num_classes=setup.task.num_classes,
            costs=setup.costs,
            device=device,
            deploy=setup.settings.deploy,
            allow=tuple(setup.settings.allow),
        )

    def scope(self, precision: Precision) -> Scope:
        """What a latency model for this precision is about."""
        return Scope(
            space=self.space,
            input_shape=self.input_shape,
            num_classes=self.num_classes,
            device=self.device,
            precision=precision,
        )
