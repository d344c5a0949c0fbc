"""RAM and flash of a microcontroller: figures of architectures that budgets hold against its card.

Responsible for what a network takes beside the program that runs it.

RAM is the arena of an interpreter like TensorFlow Lite Micro [David2021]: activations by their lifetimes on the fused
graph (`nas.model.fusion.peak_bytes`), in the bytes of the precision. Flash is the file: weights in the precision, and
the graph around them. Neither holds the program: what that takes stands in a card as ``ram_reserved`` and
``flash_reserved``, and is taken off the limits (`default_limits`).

Scratch memory within kernels is left out: kernels that unfold windows (CMSIS-NN, ESP-NN) take up to two windows of
16-bit inputs more, some kilobytes. Leave them room with ``ram_reserved``.

References:
    [David2021] R. David et al. TensorFlow Lite Micro: Embedded Machine Learning on TinyML Systems. MLSys 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.device.card import BYTES_PER_VALUE, WIDTHS, Device, Precision
from nas.model.population_costs import PopulationCosts
from nas.space.moves import Population

_FLOAT_BYTES = BYTES_PER_VALUE["float32"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceCosts:
    """Figures of populations with those of devices added; asked in place of the `PopulationCosts` within.

    Attributes:
        exact: figures of the space.
        devices: for whose precision ``ram_bytes.<device>`` and ``flash_bytes.<device>`` are added.
    """

    exact: PopulationCosts
    devices: tuple[Device, ...]

    def costs(self, population: Population) -> dict[str, NDArray[np.float64]]:
        """Metric key -> ``(n,)``; NaN where a row cannot be built. Raises `UserError` as the figures within do."""
        found = self.exact.costs(population)
        weight_bytes = self.exact.weighted(population, _weight_bytes(self.exact.feature_names))
        for device in self.devices:
            found[f"ram_bytes.{device.name}"] = ram_bytes(found, device.precision)
            found[f"flash_bytes.{device.name}"] = flash_bytes(found, weight_bytes, device.precision)
        return found

    def buildable(self, population: Population) -> NDArray[np.bool_]:
        """As `PopulationCosts.buildable`: ``(n,)``."""
        return self.exact.buildable(population)


def ram_bytes(costs: Mapping[str, NDArray[np.float64]], precision: Precision) -> NDArray[np.float64]:
    """Arena of one sample ``(n,)`` from the exact figures of float32 files."""
    return costs["peak_activation_bytes"] * (WIDTHS[precision].activations / _FLOAT_BYTES)


def flash_bytes(
    costs: Mapping[str, NDArray[np.float64]], weight_bytes: NDArray[np.float64], precision: Precision
) -> NDArray[np.float64]:
    """Bytes of the file ``(n,)``.

    Args:
        costs: exact figures of float32 files.
        weight_bytes: ``(n,)``, of weights and biases in float32.
        precision: of the file. INT8 files also hold scales of channels and biases of 32 bits, which are left out;
            the weights of INT4 files are counted as of 8 bits, as those of convolutions are.
    """
    graph = costs["size_bytes"] - weight_bytes
    return np.asarray(graph + weight_bytes * (WIDTHS[precision].weights / _FLOAT_BYTES))


def default_limits(device: Device) -> dict[str, str]:
    """Budgets that a microcontroller's card implies where a user gives none: its memories, minus what is reserved.

    Returns:
        ``ram`` and ``flash`` as `nas.problem.goals.budgets_from` takes them, where the card knows them; {} for other
        kinds of devices.
    """
    if device.kind != "microcontroller":
        return {}
    known = {name: figure.value for name, figure in device.memory.items()}
    left = {name: known[name] - known.get(f"{name}_reserved", 0.0) for name in ("ram", "flash") if name in known}
    return {name: f"{value:.0f} B" for name, value in left.items() if value > 0}


def _weight_bytes(feature_names: tuple[str, ...]) -> NDArray[np.float64]:
    """``(F,)``: 1 where a feature counts bytes of weights."""
    return np.array([float(name.endswith(".weight_bytes")) for name in feature_names])
