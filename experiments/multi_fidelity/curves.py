"""What stopping hopeless trainings saves and loses, on real learning curves.

    python experiments/multi_fidelity/curves.py --space mobilenet-tiny --trainings 48 --epochs 6 --out curves.csv

Trains random architectures with their curves, to the end, once; then plays searches over them in random orders, in
which `nas.train.curves.StopRule` decides. With ``--data FOLDER`` (``cifar10/*.parquet``) on CIFAR-10, else on digits.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nas.locate import resource_folder
from nas.model.population_costs import PopulationCosts
from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.goals import objectives_from
from nas.problem.history import History
from nas.space.load import load_space
from nas.space.moves import sample
from nas.train.curves import StopRule
from nas.train.data.digits import Digits
from nas.train.data.parquet import Parquet
from nas.train.evaluate import TrainingEvaluate
from nas.train.recipe import Recipe
from nas.train.task import image_classification

OBJECTIVES = objectives_from(["accuracy", "macs"], device="none")
RATES = (0.05, 0.1, 0.2)
ORDERS = 200


def trainings(given: argparse.Namespace) -> list[Evaluation]:
    """Complete evaluations of random architectures, with curves."""
    source = Digits() if given.data is None else Parquet(path=str(given.data / "cifar10"), limit=given.images)
    task = image_classification(source.load())
    space = load_space(resource_folder("search_spaces") / f"{given.space}.yaml")
    costs = PopulationCosts(space, input_shape=task.input_shape, num_classes=task.num_classes)
    rows = sample(space, given.trainings, np.random.default_rng(given.seed))
    macs = costs.costs(rows)["macs"]
    evaluate = TrainingEvaluate(space=space, task=task, recipe=Recipe())
    found = []
    for index, row in enumerate(rows):
        candidate = Candidate(
            index=index,
            architecture=space.architecture(row),
            fidelity=Fidelity(epochs=given.epochs),
            seed=index,
            predicted={"macs": float(macs[index])},
        )
        found.append(evaluate(candidate))
    return [evaluation for evaluation in found if evaluation.status == "complete"]


def play(found: Sequence[Evaluation], rule: StopRule, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Trainings stopped, stopped by mistake, that would have been non-dominated when they came, and epochs saved."""
    history = History()
    stopped = mistakes = good = saved = 0
    for place, choice in enumerate(rng.permutation(len(found))):
        end = replace(found[choice], candidate=replace(found[choice].candidate, index=place))
        below = rule(OBJECTIVES, history, end.candidate)
        told = replace(end, candidate=replace(end.candidate, stop_below=below))
        macs = end.candidate.predicted["macs"]
        rivals = [
            e.metrics["accuracy"] for e in history if e.status == "complete" and e.candidate.predicted["macs"] <= macs
        ]
        is_good = end.metrics["accuracy"] >= max(rivals, default=0.0)
        good += is_good
        hits = [epoch for epoch, (value, least) in enumerate(zip(end.curve[:-1], below, strict=False)) if value < least]
        if hits:
            stopped += 1
            mistakes += is_good
            saved += len(end.curve) - hits[0] - 1
            told = replace(told, status="stopped", metrics={}, curve=end.curve[: hits[0] + 1])
        history.append(told)
    return stopped, mistakes, good, saved


def main() -> None:
    """Trains, plays, writes the curves and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="mobilenet-tiny")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--trainings", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    start = time.perf_counter()
    found = trainings(given)
    print(f"{len(found)} trainings of {given.epochs} epochs in {time.perf_counter() - start:.0f} s")
    with given.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["digest", "macs", *(f"epoch_{k + 1}" for k in range(given.epochs))])
        for evaluation in found:
            candidate = evaluation.candidate
            writer.writerow([candidate.architecture.digest, int(candidate.predicted["macs"]), *evaluation.curve])
    print("| rate | stopped | by mistake, of all | of the non-dominated | epochs saved |\n|---|---|---|---|---|")
    for rate in RATES:
        rng = np.random.default_rng(given.seed)
        counts = np.array([play(found, StopRule(rate=rate), rng) for _ in range(ORDERS)], dtype=np.float64)
        stopped, mistakes, good, saved = counts.mean(axis=0)
        num = len(found)
        print(
            f"| {rate:g} | {stopped / num:.1%} | {mistakes / num:.1%} | {mistakes / good:.1%}"
            f" | {saved / num / given.epochs:.1%} |"
        )


if __name__ == "__main__":
    main()
