"""What few bits cost in accuracy, and whether they gain time, over the fronts of finished searches.

    python experiments/quantisation/fronts.py RUNS --data CIFAR10 --out fronts.csv

RUNS holds run folders on CIFAR-10, e.g. those of `experiments/cifar10_strategies/run.py`; ``--models`` of their models
are taken, evenly over all. Files are made anew from each model's float32 file and judged on 2,000 test images. The sign
of the gain is read from the runs' own ``front.csv``: measured and predicted latency of each float32 and INT8 file.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pandas as pd

from nas.deploy.judge import compare, run_file
from nas.deploy.options import DeployOptions
from nas.deploy.precision.makers import make_file
from nas.run.front import read_front_csv
from nas.train.data.parquet import Parquet
from nas.train.task import ImageClassification, image_classification

VARIANTS = {
    "int8 minmax": ("int8", DeployOptions(activations="unsigned", revert=0)),
    "int8 entropy": ("int8", DeployOptions(activations="unsigned", method="entropy", revert=0)),
    "int8 percentile": ("int8", DeployOptions(activations="unsigned", method="percentile", revert=0)),
    "int8 auto": ("int8", DeployOptions(activations="unsigned", method="auto", revert=0)),
    "int8 minmax signed": ("int8", DeployOptions(activations="signed", revert=0)),
    "int8 minmax, gate 97 %": ("int8", DeployOptions(activations="unsigned", min_agreement=0.97, revert=4)),
    "int8-dynamic": ("int8-dynamic", DeployOptions(revert=0)),
    "int4": ("int4", DeployOptions(activations="unsigned", revert=0)),
    "float16": ("float16", DeployOptions(revert=0)),
}
MEASURED, PREDICTED = "latency_ms.this-machine", "predicted_latency_ms.this-machine"


def images_of(task: ImageClassification, part: str, path: Path, count: int) -> np.ndarray:
    """The first images of a split in the size that a file takes."""
    height, width = (dim.dim_value for dim in onnx.load(path).graph.input[0].type.tensor_type.shape.dim[2:])
    pixels = task.pixels(part, (height, width))[:count]  # type: ignore[arg-type]
    return np.asarray(task.normalise(pixels).contiguous().numpy())


def judged(path: Path, task: ImageClassification) -> list[dict[str, object]]:
    """Every variant of a model against its float32 file."""
    test, calibration = images_of(task, "test", path, 2000), images_of(task, "train", path, 256)
    labels = task.labels("test").numpy()[: len(test)]
    reference = run_file(path, test)
    accuracy = float((reference.argmax(axis=1) == labels).mean())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for variant, (precision, options) in VARIANTS.items():
            target = Path(folder) / "file.onnx"
            record = make_file(precision, path, target, calibration, options) or {}
            found = compare(run_file(target, test), labels, reference)
            rows.append(
                {
                    "model": path.parent.name,
                    "file": variant,
                    "drop": round(100 * (accuracy - found.accuracy), 3),
                    "agreement": round(found.agreement, 4),
                    "times smaller": round(path.stat().st_size / target.stat().st_size, 2),
                    "method": record.get("method"),
                    "reverted": len(record.get("reverted", ())),
                }
            )
    return rows


def signs(folders: Sequence[Path]) -> pd.DataFrame:
    """One row a model: how much faster INT8 is than float32, measured and predicted."""
    rows = []
    for folder in folders:
        front = read_front_csv(folder / "front.csv")
        for digest, files in front.groupby("digest"):
            by = files.set_index("precision")
            if {"float32", "int8"} <= set(by.index):
                rows.append(
                    {
                        "run": folder.name,
                        "model": digest,
                        **{
                            name: by.loc["float32", column] / by.loc["int8", column]
                            for name, column in (("measured", MEASURED), ("predicted", PREDICTED))
                        },
                        "drop": 100 * (by.loc["float32", "accuracy"] - by.loc["int8", "accuracy"]),
                    }
                )
    return pd.DataFrame(rows)


def main() -> None:
    """Judges, and prints means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path("fronts.csv"))
    parser.add_argument("--signs", type=Path, default=Path("signs.csv"))
    given = parser.parse_args()
    folders = sorted(path.parent for path in given.runs.glob("*/front.csv"))
    gains = signs(folders)
    gains.round(3).to_csv(given.signs, index=False)
    right = (gains["measured"] > 1) == (gains["predicted"] > 1)
    clear = (gains["measured"] - 1).abs() > 0.05
    print(f"sign right for {right.sum()} of {len(right)}; of {clear.sum()} clearer than 5 %: {(right & clear).sum()}")
    print(f"INT8 faster in {(gains['measured'] > 1).sum()} of {len(gains)}; Spearman", end=" ")
    print(round(gains[["measured", "predicted"]].corr("spearman").iloc[0, 1], 3), flush=True)
    drop = gains["drop"]
    print(f"INT8 of the runs loses {drop.mean():.3f} points (standard error {drop.sem():.3f}, most {drop.max():.2f})")
    task = image_classification(Parquet(path=str(given.data), limit=10_000).load())
    files = {path.parent.name: path for folder in folders for path in sorted(folder.glob("models/*/model.fp32.onnx"))}
    picked = np.linspace(0, len(files) - 1, min(given.models, len(files))).round().astype(int)
    rows: list[dict[str, object]] = []
    for path in [list(files.values())[index] for index in picked]:
        rows += judged(path, task)
        pd.DataFrame(rows).to_csv(given.out, index=False)
    table = pd.DataFrame(rows).groupby("file", sort=False)
    print(table.agg({"drop": ["mean", "max", "sem"], "agreement": ["mean", "min"], "times smaller": "mean"}).round(3))


if __name__ == "__main__":
    main()
