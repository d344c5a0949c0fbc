"""Predictions for rows that choose the precision of their file.

Responsible for asking, row by row, the model of that row's precision, and for files whose stages differ in it.

A file of two precisions is taken as the sum of its parts: of each stage, the share that it has of the network's
predicted time in its own precision. Shares come from the same weights as the predictions, so for an additive model this
is the sum over stages. What it leaves out are the conversions and changes of layout at borders between stages, and that
weights fitted to whole networks are less sure for parts of them. 32 measured files (``experiments/joint_search``) took
1.2 times as long as that in the median, and up to twice as long: hence `MIXED_FACTOR` and the wide bound of
`MIXED_SPREAD`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nas.device.operators_predictor import OperatorsPredictor
from nas.device.predictor import CostPredictor
from nas.model.deployed_costs import DeployedCosts
from nas.model.features import FEATURE_NAMES
from nas.model.population_costs import PopulationCosts
from nas.space.deployed_rows import DeployedRows
from nas.space.deployment import PRECISIONS
from nas.space.moves import Population
from nas.strategy.screening import Predictor

Floats = NDArray[np.float64]

MIXED_FACTOR = 1.2
"""Times the sum of the predictions of the parts."""

MIXED_SPREAD = 1.95
"""Times the sum of the bounds of the parts: the conformal bound at 95 % of the measured files."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OfBuilt:
    """A predictor of what is built, asked about rows that also say what becomes of it.

    Attributes:
        rows: of the space.
        predictor: takes rows of the space without what becomes of them.
    """

    rows: DeployedRows
    predictor: Predictor

    def predict_ms(self, population: Population) -> Floats:
        """Expected ``(n,)``."""
        return self.predictor.predict_ms(self.rows.built(population))

    def upper_ms(self, population: Population, confidence: float) -> Floats:
        """Bound ``(n,)``."""
        return self.predictor.upper_ms(self.rows.built(population), confidence)


@dataclass(frozen=True, kw_only=True, eq=False)
class ByPrecision:
    """The prediction of each row by the model of its precision.

    Attributes:
        rows: of the space.
        costs: of what is built.
        predictors: precision, as in `nas.space.deployment.PRECISIONS`, -> predictor of what is built.
        shares: precision -> weight of each feature ``(F,)`` in its predictions.
    """

    rows: DeployedRows
    costs: PopulationCosts
    predictors: Mapping[str, Predictor]
    shares: Mapping[str, Floats] = field(default_factory=dict)

    def predict_ms(self, population: Population) -> Floats:
        """Expected ``(n,)``; NaN where a network cannot be built."""
        return self._asked(population, lambda one, rows: one.predict_ms(rows), factor=MIXED_FACTOR)

    def upper_ms(self, population: Population, confidence: float) -> Floats:
        """What is not exceeded with probability ``confidence``: ``(n,)``; see the module for mixed files."""
        return self._asked(population, lambda one, rows: one.upper_ms(rows, confidence), factor=MIXED_SPREAD)

    def _asked(
        self, population: Population, ask: Callable[[Predictor, Population], Floats], *, factor: float
    ) -> Floats:
        rows = np.asarray(population)
        codes, built = self.rows.codes(rows), self.rows.built(rows)
        out = np.full(len(rows), np.nan)
        alike = (codes == codes[:, :1]).all(axis=1)
        for code in np.unique(codes[alike, 0]):
            places = np.flatnonzero(alike & (codes[:, 0] == code))
            out[places] = ask(self.predictors[PRECISIONS[code]], np.asfortranarray(built[places]))
        mixed = np.flatnonzero(~alike)
        if mixed.size:
            out[mixed] = self._mixed(np.asfortranarray(built[mixed]), codes[mixed], ask, factor)
        return out

    def _mixed(
        self,
        built: Population,
        codes: NDArray[np.intp],
        ask: Callable[[Predictor, Population], Floats],
        factor: float,
    ) -> Floats:
        total = np.zeros(len(built))
        moved = np.zeros(len(built), dtype=bool)
        for code in np.unique(codes):
            name = PRECISIONS[code]
            parts = np.maximum(self.costs.by_stage(built, self.shares.get(name, _MACS)), 0.0)
            sums = parts.sum(axis=1)
            own = np.where(codes[:, : parts.shape[1]] == code, parts, 0.0).sum(axis=1)
            share = np.where(sums > 0, own / np.where(sums > 0, sums, 1.0), 0.0)
            total += share * ask(self.predictors[name], built)
            # A stage that the row leaves out costs nothing, and makes no file a mixed one.
            moved |= (share > 0) & (share < 1)
        return total * np.where(moved, factor, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Memories:
    """Figures of rows with the memories of microcontrollers added, in the precision of each row.

    Attributes:
        deployed: figures of the rows.
        devices: names of those that ``ram_bytes.<device>`` and ``flash_bytes.<device>`` are added for.
    """

    deployed: DeployedCosts
    devices: tuple[str, ...]

    def costs(self, population: Population) -> dict[str, Floats]:
        """Metric key -> ``(n,)``; see `DeployedCosts.costs` and `nas.device.card_memory`."""
        found = self.deployed.costs(population)
        for name in self.devices:
            found[f"ram_bytes.{name}"] = found["peak_activation_bytes"]
            found[f"flash_bytes.{name}"] = found["size_bytes"]
        return found

    def buildable(self, population: Population) -> NDArray[np.bool_]:
        """``(n,)``"""
        return self.deployed.buildable(population)


def weights_of(predictor: Predictor) -> Floats:
    """How much each feature counts in a predictor ``(F,)``: its own weights, multiply-accumulates where it has none."""
    if isinstance(predictor, CostPredictor):
        return predictor.formula.weights
    if isinstance(predictor, OperatorsPredictor):
        return predictor.rates
    return _MACS


_MACS = np.array([float(name.endswith(".padded_macs")) for name in FEATURE_NAMES])
