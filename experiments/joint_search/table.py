"""Scores the run folders of `run.py` in one box and prints the tables of README.md.

    python experiments/joint_search/table.py runs --out results.csv

What counts is files: the accuracy of each on the test split, in onnxruntime, and its latency as measured. A file counts
where it was verified (its agreement with float) and keeps the latency budget as measured; float32 references of the
joint arm count too, as they are there, and were trained for. Hypervolume: error against the logarithm of the latency,
both from the best to the worst of all files of all runs, reference point (1.1, 1.1), as a share of 1.21. Training cost
is multiply-accumulates of forward passes: epochs x images x MACs of what was trained, wide or narrow.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from run import space_of

from nas.deploy.shrunk import Shares
from nas.model.population_costs import PopulationCosts
from nas.problem.evaluation import Evaluation
from nas.problem.front import hypervolume
from nas.problem.history import read_history
from nas.run.front import read_front_csv
from nas.space import SearchSpace

LATENCIES = {"measured": "latency_ms.this-machine", "predicted": "predicted_latency_ms.this-machine"}


def counted(folder: Path) -> pd.DataFrame:
    """The files of a run that may be shipped: verified, and within the latency budget as measured."""
    files = read_front_csv(folder / "front.csv")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    limit = next(budget["limit"] for budget in manifest["budgets"] if budget["key"] == LATENCIES["measured"])
    models = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("models/*/manifest.json")}
    sound = [
        next(
            not entry["quality_reason"] for entry in models[row.digest]["files"] if entry["precision"] == row.precision
        )
        for row in files.itertuples()
    ]
    kept = np.array(sound, dtype=bool) & (files[LATENCIES["measured"]] <= limit)
    return files[kept].reset_index(drop=True)


def cost_of(folder: Path) -> dict[str, object]:
    """What a search spent, from its history."""
    history, _ = read_history(folder / "history.jsonl")
    arm, _, seed = folder.name.rpartition("-")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    data = manifest["data"]
    space = space_of(arm)
    costs = PopulationCosts(
        space.undeployed,
        input_shape=(data["channels"], data["height"], data["width"]),
        num_classes=len(data["classes"]),
    )
    share = float(manifest["config"]["run"].get("wide_share", 0.0))
    macs = sum(_macs(evaluation, space, costs, share) for evaluation in history)
    return {
        "arm": arm,
        "seed": int(seed),
        "candidates": len(history),
        "int8": sum(e.candidate.architecture.choices.get("deploy.precision") == "int8" for e in history),
        "narrow": sum(e.candidate.architecture.choices.get("deploy.width", "1.0") != "1.0" for e in history),
        "training_tmacs": round(macs * data["num_train"] / 1e12, 2),
        "seconds": round(sum(evaluation.seconds for evaluation in history)),
        "file_seconds": round(sum(evaluation.metrics.get("file_seconds", 0.0) for evaluation in history), 1),
        "failed": sum(evaluation.status != "complete" for evaluation in history),
    }


def _macs(evaluation: Evaluation, space: SearchSpace, costs: PopulationCosts, share: float) -> float:
    """Of one image through all epochs of a candidate."""
    architecture, fidelity = evaluation.candidate.architecture, evaluation.candidate.fidelity
    names = [choice.name for choice in space.undeployed.choices]
    row = np.array([architecture.row[: len(names)]], dtype=np.int16)
    own = float(costs.costs(row)["macs"][0])
    if share == 0 or not space.network(architecture.row).trained:
        return own * fidelity.cost
    column = names.index("deploy.width")
    row[0, column] = space.choices[column].options.index(1.0)
    first, second = Shares(wide=share).of(fidelity)
    return float(costs.costs(row)["macs"][0]) * first.cost + own * second.cost


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
    fronts = [counted(folder) for folder in folders]
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
                "training TMACs": f"{group['training_tmacs'].mean():.1f}",
                "hypervolume, measured": f"{measured.mean():.3f} ± {measured.std():.3f}",
                "hypervolume, predicted": f"{predicted.mean():.3f} ± {predicted.std():.3f}",
                "best file": f"{100 * group['best'].mean():.1f} %",
            }
        )
    print_table(summary)


if __name__ == "__main__":
    main()
