"""Takes what the page of this experiment shows from a run folder.

Copies front.csv and report.html into results/, with the folders of the machine cut from the report, and prints the
tables of README.md: the front, the quality of the latency models, the times.

Usage: python experiments/cifar10/collect.py runs/cifar10-0.25ms
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nas.run.front import read_front_csv
from nas.units import format_quantity, format_seconds

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path, help="run folder")
    run: Path = parser.parse_args().run
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    RESULTS.mkdir(exist_ok=True)
    shutil.copyfile(run / "front.csv", RESULTS / "front.csv")
    report = (run / "report.html").read_text(encoding="utf-8")
    data, space = Path(manifest["config"]["data"]["path"]), Path(manifest["space"]["source"])
    for folder in (data.parent, space.parents[1]):
        report = report.replace(f"{folder}/", "")
    (RESULTS / "report.html").write_text(report, encoding="utf-8")
    front, device = read_front_csv(run / "front.csv"), str(manifest["devices"][0]["name"])
    _print_front(front, device=device)
    _print_quality(manifest["latency_models"][device])
    _print_exported(front, device=device)
    _print_run(manifest)


def _print_front(front: pd.DataFrame, *, device: str) -> None:
    print("| file | accuracy | measured | predicted | 95 % bound | size | peak activations | |\n" + 8 * "|---" + "|")
    for _, row in front.iterrows():
        measured, predicted, upper = (
            row[f"{name}.{device}"] for name in ("latency_ms", "predicted_latency_ms", "latency_upper_ms")
        )
        remarks = [] if row["accepted"] else [f"**not accepted**: {row['reason']}"]
        remarks += ["non-dominated"] if row["non_dominated"] else []
        remarks += ["above its bound"] if measured > upper else []
        cells = [
            f"{row['digest'][:6]} {row['precision']}",
            f"{row['accuracy']:.1%}".replace("%", " %"),
            *(format_quantity(value, "time") for value in (measured, predicted, upper)),
            *(format_quantity(row[name], "bytes") for name in ("size_bytes", "peak_activation_bytes")),
            ", ".join(remarks),
        ]
        print("| " + " | ".join(cells) + " |")


def _print_quality(models: Mapping[str, Any]) -> None:
    print("\n| latency model | Spearman | MAPE | within 10 % | bound held | timings not settled |\n" + 6 * "|---" + "|")
    for precision, model in models.items():
        quality, points = model["quality"], model["points"]
        held = sum(point["measured_ms"] <= point["upper_ms"] for point in points)
        print(
            f"| {precision} | {quality['spearman']:.2f} | {quality['mape']:.1%} | {quality['within_10_percent']:.0%} "
            f"| {held} of {len(points)} | {model['num_unsettled']} |"
        )


def _print_exported(front: pd.DataFrame, *, device: str) -> None:
    for precision, files in front.groupby("precision"):
        measured = files[f"latency_ms.{device}"]
        errors = files[f"predicted_latency_ms.{device}"] / measured - 1
        held = int((measured <= files[f"latency_upper_ms.{device}"]).sum())
        signs = f"{int((errors > 0).sum())} of {len(files)} predicted too slow"
        print(f"exported {precision}: mean error {errors.abs().mean():.1%}, {signs}, bound held {held} of {len(files)}")


def _print_run(manifest: Mapping[str, Any]) -> None:
    forecast, screened = manifest["forecast"], manifest["screened"]
    broken = sum(screened["broken"].values())
    print(f"\n{forecast['share']:.1%} of the space fits; of {screened['proposed']} proposals {broken} broke the budget")
    times = ", ".join(f"{step} {format_seconds(seconds)}" for step, seconds in manifest["timings"].items())
    total = format_seconds(sum(manifest["timings"].values()))
    print(f"{times}; together {total}; forecast for search and finish {format_seconds(forecast['seconds'])}")
    print(f"commit {manifest['commit'][:7]}{'+changes' if manifest['commit'].endswith('+changes') else ''}")


if __name__ == "__main__":
    main()
