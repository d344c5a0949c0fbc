"""What a search knows of an architecture before training: exact figures, latencies and energies of its devices.

Responsible for putting the predictors of all goals into one `Screen`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.commands.by_precision import Memories
from nas.commands.energy import energy_predictor, is_asked
from nas.commands.latency import DeviceModels, latency_of_rows, row_predictor
from nas.commands.setup import Setup
from nas.device.card import Precision
from nas.device.card_memory import DeviceCosts
from nas.device.energy import ScreenedEnergy
from nas.problem.metrics import METRICS
from nas.space.moves import Population, sample
from nas.strategy.screening import Costs, Predictor, Screen

WORST = METRICS["latency_worst"].name
_STREAM = 5  # of the seed
_SAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class WorstLatency:
    """The largest of an architecture's latencies, each relative to what counts as 1 on its device.

    Attributes:
        predictors: metric key -> predictor.
        units_ms: metric key -> what counts as 1: the budget there, else the median of the space.
    """

    predictors: Mapping[str, Predictor]
    units_ms: Mapping[str, float]

    def predict_ms(self, population: Population) -> NDArray[np.float64]:
        """Expected ``(n,)``, without unit; NaN where a network cannot be built."""
        shares = [one.predict_ms(population) / self.units_ms[key] for key, one in self.predictors.items()]
        return np.asarray(np.max(shares, axis=0))

    def upper_ms(self, population: Population, confidence: float) -> NDArray[np.float64]:
        """The largest of the bounds ``(n,)``, without unit: each of them holds with ``confidence``."""
        shares = [one.upper_ms(population, confidence) / self.units_ms[key] for key, one in self.predictors.items()]
        return np.asarray(np.max(shares, axis=0))


def search_screen(setup: Setup, models: Sequence[DeviceModels]) -> Screen:
    """The screen of a search. Raises `UserError` for an energy goal on a device whose card cannot give it."""
    predictors: dict[str, Predictor] = {on.key: latency_of_rows(setup, on) for on in models}
    for on in models:
        if is_asked(setup, on):
            predictors[on.energy_key] = _energy(setup, on)
    if any(goal.key == WORST for goal in setup.goals):
        latencies = {on.key: predictors[on.key] for on in models}
        predictors[WORST] = WorstLatency(predictors=latencies, units_ms=_units_ms(setup, latencies))
    return Screen(
        costs=_costs(setup), predictors=predictors, budgets=setup.budgets, confidence=setup.settings.confidence
    )


def units_ms(screen: Screen) -> Mapping[str, float]:
    """Metric key of a device's latency -> what counts as 1 in the worst of them; {} where that is no goal."""
    worst = screen.predictors.get(WORST)
    return worst.units_ms if isinstance(worst, WorstLatency) else {}


def _energy(setup: Setup, on: DeviceModels) -> Predictor:
    def known(precision: Precision) -> Predictor:
        return ScreenedEnergy(energy=energy_predictor(setup, on, precision))

    return row_predictor(setup, known, precision=None if setup.space.precisions else on.device.precision)


def _costs(setup: Setup) -> Costs:
    """Exact figures; those of microcontrollers only where a goal is on one, so that histories hold no others."""
    names = {METRICS["ram"].name, METRICS["flash"].name}
    asked = any(goal.key.partition(".")[0] in names for goal in setup.goals)
    if setup.space.precisions:
        devices = tuple(device.name for device in setup.devices)
        return Memories(deployed=setup.deployed, devices=devices if asked else ())
    if setup.chooses_file:
        return setup.deployed
    return DeviceCosts(exact=setup.costs, devices=setup.devices if asked else ())


def _units_ms(setup: Setup, latencies: Mapping[str, Predictor]) -> dict[str, float]:
    limits = {budget.key: budget.limit for budget in setup.budgets}
    rows = sample(setup.space, _SAMPLES, np.random.default_rng([setup.settings.seed, _STREAM]))
    return {
        key: limits[key] if key in limits else float(np.nanmedian(predictor.predict_ms(rows)))
        for key, predictor in latencies.items()
    }
