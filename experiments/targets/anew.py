"""An INT8 file made anew under stricter gates: how far do operators that go back to float32 raise its agreement?

python experiments/targets/anew.py MODEL --data CIFAR10

MODEL is a model folder of a run on 10,000 images of CIFAR10 (Parquet files in the layout of Hugging Face). Every third
image of its test split judges.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from nas.deploy.files import torch_logits
from nas.deploy.load import load_model
from nas.deploy.options import DeployOptions
from nas.deploy.samples import samples_of
from nas.deploy.targets.onnxruntime import OnnxRuntime
from nas.deploy.targets.target import Source
from nas.train.data.parquet import Parquet
from nas.train.task import image_classification

LIMIT, STEP, REVERT = 10_000, 3, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    task = image_classification(Parquet(path=str(given.data), limit=LIMIT).load())
    loaded = load_model(given.model)
    whole = samples_of(task, loaded.architecture.network, num_calibration=256)
    picked = slice(0, whole.test.shape[0], STEP)
    samples = replace(whole, test=whole.test[picked], test_labels=whole.test_labels[picked])
    _, channels, height, width = loaded.manifest["input"]["shape"]
    source = Source(
        module=loaded.module,
        input_shape=(channels, height, width),
        samples=samples,
        reference=torch_logits(loaded.module, samples.test),
        files={"float32": given.model / "model.fp32.onnx"},
    )
    print("| min_agreement | agreement | accuracy | kB | reason |\n|---|---|---|---|---|")
    for least in (0.9, 0.97, 0.99):
        target = OnnxRuntime(options=DeployOptions(min_agreement=least, revert=REVERT))
        with tempfile.TemporaryDirectory() as folder:
            artifact = target.export(source, Path(folder), "int8")
            found = target.verify(artifact, source)
            assert found.judgement is not None
            figures = f"{found.judgement.agreement:.1%} | {found.judgement.accuracy:.1%}"
            print(f"| {least} | {figures} | {artifact.size_bytes / 1e3:.1f} | {found.reason or 'ok'} |", flush=True)


if __name__ == "__main__":
    main()
