"""Files of untrained networks, which take as long as those of trained ones: what a calibration measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from nas.deploy.export import export_onnx
from nas.deploy.options import DeployOptions, Exporter
from nas.deploy.options import Precision as FilePrecision
from nas.deploy.precision.makers import make_file
from nas.device.card import Precision
from nas.model.build import build
from nas.model.shapes import input_shape_of
from nas.space.network import Network

_IMAGES = 8  # ranges do not change what a quantised operator costs
# Nothing goes back to more bits: what random weights answer means nothing.
_UNSIGNED = DeployOptions(activations="unsigned", revert=0)
_SIGNED = DeployOptions(activations="signed", revert=0)
_MADE_AS: dict[Precision, tuple[FilePrecision, DeployOptions]] = {
    "float16": ("float16", _UNSIGNED),
    "int8": ("int8", _UNSIGNED),
    "int8-signed": ("int8", _SIGNED),
    "int8-dynamic": ("int8-dynamic", _UNSIGNED),
    "int4": ("int4", _UNSIGNED),
    "int4-signed": ("int4", _SIGNED),
}


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
        if precision != "float32":
            name, options = _MADE_AS[precision]
            make_file(name, float_file, file, images, options)
    if "float32" not in files:
        float_file.unlink()
    return files
