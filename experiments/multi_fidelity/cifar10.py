"""A ladder against one fidelity in whole searches on CIFAR-10: trained, exported and measured on this machine.

    cd somewhere && python .../experiments/multi_fidelity/cifar10.py --data CIFAR10 --seeds 1 --out cifar10.csv

CIFAR10 holds the images as Parquet files in the layout of Hugging Face. Run folders and the latency model are left in
the folder it is called from. With the defaults and one seed it takes under 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nas.commands.search import search
from nas.commands.settings import CalibrationOptions, RunOptions
from nas.problem.front import hypervolume
from nas.problem.history import read_history
from nas.run.front import read_front_csv
from nas.strategy.surrogate.strategy import Surrogate
from nas.train.data.parquet import Parquet

ARMS: dict[str, int | Sequence[int]] = {"6": 6, "1,6": (1, 6), "2,6": (2, 6)}
LATENCY = "latency_ms.this-machine"


def run(given: argparse.Namespace, arm: str, seed: int) -> tuple[dict[str, object], pd.DataFrame]:
    """One search: what it cost, and its float32 files."""
    result = search(
        space="mobilenet-tiny",
        data=Parquet(path=str(given.data), limit=given.images),
        strategy=Surrogate(),
        seed=seed,
        run=RunOptions(
            name=f"cifar10-{arm.replace(',', '-')}-{seed}",
            candidates=given.candidates,
            epochs=ARMS[arm],
            final_epochs=given.final_epochs,
            front=given.front,
        ),
        calibration=CalibrationOptions(samples=24),
    )
    assert result.folder is not None
    history, _ = read_history(result.folder / "history.jsonl")
    cost = {
        "fidelities": arm,
        "seed": seed,
        "architectures": len(history.digests),
        "trainings": len(history),
        "epochs": sum(evaluation.candidate.fidelity.epochs for evaluation in history),
        "training_seconds": round(sum(evaluation.seconds for evaluation in history), 1),
    }
    files = read_front_csv(result.folder / "front.csv")
    return cost, files[files["precision"] == "float32"]


def main() -> None:
    """Searches, scores all arms in one box, writes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--candidates", type=int, default=12)
    parser.add_argument("--front", type=int, default=4)
    parser.add_argument("--final-epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--arms", default="6;2,6", help=f"separated by ;: {'; '.join(ARMS)}")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = [run(given, arm, seed) for seed in range(given.seeds) for arm in given.arms.split(";")]
    points = np.concatenate([files[["accuracy", LATENCY]].to_numpy(dtype=np.float64) for _, files in found])
    points = np.column_stack([1 - points[:, 0], np.log(points[:, 1])])
    low, width = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-9)
    rows = []
    for cost, files in found:
        own = np.column_stack([1 - files["accuracy"], np.log(files[LATENCY])])
        volume = hypervolume((own - low) / width, [1.1, 1.1]) / 1.21
        rows.append({**cost, "files": len(files), "best": files["accuracy"].max(), "hypervolume": round(volume, 4)})
    with given.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")


if __name__ == "__main__":
    main()
