"""What do scores of untrained networks cost, and how well do they order networks by accuracy after training?

Usage: OMP_NUM_THREADS=1 python experiments/zero_cost/run.py --table nasbench201 --number 200 --seeds 3 --out FOLDER
       [--batch 32] [--minutes 5]

Scores random rows of a public table and appends to FOLDER/<table>.csv after each network; what is there is not done
again, so that the command can be stopped and repeated. A seed draws the images, the weights and the random signals; the
rows are the same for all seeds. `summary.py FOLDER` makes the tables of the README.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch
from spaces import TABLES, Table, data_folder

from nas.model.build import build
from nas.train.data.parquet import Parquet
from nas.train.scores.network import SCORES, score_network
from nas.train.task import ImageClassification, image_classification

SHAPE, CLASSES = (3, 32, 32), 10
ROWS_SEED = 201
IMAGES = 2000


def batches(seeds: int, size: int) -> tuple[str, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Where the images come from, and a batch a seed; noise where the data set is missing."""
    folder = data_folder() / "cifar10"
    if not folder.is_dir():
        drawn = [np.random.default_rng(seed) for seed in range(seeds)]
        return "noise", [
            (
                torch.from_numpy(rng.standard_normal((size, *SHAPE), dtype=np.float32)),
                torch.from_numpy(rng.integers(0, CLASSES, size)),
            )
            for rng in drawn
        ]
    task: ImageClassification = image_classification(Parquet(path=str(folder), limit=IMAGES).load())
    images, labels = task.images("train"), task.labels("train")
    picks = [np.random.default_rng(seed).choice(len(labels), size, replace=False) for seed in range(seeds)]
    return "cifar10", [(images[torch.from_numpy(pick)].contiguous(), labels[torch.from_numpy(pick)]) for pick in picks]


def score_rows(table: Table, places: np.ndarray, out: Path, options: argparse.Namespace) -> None:
    """Scores what is not in the file yet, until the time is over."""
    source, given = batches(options.seeds, options.batch)
    fields = ["place", "seed", "images", "cpu_ms", *SCORES]
    done = set()
    if out.is_file():
        with out.open() as file:
            done = {(int(line["place"]), int(line["seed"])) for line in csv.DictReader(file)}
    end = time.monotonic() + 60 * options.minutes
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, fields)
        if not done:
            writer.writeheader()
        for seed, (images, labels) in enumerate(given):
            for place in places:
                if (int(place), seed) in done:
                    continue
                if time.monotonic() > end:
                    return
                torch.manual_seed(1000 * seed + 7)
                network = table.space.network(table.rows[place])
                module = build(network, input_shape=SHAPE, num_classes=CLASSES)
                start = time.process_time()
                scores = score_network(module, images, labels, SCORES, seed=seed)
                taken = 1000 * (time.process_time() - start)
                writer.writerow(
                    {"place": int(place), "seed": seed, "images": source, "cpu_ms": round(taken, 1), **scores}
                )
                file.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--table", choices=TABLES, required=True)
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    table = TABLES[options.table]()
    places = np.random.default_rng(ROWS_SEED).permutation(len(table.rows))[: options.number]
    score_rows(table, places, options.out / f"{options.table}.csv", options)


if __name__ == "__main__":
    main()
