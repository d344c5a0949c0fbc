"""Files of untrained networks, which take as long as those of trained ones: what a calibration measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from nas.deploy.export import export_onnx
from nas.deploy.half import halve
from nas.deploy.options import Exporter
from nas.deploy.quantise import quantise
from nas.device.card import Precision
from nas.model.build import build
from nas.model.shapes import input_shape_of
from nas.space.network import Network

_IMAGES = 8  # ranges do not change what a quantised operator costs


def export_untrained(
    network: Network,
    folder: Path,
    precisions: Sequence[Precision],
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    exporter: Exporter,
    allow: Sequence[str] = (),
) -> dict[Precision, Path]:
    """Writes ``<digest>.<precision>.onnx`` for each precision; equal arguments give equal bytes.

    Args:
        network: whose weights are drawn at random, by a seed that follows from its digest.
        folder: that exists.
        precisions: to write.
        input_shape: channels, height, width of the data; the network may have a resolution of its own.
        num_classes: of the classifier.
        exporter: see `export_onnx`.
        allow: packages that custom operators may come from.

    Raises:
        UserError: a network that cannot be built, exported or converted.
    """
    shape = input_shape_of(network, input_shape)
    seed = int(network.digest[:8], 16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(network, input_shape=input_shape, num_classes=num_classes, allow=tuple(allow))
    files: dict[Precision, Path] = {
        precision: folder / f"{network.digest}.{precision}.onnx" for precision in precisions
    }
    float_file = folder / f"{network.digest}.float32.onnx"
    export_onnx(module, shape, float_file, exporter=exporter)
    images = np.random.default_rng(seed).standard_normal((_IMAGES, *shape), dtype=np.float32)
    for precision, file in files.items():
        if precision == "float16":
            halve(float_file, file)
        elif precision != "float32":
            quantise(float_file, file, images, activations="signed" if precision == "int8-signed" else "unsigned")
    if "float32" not in files:
        float_file.unlink()
    return files
