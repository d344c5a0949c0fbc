"""Latency, size and agreement of each precision on a plain, a depthwise and a transformer network.

    python experiments/quantisation/speed.py --data CIFAR10 --out speed.csv

CIFAR10 holds the images as Parquet files in the layout of Hugging Face. The two convolutional networks are trained on
a part of it, the transformer of the tests on the digits.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "deploy"))

from small_transformer import trained_transformer

from nas.deploy.export import export_onnx
from nas.deploy.files import torch_logits
from nas.deploy.judge import compare, run_file
from nas.deploy.options import DeployOptions
from nas.deploy.precision.makers import make_file
from nas.device.card import Device
from nas.device.timing import measure
from nas.model.build import build
from nas.problem.evaluation import Fidelity
from nas.space import SearchSpace
from nas.train.data.digits import Digits
from nas.train.data.parquet import Parquet
from nas.train.fit import fit
from nas.train.recipe import Recipe
from nas.train.task import ImageClassification, image_classification

CONV = {"op": "conv", "kernel": 3, "activation": "relu"}
PLAIN = [
    {**CONV, "channels": 32},
    {**CONV, "channels": 64, "stride": 2},
    {**CONV, "channels": 64},
    {**CONV, "channels": 128, "stride": 2},
    {**CONV, "channels": 128},
    {**CONV, "channels": 128},
    {"op": "classifier"},
]
BLOCK = {"op": "inverted_residual", "kernel": 3, "expansion": 4, "squeeze_excite": False}


def depthwise(activation: str) -> list[dict[str, object]]:
    """A MobileNetV2-like network of five blocks."""
    block = {**BLOCK, "activation": activation}
    stages = [(24, 2), (24, 1), (48, 2), (48, 1), (64, 1)]
    rest = [{**block, "channels": channels, "stride": stride} for channels, stride in stages]
    return [{**CONV, "channels": 16, "activation": activation}, *rest, {"op": "classifier"}]


NETWORKS = {"plain 3x3": PLAIN, "depthwise, ReLU": depthwise("relu"), "depthwise, hard swish": depthwise("hardswish")}
VARIANTS = {
    "float32": ("float32", DeployOptions()),
    "float16": ("float16", DeployOptions()),
    "int8 unsigned": ("int8", DeployOptions(activations="unsigned", revert=0)),
    "int8 signed": ("int8", DeployOptions(activations="signed", revert=0)),
    "int8-dynamic": ("int8-dynamic", DeployOptions(revert=0)),
    "int4, int8 rest": ("int4", DeployOptions(activations="unsigned", revert=0)),
    "int4, float32 rest": ("int4", DeployOptions(int4_rest="float32", revert=0)),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A trained network with its images."""

    module: nn.Module
    shape: tuple[int, int, int]
    calibration: np.ndarray
    test: np.ndarray
    labels: np.ndarray


def convolutional(name: str, task: ImageClassification, epochs: int) -> Subject:
    """One of `NETWORKS`, trained."""
    space = SearchSpace.from_template({"name": "experiment", "network": NETWORKS[name]})
    network = space.network(np.zeros(space.num_choices, np.int16))
    torch.manual_seed(0)
    module = build(network, input_shape=task.input_shape, num_classes=task.num_classes)
    recipe = Recipe(flip=True, shift=0.125, ema_decay=0.995, weight_decay=5e-4)
    fit(module, task, recipe, fidelity=Fidelity(epochs=epochs), seed=0)
    return subject(module, task)


def subject(module: nn.Module, task: ImageClassification) -> Subject:
    """A module with images of its task."""
    images = {
        part: task.normalise(task.pixels(part, task.input_shape[1:])[:2000]).contiguous() for part in ("train", "test")
    }
    return Subject(
        module=module.cpu().eval(),
        shape=task.input_shape,
        calibration=images["train"].numpy()[:256],
        test=images["test"].numpy(),
        labels=task.labels("test").numpy()[:2000],
    )


def rows_of(name: str, found: Subject, folder: Path) -> list[dict[str, object]]:
    """All variants of a network: made, judged, timed together."""
    folder.mkdir(parents=True, exist_ok=True)
    float_file = folder / "float32.onnx"
    export_onnx(found.module, found.shape, float_file)
    reference = torch_logits(found.module, found.test)
    files = {}
    for variant, (precision, options) in VARIANTS.items():
        files[variant] = folder / f"{variant.replace(' ', '-').replace(',', '')}.onnx"
        make_file(precision, float_file, files[variant], found.calibration, options)
    timed = measure(list(files.values()), device=Device(name="this-machine"))
    floats = timed[0].latency_ms
    rows = []
    for (variant, path), measurement in zip(files.items(), timed, strict=True):
        judged = compare(run_file(path, found.test), found.labels, reference)
        rows.append(
            {
                "network": name,
                "file": variant,
                "ms": round(measurement.latency_ms, 4),
                "float32 / this": round(floats / measurement.latency_ms, 2),
                "kB": round(path.stat().st_size / 1e3, 1),
                "times smaller": round(files["float32"].stat().st_size / path.stat().st_size, 2),
                "agreement": round(judged.agreement, 4),
                "accuracy": round(judged.accuracy, 4),
                "settled": measurement.settled,
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Trains, writes, times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("quantisation-work"))
    parser.add_argument("--out", type=Path, default=Path("speed.csv"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    task = image_classification(Parquet(path=str(given.data), limit=given.images + 2000).load())
    digits = image_classification(Digits().load())
    rows = []
    for name in NETWORKS:
        rows += rows_of(name, convolutional(name, task, given.epochs), given.work / name.replace(" ", "-"))
    transformer = subject(trained_transformer(digits, epochs=25, depth=2), digits)
    rows += rows_of("transformer, 2 blocks", transformer, given.work / "transformer")
    pd.DataFrame(rows).to_csv(given.out, index=False)


if __name__ == "__main__":
    main()
