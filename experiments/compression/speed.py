"""Latency of INT8 files that were trained with rounding, against files that were calibrated, on this machine.

    python experiments/compression/speed.py

Weights are random: they do not matter for time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from run import NETWORKS, layer

from nas.deploy.export import export_onnx
from nas.deploy.qat import write_qat_file
from nas.deploy.quantise import quantise
from nas.device.card import load_device
from nas.device.where.measure import measure_on
from nas.locate import resource_folder
from nas.model.build import build
from nas.space.network import Layer, Network
from nas.train.compression.qat import prepare_qat

SHAPE = (3, 32, 32)


def with_relu(stages: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The same network with another activation."""
    return tuple(
        layer(stage.op, **{**stage.parameters, "activation": "relu"}) if "activation" in stage.parameters else stage
        for stage in stages
    )


def main() -> None:
    torch.set_num_threads(1)
    device = load_device("this-machine", [resource_folder("latency_models")])
    networks = {
        "plain 3x3": (
            layer("conv", channels=32),
            layer("conv", channels=64, stride=2),
            layer("conv", channels=64),
            layer("conv", channels=128, stride=2),
            layer("conv", channels=128),
            layer("classifier"),
        ),
        "residual": NETWORKS["residual"],
        "inverted, relu": with_relu(NETWORKS["inverted"]),
        "inverted, hardswish": NETWORKS["inverted"],
    }
    arms = ["float32"] + [f"{kind} {sign}" for sign in ("unsigned", "signed") for kind in ("calibrated", "trained")]
    print(f"| network, ms | {' | '.join(arms)} |\n|---|{'---|' * len(arms)}")
    for name, stages in networks.items():
        torch.manual_seed(0)
        network = Network(resolution=None, stages=stages, digest=name)
        module = build(network, input_shape=SHAPE, num_classes=10).eval()
        images = torch.randn(64, *SHAPE)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            files = [folder / "float32.onnx"]
            export_onnx(module, SHAPE, files[0])
            for sign in ("unsigned", "signed"):
                files += [folder / f"calibrated.{sign}.onnx", folder / f"trained.{sign}.onnx"]
                quantise(files[0], files[-2], images.numpy(), activations=sign)
                write_qat_file(prepare_qat(module, images, profile=sign), SHAPE, files[-1])
            measured = measure_on(device, files)
        cells = [f"{each.latency_ms:.3f}{'' if each.settled else ' (not settled)'}" for each in measured]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
