"""What tuning the recipe brings over the recipe as it is, at equal epochs; see README.md.

python experiments/retrain/run.py base                # one search, whose front is trained again
python experiments/retrain/run.py seed 0 [asha [all]] # one retraining of it: scheduler, models
python experiments/retrain/run.py table               # reads what is there, writes results.json
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
WORK = Path("retrain_runs")
EPOCHS, TRIALS = 30, 8


def nas(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "nas.cli.main", *arguments, "display=plain"], check=True)


def base() -> None:
    nas(
        "search", "run.name=base", f"run.folder={WORK}", "run.candidates=12", "run.epochs=3", "run.final_epochs=10",
        "run.front=2", "calibration.samples=12", "calibration.blocks=3",
    )  # fmt: skip


def seed(number: str, scheduler: str = "asha", models: str = "all") -> None:
    nas(
        "retrain", f"run={WORK}/base", f"models={models}", f"name={scheduler}-{number}", f"seed={number}",
        f"epochs={EPOCHS}", f"tune.trials={TRIALS}", f"tune.scheduler={scheduler}",
    )  # fmt: skip


def table() -> None:
    rows = [
        {"scheduler": file.parts[-4].partition("-")[0], "seed": int(file.parts[-4].partition("-")[2])}
        | json.loads(file.read_text())
        for file in sorted(WORK.glob("*-[0-9]*/tuning/*/outcome.json"))
    ]
    print("| scheduler | seed | model | untuned val / test | tuned val / test | gain val | gain test | worker s |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        untuned = f"{row['untuned_validation']:.1%} / {row['untuned_test']:.1%}"
        gains = [100 * (row[split] - row[f"untuned_{split}"]) for split in ("validation", "test")]
        print(
            f"| {row['scheduler']} | {row['seed']} | {row['digest'][:6]} | {untuned} | {row['validation']:.1%} "
            f"/ {row['test']:.1%} | {gains[0]:+.1f} | {gains[1]:+.1f} | {row['seconds']:.0f} |"
        )
    for scheduler in sorted({row["scheduler"] for row in rows}):
        own = [row for row in rows if row["scheduler"] == scheduler]
        for split in ("validation", "test"):
            found = 100 * np.array([row[split] - row[f"untuned_{split}"] for row in own])
            error = found.std(ddof=1) / math.sqrt(len(found)) if len(found) > 1 else math.nan
            print(
                f"{scheduler}, {split}: mean gain {found.mean():+.2f} points, standard error {error:.2f}, n {len(own)}"
            )
    (HERE / "results.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    {"base": base, "seed": seed, "table": table}[sys.argv[1]](*sys.argv[2:])
