"""Scores the run folders of `run.py` in one box and prints the tables of README.md.

    python experiments/cifar10_strategies/table.py runs --out results.csv

Hypervolume: error (1 - accuracy of the file on the test split) against the logarithm of the file's latency, both from
the best to the worst of all files of all runs, reference point (1.1, 1.1), as a share of 1.21; all accepted files of a
run count, float32 and INT8. Once with the latency as measured, once as predicted: runs end at different loads of the
machine, and the prediction is the same for all.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nas.problem.front import hypervolume
from nas.problem.history import read_history
from nas.run.front import read_front_csv

LATENCIES = {"measured": "latency_ms.this-machine", "predicted": "predicted_latency_ms.this-machine"}


def cost_of(folder: Path) -> dict[str, object]:
    """What a search spent, from its history."""
    history, _ = read_history(folder / "history.jsonl")
    arm, _, seed = folder.name.rpartition("-")
    return {
        "arm": arm,
        "seed": int(seed),
        "architectures": len(history.digests),
        "trainings": len(history),
        "epochs": sum(evaluation.candidate.fidelity.cost for evaluation in history),
        "training_seconds": round(sum(evaluation.seconds for evaluation in history)),
        "failed": sum(evaluation.status != "complete" for evaluation in history),
    }


def volumes(fronts: Sequence[pd.DataFrame], latency: str) -> list[float]:
    """The hypervolume of each run's files; 1 is the corner of the best of everything."""
    points = [np.column_stack([1 - files["accuracy"], np.log(files[latency])]) for files in fronts]
    everything = np.concatenate(points)
    low, width = everything.min(axis=0), np.maximum(np.ptp(everything, axis=0), 1e-9)
    return [hypervolume((own - low) / width, [1.1, 1.1]) / 1.21 for own in points]


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """As Markdown."""
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


def main() -> None:
    """Reads, scores, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of run folders")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    folders = sorted(path.parent for path in given.runs.glob("*/front.csv"))
    fronts = [read_front_csv(folder / "front.csv") for folder in folders]
    fronts = [files[files["accepted"]] for files in fronts]
    table = pd.DataFrame([cost_of(folder) for folder in folders])
    table["files"] = [len(files) for files in fronts]
    table["best"] = [float(files["accuracy"].max()) for files in fronts]
    for name, column in LATENCIES.items():
        table[f"hypervolume_{name}"] = np.round(volumes(fronts, column), 4)
    table.to_csv(given.out, index=False)
    print_table(table.to_dict("records"))
    print()
    summary = []
    for arm, group in table.groupby("arm", sort=False):
        measured, predicted = group["hypervolume_measured"], group["hypervolume_predicted"]
        summary.append(
            {
                "arm": arm,
                "runs": len(group),
                "epochs": f"{group['epochs'].mean():.0f}",
                "training s": f"{group['training_seconds'].mean():.0f}",
                "hypervolume, measured": f"{measured.mean():.3f} ± {measured.std():.3f}",
                "hypervolume, predicted": f"{predicted.mean():.3f} ± {predicted.std():.3f}",
                "best file": f"{100 * group['best'].mean():.1f} %",
            }
        )
    print_table(summary)


if __name__ == "__main__":
    main()
