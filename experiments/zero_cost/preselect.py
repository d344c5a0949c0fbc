"""Does it pay to pass over what scores worst before there are labels?

Usage: python experiments/zero_cost/preselect.py FOLDER [--seeds 20], with FOLDER/nasbench201.csv from `run.py`.

The scored cells of NAS-Bench-201 are the whole space; a search trains one of them at a time and sees its 12-epoch
validation error, and is judged by the 200-epoch test error against a latency: hypervolume of the front found over that
of the true one, both objectives scaled by its ideal and nadir, reference point (1.1, 1.1). Scores are taken from the
file.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from spaces import data_folder, nasbench201

from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.front import hypervolume, non_dominated
from nas.problem.goals import Objective
from nas.problem.history import History
from nas.problem.metrics import Metric
from nas.space.space import SearchSpace
from nas.strategy.cost_fronts import CostFronts
from nas.strategy.problem import Population, Screening, SearchProblem, SearchStrategy
from nas.strategy.random_search import RandomSearch
from nas.strategy.surrogate.strategy import Surrogate
from nas.train.scores.aggregate import AGGREGATES
from nas.train.scores.preselect import Preselect

Floats = NDArray[np.float64]
DEVICES = ("pixel3", "silver_4114", "titanx_1")
SETS: dict[str, tuple[str, ...]] = {**AGGREGATES, "naswot": ("naswot",), "meco": ("meco",), "synflow": ("synflow",)}
STRATEGIES: dict[str, SearchStrategy] = {
    "random": RandomSearch(),
    "cost-fronts": CostFronts(),
    "surrogate": Surrogate(),
}
LOOKED_AT = (5, 10, 20, 30, 50)


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """Figures of rows that are in a table, NaN for others."""

    places: Mapping[bytes, int]
    figures: Mapping[str, Floats]

    def __call__(self, rows: Population) -> dict[str, Floats]:
        at = np.array([self.places.get(row.tobytes(), -1) for row in np.asarray(rows, dtype=np.int16)], dtype=np.int64)
        return {name: np.where(at >= 0, values[at], np.nan) for name, values in self.figures.items()}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One latency against the error."""

    space: SearchSpace
    rows: Population
    judged: Floats
    truth: Floats
    known: Lookup

    def search_problem(self) -> SearchProblem:
        objectives = tuple(
            Objective(key=key, metric=Metric(name=key, short=key, dimension="count", known_before_training=known))
            for key, known in (("error", False), ("latency", True))
        )
        return SearchProblem(space=self.space, objectives=objectives, screen=self._screen, rows=self.rows)

    def _screen(self, rows: Population) -> Screening:
        figures = self.known(rows)
        there = np.isfinite(figures["latency"])
        return Screening(feasible=there, buildable=there, predicted=figures)

    def search(self, strategy: SearchStrategy, budget: int, seed: int) -> Floats:
        """``(budget,)`` relative hypervolume after each training."""
        problem, history, rng = self.search_problem(), History(), np.random.default_rng(seed)
        low, high = self.truth[non_dominated(self.truth)].min(axis=0), self.truth[non_dominated(self.truth)].max(axis=0)
        scaled = np.clip((self.truth - low) / (high - low), 0, 1.1)
        reference = np.array([1.1, 1.1])
        whole, found, values = hypervolume(scaled, reference), [], []
        for index in range(budget):
            rows = strategy.propose(problem, history, np.zeros((0, self.space.num_choices), np.int16), 1, rng)
            if len(rows) == 0:
                values.extend([values[-1]] * (budget - index))
                break
            place = self.known.places[rows[0].tobytes()]
            found.append(place)
            candidate = Candidate(
                index=index,
                architecture=self.space.architecture(rows[0]),
                fidelity=Fidelity(epochs=12),
                seed=0,
                predicted={"latency": float(self.truth[place, 1])},
            )
            metrics = {"error": float(self.judged[place])}
            history.append(Evaluation(candidate=candidate, status="complete", metrics=metrics))
            values.append(hypervolume(scaled[found], reference) / whole)
        return np.array(values)


def problems(scored: pd.DataFrame) -> dict[str, Problem]:
    """A problem a device, over the scored cells."""
    table = nasbench201()
    latency = pd.read_parquet(data_folder() / "nasbench201" / "latency_ms.parquet")
    found = {}
    for device in DEVICES:
        values = latency[device].to_numpy(dtype=np.float64)[scored["place"].to_numpy()]
        there = values > 0.05
        at = scored["place"].to_numpy()[there]
        rows = np.ascontiguousarray(table.rows[at])
        found[device] = Problem(
            space=table.space,
            rows=rows,
            judged=100 - table.accuracies["validation, 12 epochs"][at],
            truth=np.column_stack([100 - table.accuracies["test, 200 epochs"][at], values[there]]),
            known=Lookup(
                places={row.tobytes(): k for k, row in enumerate(rows)},
                figures={"latency": values[there], "macs": scored["macs"].to_numpy(dtype=np.float64)[there]},
            ),
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    scored = pd.read_csv(options.folder / "nasbench201.csv").query("seed == 0").sort_values("place")
    everything = problems(scored)
    lines = []
    for name in options.strategies:
        for chosen in ("none", *options.sets):
            curves = []
            for problem in everything.values():
                used = STRATEGIES[name]
                if chosen != "none":
                    columns = scored.set_index("place").loc[:, list(SETS[chosen])]
                    table = nasbench201()
                    by_row = {table.rows[place].tobytes(): k for k, place in enumerate(columns.index)}
                    figures = {key: columns[key].to_numpy(dtype=np.float64) for key in columns}
                    used = Preselect(strategy=used, scores=Lookup(places=by_row, figures=figures))
                curves += [problem.search(used, LOOKED_AT[-1], seed) for seed in range(options.seeds)]
            at = np.mean(curves, axis=0)
            error = np.std(curves, axis=0) / len(curves) ** 0.5
            line = {"strategy": name, "scores": chosen}
            line |= {str(k): f"{at[k - 1]:.3f} ± {error[k - 1]:.3f}" for k in LOOKED_AT}
            lines.append(line)
            print(line, flush=True)
    print(f"{len(scored)} cells, {len(everything)} latencies, {options.seeds} seeds each")
    print(pd.DataFrame(lines).to_string(index=False))


if __name__ == "__main__":
    main()
