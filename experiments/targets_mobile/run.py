"""Trains three small networks on the digits, ships each to each target in each precision, and writes a table.

python experiments/targets_mobile/run.py [--out experiments/targets_mobile/results.jsonl]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from networks import SHAPE, network
from torch.nn import functional

from nas.deploy.export import export_onnx
from nas.deploy.records import Samples
from nas.deploy.targets.registry import open_target
from nas.deploy.targets.target import Source, Target
from nas.errors import UserError
from nas.train.data.digits import Digits

TARGETS = ("litert", "executorch", "coreml", "microcontroller")
NETWORKS = ("mobile", "plain", "transformer")
EPOCHS, BATCH, CALIBRATION = 40, 32, 256


def digits() -> tuple[torch.Tensor, torch.Tensor, dict[str, np.ndarray]]:
    """Images ``(n, 1, 16, 16)`` float32, normalised; labels; positions by split."""
    data = Digits().load()
    pixels = torch.tensor(data.images).permute(0, 3, 1, 2).float() / 255
    images = functional.interpolate(pixels, SHAPE[1:], mode="bilinear", antialias=True)
    splits = {name: np.asarray(positions) for name, positions in data.splits.items()}
    train = images[splits["train"]]
    return (images - train.mean()) / train.std(), torch.tensor(data.labels), splits


def trained(name: str, images: torch.Tensor, labels: torch.Tensor) -> torch.nn.Module:
    """After 40 epochs of AdamW with a cosine schedule, seed 0."""
    torch.manual_seed(0)
    module = network(name).train()
    steps = EPOCHS * (len(images) // BATCH)
    optimiser = torch.optim.AdamW(module.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images))
        for start in range(0, len(images) - BATCH + 1, BATCH):
            picked = order[start : start + BATCH]
            optimiser.zero_grad()
            functional.cross_entropy(module(images[picked]), labels[picked]).backward()
            optimiser.step()
            schedule.step()
    return module.eval()


def source(name: str, folder: Path) -> Source:
    images, labels, splits = digits()
    module = trained(name, images[splits["train"]], labels[splits["train"]])
    test = images[splits["test"]].contiguous()
    samples = Samples(
        calibration=images[splits["train"][:CALIBRATION]].numpy(),
        test=test.numpy(),
        test_labels=labels[splits["test"]].numpy(),
        classes=tuple("0123456789"),
        data="digits",
        data_digest="",
        data_shape=SHAPE,
        mean=(0.5,),
        std=(0.5,),
    )
    with torch.inference_mode():
        reference = module(test).numpy()
    path = folder / f"{name}.onnx"
    export_onnx(module, SHAPE, path)
    return Source(module=module, input_shape=SHAPE, samples=samples, reference=reference, files={"float32": path})


def row(target: Target, given: Source, precision: str, folder: Path) -> dict[str, object]:
    start = time.perf_counter()
    try:
        artifact = target.export(given, folder, precision)
        seconds = time.perf_counter() - start
        found = target.verify(artifact, given)
    except UserError as error:
        return {"reason": str(error)}
    told: dict[str, object] = {"bytes": artifact.size_bytes, "seconds": seconds, "level": found.level}
    told |= {"reason": found.reason, "notes": artifact.notes}
    if found.judgement is not None:
        judgement = found.judgement
        told |= {"accuracy": judgement.accuracy, "agreement": judgement.agreement, "error": judgement.relative_error}
    return told | dict(found.figures)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, options.out.open("w") as out:
        sources = {net: source(net, Path(name)) for net in NETWORKS}
        for kind in TARGETS:
            target = open_target(kind)
            for net, given in sources.items():
                accuracy = float((given.reference.argmax(1) == given.samples.test_labels).mean())
                for precision in target.precisions:
                    folder = Path(name) / kind / net / precision
                    folder.mkdir(parents=True)
                    found = {"target": kind, "network": net, "precision": precision, "torch_accuracy": accuracy}
                    out.write(json.dumps(found | row(target, given, precision, folder)) + "\n")
                    out.flush()


if __name__ == "__main__":
    main()
