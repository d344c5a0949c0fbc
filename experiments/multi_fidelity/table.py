"""NAS-Bench-201 as a training that takes no time: accuracy after 12 epochs (validation) and after 200 (test).

Responsible for reading the public tables, and for evaluations at either fidelity.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.locate import resource_folder
from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.front import hypervolume, non_dominated
from nas.problem.goals import objectives_from
from nas.space.load import load_space
from nas.space.space import SearchSpace
from nas.strategy.problem import Population, Screening, SearchProblem

Floats = NDArray[np.float64]

LOW, HIGH = Fidelity(epochs=12), Fidelity(epochs=200)
LABELS = {0: "none", 1: "skip_connect", 2: "nor_conv_1x1", 3: "nor_conv_3x3", 4: "avg_pool_3x3"}
EDGES = ("op_0>1", "op_0>2", "op_1>2", "op_0>3", "op_1>3", "op_2>3")
REFERENCE = np.array([1.1, 1.1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """All cells, in the order of `places`.

    Attributes:
        space: of the cells.
        accuracy: fidelity -> ``(n,)`` share.
        latency_ms: ``(n,)`` on one device.
        macs: ``(n,)`` in millions.
        device: its name.
    """

    space: SearchSpace
    accuracy: dict[Fidelity, Floats]
    latency_ms: Floats
    macs: Floats
    device: str

    @property
    def key(self) -> str:
        """Of the latency."""
        return f"latency_ms.{self.device}"

    def places(self, population: Population) -> NDArray[np.int64]:
        """``(n,)`` place of each row."""
        return np.asarray(population, dtype=np.int64) @ 5 ** np.arange(5, -1, -1)

    def screen(self, population: Population) -> Screening:
        """Latency and MACs are known."""
        places = self.places(population)
        usable = self.latency_ms[places] > 0
        predicted = {self.key: self.latency_ms[places], "macs": self.macs[places]}
        return Screening(feasible=usable, buildable=usable, predicted=predicted)

    def problem(self) -> SearchProblem:
        """Accuracy against latency."""
        objectives = objectives_from(["accuracy", "latency"], device=self.device)
        return SearchProblem(space=self.space, objectives=objectives, screen=self.screen)

    def __call__(self, candidate: Candidate) -> Evaluation:
        """What a training would give."""
        place = int(self.places(np.array([candidate.architecture.row]))[0])
        metrics = {"accuracy": float(self.accuracy[candidate.fidelity][place])}
        return Evaluation(candidate=candidate, status="complete", metrics=metrics)

    def points(self, fidelity: Fidelity = HIGH) -> Floats:
        """``(n, 2)`` error and latency; infinite latency where it is not usable."""
        latency = np.where(self.latency_ms > 0, self.latency_ms, np.inf)
        return np.column_stack([1 - self.accuracy[fidelity], latency])


class Scorer:
    """Share of the true front's hypervolume, both objectives scaled by the front's ends, reference (1.1, 1.1)."""

    def __init__(self, points: Floats) -> None:
        front = points[non_dominated(points) & np.isfinite(points).all(axis=1)]
        self._low, self._width = front.min(axis=0), np.ptp(front, axis=0)
        self._full = hypervolume(self._scaled(front), REFERENCE)

    def _scaled(self, points: Floats) -> Floats:
        return np.clip((points - self._low) / self._width, 0.0, REFERENCE)

    def share(self, points: Floats) -> float:
        """Of evaluated points ``(n, 2)``."""
        return hypervolume(self._scaled(points), REFERENCE) / self._full if len(points) else 0.0


def read_table(folder: Path, device: str, *, smallest_ms: float = 0.05) -> Table:
    """The table in ``folder/nasbench201``; latencies below ``smallest_ms`` are of cells that folded away."""
    accuracy = pd.read_parquet(folder / "nasbench201" / "accuracy.parquet").set_index("index")
    latency = pd.read_parquet(folder / "nasbench201" / "latency_ms.parquet").set_index("index")[device]
    space = load_space(resource_folder("search_spaces") / "nasbench201.yaml")
    columns = []
    for choice, edge in zip(space.choices, EDGES, strict=True):
        place = {label: k for k, label in enumerate(choice.labels)}
        columns.append(accuracy[edge].map(lambda code, place=place: place[LABELS[int(code)]]).to_numpy())
    order = np.argsort(np.stack(columns, axis=1) @ 5 ** np.arange(5, -1, -1))
    values = latency.loc[accuracy.index].to_numpy(dtype=np.float64)[order]
    return Table(
        space=space,
        accuracy={
            LOW: accuracy["cifar10_validation_accuracy_12_epochs"].to_numpy(dtype=np.float64)[order] / 100,
            HIGH: accuracy["cifar10_test_accuracy_200_epochs"].to_numpy(dtype=np.float64)[order] / 100,
        },
        latency_ms=np.where(values >= smallest_ms, values, 0.0),
        macs=accuracy["macs_million"].to_numpy(dtype=np.float64)[order],
        device=device,
    )
