"""Which learning rate suits a network whose channels just went: judged on the validation split, not the test split.

python experiments/compression/rates.py --data digits
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch
from run import FINE_EPOCHS, NETWORKS, WIDE_EPOCHS, Bench, task_of

from nas.problem.evaluation import Fidelity
from nas.train.compression.options import CompressOptions
from nas.train.compression.steps import thin
from nas.train.fit import fit

RATES = (0.1, 0.3, 0.6, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits", help="digits, or a folder of CIFAR-10 as Parquet files")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    task = task_of(given.data)
    print(f"| network | {' | '.join(f'rate {rate:g}' for rate in RATES)} | narrow from scratch |")
    for name in NETWORKS:
        rows = []
        for seed in range(given.seeds):
            bench = Bench(task, name, seed)
            accuracies = []
            for rate in RATES:
                setting = replace(bench.setting, judge_on="validation", options=CompressOptions(fine_tune_rate=rate))
                thinned = thin(bench.wide, bench.fresh(bench.narrow_network), setting, epochs=FINE_EPOCHS)
                accuracies.append(thinned.fit.metrics["accuracy"])
            fidelity = Fidelity(epochs=WIDE_EPOCHS + FINE_EPOCHS)
            scratch = fit(bench.fresh(bench.narrow_network), task, bench.recipe, fidelity=fidelity, seed=seed)
            rows.append([*accuracies, scratch.metrics["accuracy"]])
        cells = [
            f"{100 * mean:.1f} ± {100 * std:.1f}"
            for mean, std in zip(np.mean(rows, 0), np.std(rows, 0, ddof=1), strict=True)
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
