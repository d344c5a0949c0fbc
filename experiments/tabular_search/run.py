"""Strategies on a table of architectures: how much of the true front after how many evaluations.

    python experiments/tabular_search/run.py --table T.parquet --choices c1,c2,c3 --expensive error \\
        --cheap latency_ms,macs --strategies surrogate,cost-fronts,optuna-gp --budget 200 --seeds 20 --out r.csv

Strategies are those of conf/strategy, and peers (see peers.py) where their library is installed. Duplicates and rows
that the table does not hold are free for everyone.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import yaml
from peers import PATIENCE, PEERS, is_installed
from score import Scorer, median_evaluations
from table import Table, TableProblem, problem_of, read_table

from nas.errors import UserError, unknown_name
from nas.locate import resource_folder
from nas.problem.history import History
from nas.space.load import load_space
from nas.strategy.problem import Population, SearchStrategy

COLUMNS = ("strategy", "seed", "evaluation", "hypervolume", "seconds")
AT = (25, 50, 100, 200)
LEVELS = (0.95, 0.98, 0.99)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the experiment; 2 for a mistake in the arguments or in the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="Parquet file, one architecture a row")
    parser.add_argument("--choices", required=True, help="columns of category codes or labels, comma-separated")
    parser.add_argument("--expensive", required=True, help="column to minimise that an evaluation tells")
    parser.add_argument("--cheap", required=True, help="columns known before; the first is minimised, too")
    parser.add_argument("--strategies", default="surrogate,cost-fronts,pareto-local-search,nsga2,random")
    parser.add_argument("--budget", type=int, default=200, help="evaluations a search")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--space", default=None, help="name or path of a space whose networks the rows are")
    parser.add_argument("--cheap-noise", type=float, default=0.0, help="relative error of the first cheap column")
    parser.add_argument("--valid", default=None, help="column that the search sees instead of the expensive one")
    given = parser.parse_args(arguments)
    try:
        run(given)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run(given: argparse.Namespace) -> None:
    """Searches, writes the rows as they come, and prints the summary."""
    if given.budget < 1 or given.seeds < 1 or not 0 <= given.cheap_noise < 1:
        raise UserError("arguments", "must have budget and seeds of at least 1, and noise from 0 to below 1")
    names = given.strategies.split(",")
    strategies = {name: None if name in PEERS else strategy_named(name) for name in names}
    table = read_table(
        given.table,
        choices=given.choices.split(","),
        expensive=given.expensive,
        cheap=given.cheap.split(","),
        valid=given.valid,
        structure=space_named(given.space) if given.space else None,
    )
    scorer = Scorer(table.points)
    print(
        f"{given.table.name}: {len(table.rows)} architectures ({table.dropped} rows left out), {table.space.size} in"
        f" the space; true front of {scorer.front_size}; budget {given.budget}, {given.seeds} seeds"
    )
    curves: dict[str, list[np.ndarray]] = {}
    seconds: dict[str, list[float]] = {}
    with given.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for name, strategy in strategies.items():
            if strategy is None and not is_installed(name):
                print(f"{name}: left out, {PEERS[name][0]} is not installed")
                continue
            for seed in range(given.seeds):
                problem = problem_of(table, noise=given.cheap_noise, rng=np.random.default_rng([seed, 1]))
                places, took = search(problem, name, strategy, given.budget, seed)
                curve = scorer.curve(table.points[places])
                curves.setdefault(name, []).append(curve)
                seconds.setdefault(name, []).extend(took)
                writer.writerows((name, seed, k + 1, f"{value:.6f}", f"{took[k]:.6f}") for k, value in enumerate(curve))
                file.flush()
    summarise(curves, seconds)


def strategy_named(name: str) -> SearchStrategy:
    """The strategy that conf/strategy/<name>.yaml describes."""
    folder = resource_folder("conf") / "strategy"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in folder.glob("*.yaml")]
        raise unknown_name("--strategies", "strategy", name, [*known, *PEERS])
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    module, _, kind = settings.pop("_target_").rpartition(".")
    strategy: SearchStrategy = getattr(importlib.import_module(module), kind)(**settings)
    return strategy


def space_named(name: str) -> object:
    """The space of a name or path."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        folder = resource_folder("search_spaces")
        path = folder / f"{name}.yaml"
        if not path.is_file():
            raise unknown_name("--space", "space", name, [file.stem for file in folder.glob("*.yaml")])
    return load_space(path)


def search(
    problem: TableProblem, name: str, strategy: SearchStrategy | None, budget: int, seed: int
) -> tuple[np.ndarray, list[float]]:
    """Places in the table in the order of evaluation, and the seconds of each proposal."""
    budget = min(budget, len(problem.table.rows))
    rows = _of_peer(problem, name, budget, seed) if strategy is None else _of_strategy(problem, strategy, seed)
    places: list[int] = []
    took: list[float] = []
    start = time.perf_counter()
    for row in rows:
        took.append(time.perf_counter() - start)
        places.append(int(problem.costs.places(row[None])[0]))
        if len(places) == budget:
            break
        start = time.perf_counter()
    return np.array(places), took


def _of_strategy(problem: TableProblem, strategy: SearchStrategy, seed: int) -> Iterator[Population]:
    history = History()
    none = np.zeros((0, problem.table.space.num_choices), dtype=np.int16)
    while True:
        rng = np.random.default_rng([seed, len(history)])
        rows = strategy.propose(problem.problem, history, none, 1, rng)
        if len(rows) == 0:
            return
        yield rows[0]
        history.append(problem.evaluation(len(history), rows[0]))


def _of_peer(problem: TableProblem, name: str, budget: int, seed: int) -> Iterator[Population]:
    table: Table = problem.table
    cheap = next(iter(problem.costs.costs(table.rows).values()))
    told: dict[bytes, tuple[float, float]] = {}
    rng = np.random.default_rng([seed, 2])
    fruitless = 0
    for row in PEERS[name][1](problem, budget, seed, told):
        place = int(problem.costs.places(row[None])[0])
        if place < 0 or row.tobytes() in told:
            fruitless += 1
            if fruitless < PATIENCE:
                continue
            left = [k for k, other in enumerate(table.rows) if other.tobytes() not in told]
            place = int(rng.choice(left))
        fruitless = 0
        found = table.rows[place]
        yield found
        told[found.tobytes()] = (float(table.judged[place]), float(cheap[place]))


def summarise(curves: dict[str, list[np.ndarray]], seconds: dict[str, list[float]]) -> None:
    """Prints mean and standard deviation of the hypervolume, and median evaluations to each level."""
    at = [f"at {k}" for k in AT]
    to = [f"to {level}" for level in LEVELS]
    print("| strategy | " + " | ".join([*at, *to, "ms a proposal"]) + " |")
    print("|---" * (len(AT) + len(LEVELS) + 2) + "|")
    for name, found in curves.items():
        cells = []
        for k in AT:
            values = [curve[k - 1] for curve in found if len(curve) >= k]
            cells.append(f"{np.mean(values):.4f} ± {np.std(values):.4f}" if values else "-")
        for level in LEVELS:
            median = median_evaluations(found, level)
            cells.append(f"{median:.0f}" if np.isfinite(median) else f"> {max(len(curve) for curve in found)}")
        cells.append(f"{1000 * np.mean(seconds[name]):.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    sys.exit(main())
