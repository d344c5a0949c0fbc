"""Energy of a search's files: estimated for every device that a goal is on, measured where this machine counts it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.commands.display import Display
from nas.commands.latency import DeviceModels
from nas.commands.setup import Setup
from nas.commands.subject import Subject
from nas.deploy.manifest import FileEnergy
from nas.device.card import Device, Precision
from nas.device.counters import EnergyMeter, Powercap
from nas.device.energy import EnergyMeasurement, EnergyPredictor, measure_energy
from nas.device.session import ready
from nas.device.where.places import Local
from nas.errors import UserError
from nas.space.moves import Population

_SOURCE = "RAPL, the processor packages"


def is_asked(setup: Setup, on: DeviceModels) -> bool:
    """Whether a goal of the search is on the energy of a device."""
    return any(goal.key == on.energy_key for goal in setup.goals)


def energy_predictor(setup: Setup, on: DeviceModels, precision: Precision) -> EnergyPredictor:
    """The estimate for files of a precision. Raises `UserError` where the device's card gives no energies."""
    latency = on.predictor(precision) or on.searched
    return EnergyPredictor.for_scope(Subject.of(setup, on.device).scope(precision), setup.costs, latency)


def file_energies(
    setup: Setup, on: DeviceModels, files: Sequence[tuple[Path, Population, Precision]], display: Display
) -> dict[Path, FileEnergy]:
    """Energy of each file on a device; {} where no goal is on it.

    Args:
        setup: goals and confidence.
        on: the device.
        files: path, row ``(1, m)`` and precision of each.
        display: is told where nothing counts the energy.
    """
    if not is_asked(setup, on):
        return {}
    meter = _meter(on.device, display)
    confidence, found = setup.settings.confidence, {}
    for number, (path, row, precision) in enumerate(files):
        predictor = energy_predictor(setup, on, precision)
        found[path] = FileEnergy(
            predicted_mj=float(predictor.predict_mj(row)[0]),
            upper_mj=float(predictor.upper_mj(row, confidence)[0]),
            confidence=confidence,
            source=predictor.source,
            measured=None if meter is None else _measured(path, on.device, meter),
        )
        if meter is not None:
            display.progress("energy", number + 1, len(files), text=f"files on {on.device.name}")
    return found


def _meter(device: Device, display: Display) -> EnergyMeter | None:
    """What counts energy on the device; None, with a note, where nothing does."""
    if not isinstance(device.where, Local) or device.kind != "cpu":
        display.note(f"energies on {device.name} are estimated from its card: nothing here counts them")
        return None
    try:
        return Powercap.find()
    except UserError as error:
        display.note(f"energies on {device.name} are estimated from its card: {error}")
        return None


def _measured(path: Path, device: Device, meter: EnergyMeter) -> EnergyMeasurement:
    model = ready(path, device)
    model.warm_up(3)
    return measure_energy(lambda: model.warm_up(1), meter, source=_SOURCE)
