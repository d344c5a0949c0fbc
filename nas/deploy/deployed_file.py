"""The file of a network in the precision that it is shipped in, for a judgement and not for keeps.

Responsible for going from a module and its deployment to one file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from nas.deploy.export import export_onnx
from nas.deploy.options import PRECISIONS, DeployOptions, Method, Precision
from nas.deploy.precision.makers import make_file
from nas.model.build import module_names
from nas.space.deployment import FLOAT
from nas.space.network import Network

FLOAT_FILE = "model.fp32.onnx"


def write_deployed(
    module: nn.Module,
    network: Network,
    folder: Path,
    *,
    calibration: np.ndarray,
    options: DeployOptions,
) -> Path:
    """Writes the float32 file of a module and, where that is another, the file of its precision; gives the latter.

    Args:
        module: of ``network``, trained, on the CPU, in evaluation mode.
        network: with its deployment.
        folder: for both files.
        calibration: ``(n, c, h, w)`` float32, as the model takes them, n > 0.
        options: how files are made. Ranges are found by the one method ``minmax`` where it says ``auto``.

    Raises:
        UserError: the network cannot be exported or converted.
    """
    _, channels, height, width = calibration.shape
    float_file, precision = folder / FLOAT_FILE, network.deployment.file_precision
    export_onnx(module, (channels, height, width), float_file, exporter=options.exporter)
    if precision == FLOAT:
        return float_file
    path = folder / f"model.{precision}.onnx"
    method: Method = "minmax" if options.method == "auto" else options.method
    # What a precision costs is for the search to find out: no operator goes back to more bits here.
    made = replace(options, method=method, revert=0)
    make_file(precision, float_file, path, calibration, made, stages=precisions_of_modules(network))
    return path


def precisions_of_modules(network: Network) -> dict[str, Precision]:
    """Name of a module -> its precision, for those that differ from the file's; {} where none does.

    As `nas.deploy.precision.makers.make_file` takes them.
    """
    if not network.deployment.is_mixed:
        return {}
    whole = network.deployment.file_precision
    pairs = zip(module_names(network), network.precisions, strict=True)
    return {name: known for name, own in pairs if own != whole for known in PRECISIONS if known == own}
