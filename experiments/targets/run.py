"""Trains three small networks, ships each to each target in each precision, and times the files side by side.

    python experiments/targets/run.py train --data CIFAR10 --work FOLDER [--networks mobile plain transformer]
    python experiments/targets/run.py files --data CIFAR10 --work FOLDER [--targets onnxruntime openvino tensorrt qnn]
    python experiments/targets/run.py times --data CIFAR10 --work FOLDER

CIFAR10 holds the images as Parquet files in the layout of Hugging Face. Weights, files and rows are kept in FOLDER, so
that targets whose packages are in several environments end in one table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from clocks import clocks
from networks import NAMES, SHAPE, network

from nas.deploy.export import export_onnx
from nas.deploy.files import torch_logits
from nas.deploy.records import Samples
from nas.deploy.targets.openvino import OpenVino
from nas.deploy.targets.registry import TARGETS, open_target
from nas.deploy.targets.target import Source, Target
from nas.device.anchor import anchor_model
from nas.device.cores import bound_core
from nas.device.host import host_facts
from nas.device.protocol import TimingProtocol
from nas.device.state import machine_state
from nas.device.timing import Bench, measure_on_bench
from nas.errors import UserError
from nas.problem.evaluation import Fidelity
from nas.train.data.parquet import Parquet
from nas.train.fit import fit
from nas.train.recipe import Recipe
from nas.train.task import ImageClassification, image_classification

IMAGES, EPOCHS, TEST, CALIBRATION = 5000, 6, 1000, 256
PROTOCOL = TimingProtocol(blocks=8, max_wait_s=20.0)


def trained(name: str, task: ImageClassification, work: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    module, weights = network(name), work / f"{name}.pt"
    if weights.is_file():
        module.load_state_dict(torch.load(weights, weights_only=True))
    else:
        fit(module, task, Recipe(), fidelity=Fidelity(epochs=EPOCHS), seed=0, input_size=SHAPE[1:])
        torch.save(module.state_dict(), weights)
    return module.cpu().eval()


def source(name: str, task: ImageClassification, work: Path) -> Source:
    module = trained(name, task, work)
    train, test = task.pixels("train", SHAPE[1:])[:CALIBRATION], task.pixels("test", SHAPE[1:])[:TEST]
    samples = Samples(
        calibration=task.normalise(train).numpy(),
        test=task.normalise(test).contiguous().numpy(),
        test_labels=task.labels("test").numpy()[:TEST],
        classes=task.data.classes,
        data=task.data.name,
        data_digest=task.data.digest,
        data_shape=SHAPE,
        mean=task.mean,
        std=task.std,
    )
    path = work / f"{name}.onnx"
    export_onnx(module, SHAPE, path)
    reference = torch_logits(module, samples.test)
    return Source(module=module, input_shape=SHAPE, samples=samples, reference=reference, files={"float32": path})


def row(target: Target, given: Source, precision: str, folder: Path) -> dict[str, object]:
    start = time.perf_counter()
    try:
        artifact = target.export(given, folder, precision)
        seconds = time.perf_counter() - start
        found = target.verify(artifact, given)
    except UserError as error:
        return {"reason": str(error)}
    told: dict[str, object] = {
        "file": str(artifact.path),
        "bytes": artifact.size_bytes,
        "export_seconds": seconds,
        "verify_seconds": time.perf_counter() - start - seconds,
        "level": found.level,
        "reason": found.reason,
        **{f"quick_{name}" if name == "latency_ms" else name: value for name, value in found.figures.items()},
    }
    if found.judgement is not None:
        told |= {"accuracy": found.judgement.accuracy, "agreement": found.judgement.agreement}
        told |= {"error": found.judgement.relative_error, "images": found.judgement.num_samples}
    return told


def timed(rows: Sequence[dict[str, object]]) -> None:
    """Adds ``latency_ms`` by the timing protocol, all files taking turns on one core."""
    here = [one for one in rows if one.get("level") == "executed" and str(one["file"]).endswith((".onnx", ".xml"))]
    with bound_core(1, ()) as core:
        bench = Bench(
            device="this-machine",
            load=clocks,
            anchor=anchor_model(),
            core=core,
            facts=lambda: dataclasses.replace(host_facts(), core=core.current),
            state=partial(machine_state, core.current),
        )
        found = measure_on_bench(bench, [Path(str(one["file"])) for one in here], protocol=PROTOCOL)
    for one, measured in zip(here, found, strict=True):
        one |= {"latency_ms": measured.latency_ms, "spread": measured.spread, "settled": measured.settled}


def files(given: argparse.Namespace) -> None:
    """Makes and judges the files of a network for some targets; the rows go to FOLDER/rows."""
    task = image_classification(Parquet(path=str(given.data), limit=IMAGES).load())
    (given.work / "rows").mkdir(parents=True, exist_ok=True)
    for name in given.networks:
        made = source(name, task, given.work)
        accuracy = float((made.reference.argmax(1) == made.samples.test_labels).mean())
        for kind in given.targets:
            target = OpenVino(quantiser="nncf") if kind == "openvino-nncf" else open_target(kind)
            rows: list[dict[str, object]] = []
            for precision in ("int8",) if kind == "openvino-nncf" else target.precisions:
                folder = given.work / "files" / name / kind / precision
                folder.mkdir(parents=True, exist_ok=True)
                found = row(target, made, precision, folder)
                rows.append({"network": name, "target": kind, "precision": precision, "torch": accuracy, **found})
                print(rows[-1], flush=True)
            (given.work / "rows" / f"{name}.{kind}.json").write_text(json.dumps(rows))


def times(given: argparse.Namespace) -> None:
    """Times the files of onnxruntime and OpenVINO in turns, and writes all rows."""
    rows: list[dict[str, object]] = []
    for name in NAMES:
        for kind in (*TARGETS, "openvino-nncf"):
            path = given.work / "rows" / f"{name}.{kind}.json"
            rows += json.loads(path.read_text()) if path.is_file() else []
    timed(rows)
    lines = [json.dumps({key: value for key, value in one.items() if key != "file"}) for one in rows]
    given.out.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "files", "times"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--targets", nargs="+", default=["onnxruntime", "openvino", "openvino-nncf", "tensorrt", "qnn"])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.jsonl"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    if given.part == "train":
        task = image_classification(Parquet(path=str(given.data), limit=IMAGES).load())
        for name in given.networks:
            trained(name, task, given.work)
            print(f"{name} is trained", flush=True)
    else:
        {"files": files, "times": times}[given.part](given)


if __name__ == "__main__":
    main()
