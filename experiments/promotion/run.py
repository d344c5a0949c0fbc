"""What a promoted candidate reaches that goes on from its checkpoint, and one that begins anew.

Usage: python experiments/promotion/run.py [--networks 12] [--seeds 2] [--low 2] [--high 6]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from nas.locate import resource_folder
from nas.problem.evaluation import Candidate, Fidelity
from nas.space.load import load_space
from nas.space.moves import sample
from nas.train.data.digits import Digits
from nas.train.evaluate import TrainingEvaluate
from nas.train.recipe import Recipe
from nas.train.task import image_classification


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--low", type=int, default=2)
    parser.add_argument("--high", type=int, default=6)
    given = parser.parse_args()
    space = load_space(resource_folder("search_spaces") / "mobilenet-tiny.yaml")
    task = image_classification(Digits().load())
    rows = sample(space, given.networks, np.random.default_rng(0))
    found: dict[str, list[float]] = {"low": [], "anew": [], "gone on": []}
    seconds: dict[str, list[float]] = {"low": [], "anew": [], "gone on": []}
    with tempfile.TemporaryDirectory() as folder:
        plain = TrainingEvaluate(space=space, task=task, recipe=Recipe(), watched=False)
        kept = TrainingEvaluate(
            space=space, task=task, recipe=Recipe(), watched=False, checkpoints=Path(folder)
        )  # fmt: skip
        for seed in range(given.seeds):
            for index, row in enumerate(rows):
                for kind, evaluate, epochs in (
                    ("anew", plain, given.high),
                    ("low", kept, given.low),
                    ("gone on", kept, given.high),
                ):
                    candidate = Candidate(
                        index=index, architecture=space.architecture(row), fidelity=Fidelity(epochs=epochs), seed=seed
                    )  # fmt: skip
                    start = time.process_time()
                    evaluation = evaluate(candidate)
                    seconds[kind].append(time.process_time() - start)
                    found[kind].append(evaluation.metrics.get("accuracy", float("nan")))
    accuracy = {kind: np.array(values) for kind, values in found.items()}
    difference = 100 * (accuracy["gone on"] - accuracy["anew"])
    known = np.isfinite(difference)
    error = difference[known].std(ddof=1) / np.sqrt(known.sum())
    for kind, values in accuracy.items():
        print(f"| {kind} | {100 * np.nanmean(values):.1f} % | {np.mean(seconds[kind]):.1f} |")
    print(f"gone on - anew: {difference[known].mean():+.2f} +- {error:.2f} points over {known.sum()} pairs")
    print(f"rank correlation of both: {spearmanr(accuracy['anew'][known], accuracy['gone on'][known]).statistic:.2f}")
    anew = accuracy["anew"].reshape(given.seeds, -1)
    if given.seeds > 1:
        print(
            f"rank correlation of two seeds, both anew: {spearmanr(anew[0], anew[1], nan_policy='omit').statistic:.2f}"
        )
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
