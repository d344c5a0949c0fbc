"""Narrow, sparse, taught and rounded networks, each against the control that tells whether it was worth it.

    python experiments/compression/run.py --data digits --out results.jsonl
    python experiments/compression/run.py --data /path/to/cifar10 --out results.jsonl

One line a network, seed and arm is added to the file; what is there is not run again. `table.py` makes the tables.
Accuracies of arms named ``file`` are those of an ONNX file in onnxruntime, all others torch's; all are of images that
no training saw.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nas.deploy.export import export_onnx
from nas.deploy.gain import measure_gain
from nas.deploy.judge import judge_file
from nas.deploy.qat import write_qat_file
from nas.deploy.quantise import quantise
from nas.device.card import load_device
from nas.locate import resource_folder
from nas.model.build import build
from nas.model.costs import network_costs
from nas.problem.evaluation import Fidelity
from nas.space.narrowing import narrowed
from nas.space.network import Layer, Network
from nas.train.compression.distillation import Distillation, DistilOptions
from nas.train.compression.options import CompressOptions
from nas.train.compression.sparsity import sparsify
from nas.train.compression.steps import Setting, thin, train_aware
from nas.train.compression.teachers import TorchTeacher
from nas.train.data.digits import Digits
from nas.train.data.parquet import Parquet
from nas.train.fit import fit
from nas.train.judge import judge, logits
from nas.train.recipe import Recipe
from nas.train.task import ImageClassification, image_classification

WIDE_EPOCHS, FINE_EPOCHS, AWARE_EPOCHS = 16, 8, 4
CIFAR_TRAIN, CIFAR_TEST = 2000, 4000


def layer(op: str, **parameters: int | float | str | bool) -> Layer:
    return Layer(op=op, parameters=parameters)


NETWORKS: Mapping[str, tuple[Layer, ...]] = {
    "residual": (
        layer("conv", channels=16, stride=2),
        layer("basic_block", channels=16),
        layer("basic_block", channels=32, stride=2),
        layer("basic_block", channels=32),
        layer("classifier"),
    ),
    "inverted": (
        layer("conv", channels=16, stride=2, activation="hardswish"),
        layer("inverted_residual", channels=16, expansion=4, squeeze_excite=True, activation="hardswish"),
        layer("inverted_residual", channels=16, expansion=4, activation="hardswish"),
        layer("inverted_residual", channels=32, expansion=4, stride=2, squeeze_excite=True, activation="hardswish"),
        layer("inverted_residual", channels=32, expansion=4, activation="hardswish"),
        layer("classifier"),
    ),
}


def task_of(data: str) -> ImageClassification:
    """Digits, two fifths to test; of CIFAR-10 at 16x16 pixels 2,000 images to train on and 4,000 to test."""
    if data == "digits":
        return image_classification(Digits(test_share=0.4).load())
    loaded = Parquet(path=data, resolution=16).load()
    rng = np.random.default_rng(0)
    splits = dict(loaded.splits)
    splits["train"] = np.sort(rng.choice(splits["train"], CIFAR_TRAIN, replace=False))
    splits["test"] = np.sort(rng.choice(splits["test"], CIFAR_TEST, replace=False))
    return image_classification(replace(loaded, splits=splits, digest=f"{loaded.digest}-{CIFAR_TRAIN}"))


class Bench:
    """One data set, network and seed: everything is held against the same trained wide network."""

    def __init__(self, task: ImageClassification, name: str, seed: int) -> None:
        self.task, self.seed = task, seed
        network = Network(resolution=None, stages=NETWORKS[name], digest=name)
        self.wide_network = network
        self.narrow_network = replace(network, stages=tuple(narrowed(stage, 0.5) for stage in network.stages))
        self.recipe = Recipe(flip=task.input_shape[0] == 3)
        self.setting = Setting(
            task=task, recipe=self.recipe, options=CompressOptions(), seed=seed + 100, judge_on="test"
        )
        self.wide = self.fresh(network)
        self.train(self.wide, WIDE_EPOCHS)

    def fresh(self, network: Network) -> nn.Module:
        torch.manual_seed(self.seed)
        return build(network, input_shape=self.task.input_shape, num_classes=self.task.num_classes)

    def train(self, module: nn.Module, epochs: int, teacher: Distillation | None = None) -> float:
        result = fit(
            module, self.task, self.recipe, fidelity=Fidelity(epochs=epochs), seed=self.seed, judge_on="test",
            teacher=teacher,
        )  # fmt: skip
        return float(result.metrics["accuracy"])

    def taught(self, **options: float) -> Distillation:
        return Distillation(teacher=TorchTeacher(copy.deepcopy(self.wide)), options=DistilOptions(**options))

    def thinned(self, *, narrow: bool = False, teacher: Distillation | None = None, **changes: object) -> float:
        """Accuracy after channels or weights went and a fine-tuning."""
        sparsity = changes.pop("sparsity", 0.0)
        epochs = int(changes.pop("epochs", FINE_EPOCHS))
        setting = replace(self.setting, options=CompressOptions(**changes), teacher=teacher)
        module = self.fresh(self.narrow_network) if narrow else None
        return float(thin(self.wide, module, setting, sparsity=sparsity, epochs=epochs).fit.metrics["accuracy"])

    def channels(self) -> Iterator[tuple[str, float]]:
        yield "wide", judge(self.wide, self.task, "test")["accuracy"]
        yield "wide, fine-tuned", self.thinned()
        yield "narrow from scratch, equal steps", self.train(self.fresh(self.narrow_network), WIDE_EPOCHS + FINE_EPOCHS)
        for kind in ("magnitude", "scale"):
            yield f"shrunk by {kind}, not tuned", self.thinned(narrow=True, importance=kind, epochs=0)
            yield f"shrunk by {kind}", self.thinned(narrow=True, importance=kind)

    def zeros(self) -> Iterator[tuple[str, float]]:
        for name, sparsity in (("50 %", 0.5), ("80 %", 0.8), ("2:4", "2:4")):
            yield f"zeros {name}, not tuned", self.thinned(sparsity=sparsity, epochs=0)
            for zeroing in ("at-once", "gradual")[: 1 if name == "2:4" else 2]:
                yield f"zeros {name}, {zeroing}", self.thinned(sparsity=sparsity, zeroing=zeroing)

    def lessons(self) -> Iterator[tuple[str, float]]:
        total = WIDE_EPOCHS + FINE_EPOCHS
        for name, options in (("scores", {}), ("scores and maps", {"feature_weight": 1.0})):
            teacher = self.taught(**options)
            yield f"narrow from scratch, taught by {name}", self.train(self.fresh(self.narrow_network), total, teacher)
            yield f"shrunk, taught by {name}", self.thinned(narrow=True, teacher=teacher)
            yield f"zeros 80 %, taught by {name}", self.thinned(sparsity=0.8, teacher=teacher)

    def rounding(self, folder: Path) -> Iterator[tuple[str, float]]:
        images = self.task.images("train")[:256].numpy()
        float_file = self.export(self.wide, folder / "wide.onnx")
        yield "file float32", self.accuracy(float_file, self.wide)[0]
        control_file = None
        for profile in ("unsigned", "signed"):
            setting = replace(self.setting, options=CompressOptions(qat_control=control_file is None))
            start = time.monotonic()
            aware = train_aware(self.wide, setting, profile=profile, epochs=AWARE_EPOCHS)
            if aware.control is not None:
                control, control_file = aware.control, self.export(aware.control, folder / "control.onnx")
                yield "file float32, trained on (control)", self.accuracy(control_file, control)[0]
            for name, source in (("", float_file), (" of the control", control_file)):
                path = folder / f"ptq{bool(name)}.{profile}.onnx"
                quantise(source, path, images, activations=profile)
                yield f"file int8 {profile}, calibrated{name}", self.accuracy(path, self.wide)[0]
            path = folder / f"qat.{profile}.onnx"
            write_qat_file(aware.module, self.task.input_shape, path)
            accuracy, agreement = self.accuracy(path, aware.module)
            yield f"file int8 {profile}, trained with rounding", accuracy
            yield f"agreement of that file with torch, {profile}", agreement
            yield f"seconds of rounding and control, {profile}", time.monotonic() - start

    def export(self, module: nn.Module, path: Path) -> Path:
        export_onnx(module, self.task.input_shape, path)
        return path

    def accuracy(self, path: Path, module: nn.Module) -> tuple[float, float]:
        images, labels = self.task.images("test").numpy(), self.task.labels("test").numpy()
        judged = judge_file(path, np.ascontiguousarray(images), labels, logits(module, self.task, "test").numpy())
        return judged.accuracy, judged.agreement


def gains(task: ImageClassification, name: str) -> Iterator[tuple[str, float]]:
    """Time of narrow, sparse and INT8 files as shares of the wide float32 file's; weights do not matter for time."""
    device = load_device("this-machine", [resource_folder("latency_models")])
    torch.manual_seed(0)
    wide = Network(resolution=None, stages=NETWORKS[name], digest=name)
    shape, classes = task.input_shape, task.num_classes
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files, macs = [], []
        for width in (1.0, 0.75, 0.5, 0.25):
            network = replace(wide, stages=tuple(narrowed(stage, width) for stage in wide.stages))
            files.append(folder / f"{width}.onnx")
            export_onnx(build(network, input_shape=shape, num_classes=classes), shape, files[-1])
            macs.append(network_costs(network, input_shape=shape, num_classes=classes).macs)
        for width, path, count in zip((0.75, 0.5, 0.25), files[1:], macs[1:], strict=True):
            gain = measure_gain(files[0], path, macs=(macs[0], count), device=device)
            for what, value in (("MACs", gain.macs_share), ("time", gain.time_share), ("bytes", gain.bytes_share)):
                yield f"width {width:g}: share of the {what}", value if gain.settled or what != "time" else float("nan")
            yield f"width {width:g}: ms before", gain.before.latency_ms
        module = build(wide, input_shape=shape, num_classes=classes)
        sparsify(module, 0.8)
        export_onnx(module, shape, folder / "zeros.onnx")
        gain = measure_gain(files[0], folder / "zeros.onnx", macs=(macs[0], macs[0]), device=device)
        yield "zeros 80 %: share of the time", gain.time_share if gain.settled else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, or a folder of CIFAR-10 as Parquet files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--parts", nargs="*", default=["channels", "zeros", "lessons", "rounding", "gains"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    task = task_of(given.data)
    label = "digits" if given.data == "digits" else "cifar10"
    lines = given.out.read_text().splitlines() if given.out.exists() else []
    done = {(r["data"], r["network"], r["seed"], r["part"]) for r in map(json.loads, lines)}
    for name in given.networks:
        for seed in range(given.seeds):
            wanted = [p for p in given.parts if (label, name, seed, p) not in done and (p != "gains" or seed == 0)]
            bench = Bench(task, name, seed) if set(wanted) - {"gains"} else None
            for part in wanted:
                rows = [
                    {"data": label, "network": name, "seed": seed, "part": part, "arm": arm, "value": value}
                    for arm, value in figures(part, bench, task, name)
                ]
                with given.out.open("a") as out:
                    out.writelines(json.dumps(row) + "\n" for row in rows)


def figures(part: str, bench: Bench | None, task: ImageClassification, name: str) -> list[tuple[str, float]]:
    """Arm and figure of a part, all of them."""
    if part == "gains":
        return list(gains(task, name))
    assert bench is not None
    if part == "rounding":
        with tempfile.TemporaryDirectory() as folder:
            return list(bench.rounding(Path(folder)))
    parts = {"channels": bench.channels, "zeros": bench.zeros, "lessons": bench.lessons}
    return list(parts[part]())


if __name__ == "__main__":
    main()
