"""Several fidelities in one search, and warm starts, on NAS-Bench-201: the search loop itself on a table of trainings.

    python experiments/multi_fidelity/run.py --data DATA halving --out halving.csv
    python experiments/multi_fidelity/run.py --data DATA warm-start --out warm.csv

DATA holds ``nasbench201`` (accuracy.parquet, latency_ms.parquet). ``cifar10.py`` beside it is the real one.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from table import HIGH, LOW, Floats, Scorer, Table, read_table

from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.history import History
from nas.run.loop import LoopOptions, search_loop
from nas.run.serial import SerialSession
from nas.strategy.fidelities import fitted_to
from nas.strategy.halving import Halving, at_fidelity
from nas.strategy.nsga2 import NSGA2
from nas.strategy.problem import SearchStrategy
from nas.strategy.random_search import RandomSearch
from nas.strategy.surrogate.strategy import Surrogate

STRATEGIES: dict[str, SearchStrategy] = {"surrogate": Surrogate(), "nsga2": NSGA2(), "random": RandomSearch()}
AT = (1000, 2000, 4000, 6000, 8000, 12000)


class Kept:
    """A store in memory."""

    def append(self, evaluation: Evaluation) -> None:
        """The history holds it."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A training whose accuracy is another one's: what an earlier search on other data would have seen.

    Attributes:
        table: of the cells.
        accuracy: ``(n,)`` share, told at any fidelity.
    """

    table: Table
    accuracy: Floats

    def __call__(self, candidate: Candidate) -> Evaluation:
        """What that training would give."""
        place = int(self.table.places(np.array([candidate.architecture.row]))[0])
        return Evaluation(candidate=candidate, status="complete", metrics={"accuracy": float(self.accuracy[place])})


def search(
    table: Table,
    strategy: SearchStrategy,
    rungs: tuple[Fidelity, ...],
    *,
    candidates: int,
    seed: int,
    eta: int = 3,
    earlier: Sequence[History] = (),
    work: Told | Table | None = None,
) -> History:
    """The history of one search on one worker."""
    problem, history = table.problem(), History()
    fitted = fitted_to(strategy, problem, rungs, earlier=earlier)
    halving = Halving(rungs=rungs, eta=eta) if len(rungs) > 1 else None
    options = LoopOptions(num_candidates=candidates, fidelity=rungs[0], seed=seed, halving=halving)
    with SerialSession(work or table) as session:
        search_loop(problem, fitted, session, history, Kept(), options=options)
    return history


def curve(table: Table, history: History, scorer: Scorer) -> tuple[Floats, Floats]:
    """``(n,)`` epochs spent and hypervolume share of what was judged at 200 epochs, after each evaluation."""
    points = table.points()
    epochs = np.cumsum([evaluation.candidate.fidelity.epochs for evaluation in history]).astype(np.float64)
    judged, shares = [], []
    places = table.places(history.rows)
    for evaluation, place in zip(history, places, strict=True):
        if evaluation.candidate.fidelity == HIGH:
            judged.append(place)
        shares.append(scorer.share(points[judged]))
    return epochs, np.array(shares)


def halving(given: argparse.Namespace) -> list[dict[str, object]]:
    """Ladders against trainings in full."""
    arms = {"200": ((HIGH,), 3), **{f"12,200 eta {eta}": ((LOW, HIGH), int(eta)) for eta in given.eta.split(",")}}
    rows: list[dict[str, object]] = []
    for device in given.devices.split(","):
        table = read_table(given.data, device)
        scorer = Scorer(table.points())
        for name in given.strategies.split(","):
            for arm, (rungs, eta) in arms.items():
                for seed in range(given.seeds):
                    # As many as it takes to spend the budget; the curve is cut there.
                    share = sum(rung.epochs / eta**k for k, rung in enumerate(rungs))
                    found = search(
                        table, STRATEGIES[name], rungs, candidates=round(given.epochs / share), seed=seed, eta=eta
                    )
                    epochs, shares = curve(table, found, scorer)
                    rows += [
                        {"device": device, "strategy": name, "fidelities": arm, "seed": seed, "epochs": spent,
                         "hypervolume": round(value, 6), "judged": len(at_fidelity(found, HIGH))}
                        for spent, value in zip(epochs, shares, strict=True)
                    ]  # fmt: skip
    return rows


def warm_start(given: argparse.Namespace) -> list[dict[str, object]]:
    """With and without an earlier search: one that is like this, one that is unlike, one that says nothing."""
    rows: list[dict[str, object]] = []
    for device in given.devices.split(","):
        table = read_table(given.data, device)
        other = read_table(given.data, given.other_device)
        scorer = Scorer(table.points())
        for name in given.strategies.split(","):
            for seed in range(given.seeds):
                rng = np.random.default_rng([seed, 7])
                high = table.accuracy[HIGH]
                tasks = {
                    "none": None,
                    "12 epochs, other device": table.accuracy[LOW],
                    "shuffled": rng.permutation(high),
                    "reversed": high.min() + high.max() - high,
                }
                for task, accuracy in tasks.items():
                    earlier: list[History] = []
                    if accuracy is not None:
                        old = Told(table=other, accuracy=accuracy)
                        earlier = [search(other, STRATEGIES[name], (LOW,), candidates=60, seed=seed + 100, work=old)]
                    found = search(
                        table, STRATEGIES[name], (HIGH,), candidates=given.candidates, seed=seed, earlier=earlier
                    )
                    _, shares = curve(table, found, scorer)
                    rows += [
                        {"device": device, "strategy": name, "earlier": task, "seed": seed, "evaluation": k + 1,
                         "hypervolume": round(value, 6)}
                        for k, value in enumerate(shares)
                    ]  # fmt: skip
    return rows


def summarise_halving(rows: list[dict[str, object]]) -> None:
    """Mean and standard deviation of the hypervolume after so many epochs."""
    print("| device | strategy | fidelities | " + " | ".join(f"{at} epochs" for at in AT) + " |")
    print("|---" * (len(AT) + 3) + "|")
    keys = list(dict.fromkeys((row["device"], row["strategy"], row["fidelities"]) for row in rows))
    for key in keys:
        mine = [row for row in rows if (row["device"], row["strategy"], row["fidelities"]) == key]
        cells = []
        for at in AT:
            ends = [
                max((r["hypervolume"] for r in mine if r["seed"] == seed and r["epochs"] <= at), default=0.0)
                for seed in sorted({row["seed"] for row in mine})
            ]
            cells.append(f"{np.mean(ends):.3f} ± {np.std(ends):.3f}")
        print("| " + " | ".join([*map(str, key), *cells]) + " |")


def summarise_warm_start(rows: list[dict[str, object]]) -> None:
    """Mean and standard deviation of the hypervolume after so many evaluations."""
    at = (5, 10, 15, 20, 30, 40, 50)
    print("| device | strategy | earlier search | " + " | ".join(f"at {k}" for k in at) + " |")
    print("|---" * (len(at) + 3) + "|")
    for key in dict.fromkeys((row["device"], row["strategy"], row["earlier"]) for row in rows):
        mine = [row for row in rows if (row["device"], row["strategy"], row["earlier"]) == key]
        cells = []
        for k in at:
            values = [row["hypervolume"] for row in mine if row["evaluation"] == k]
            cells.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}" if values else "-")
        print("| " + " | ".join([*map(str, key), *cells]) + " |")


def main() -> None:
    """Runs one experiment, writes its rows and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=["halving", "warm-start"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--devices", default="pixel3,silver_4114,titanx_1")
    parser.add_argument("--strategies", default="surrogate,nsga2,random")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12_000, help="of halving: epochs a search")
    parser.add_argument("--eta", default="3", help="of halving: several are compared")
    parser.add_argument("--candidates", type=int, default=50, help="of warm-start: evaluations a search")
    parser.add_argument("--other-device", default="1080ti_1", help="of warm-start: of the earlier search")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = halving(given) if given.experiment == "halving" else warm_start(given)
    with given.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (summarise_halving if given.experiment == "halving" else summarise_warm_start)(rows)


if __name__ == "__main__":
    main()
