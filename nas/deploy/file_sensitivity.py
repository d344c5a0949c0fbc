"""How the operators of a written file take their bits, for its manifest.

Responsible for the records that a run keeps of each file of 8 or fewer bits. The file itself is held against its
float32 file, so that nothing is calibrated again: one pass over a few images gives the noise of all operators. Trying
the worst one at a time, as `nas.deploy.precision.sensitivity.sensitivities` does, takes a file each and is left to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from nas.deploy.options import DeployOptions, Precision
from nas.deploy.precision.assignment import Wish, assign
from nas.deploy.precision.calibration import prepare
from nas.deploy.precision.noise import Noise, operator_noise
from nas.deploy.precision.sensitivity import Sensitivity, weight_counts
from nas.deploy.quantise import tool_errors

MOST_OPERATORS = 64
"""Records that are kept of a file, the most sensitive operators."""
_MOST_IMAGES, _LEAST_IMAGES = 64, 8
_MOST_PIXELS = 64 * 32 * 32
_QUANTISED: tuple[Precision, ...] = ("int8", "int8-dynamic", "int4")


def file_sensitivities(
    path: Path,
    float32_file: Path,
    precision: Precision,
    *,
    quantisation: Mapping[str, Any],
    images: np.ndarray,
    options: DeployOptions,
) -> list[dict[str, object]]:
    """Records of `Sensitivity.to_record`, the most sensitive first, decibels to two digits; ``alone`` is None.

    Args:
        path: of a file that `nas.deploy.precision.makers.make_file` wrote.
        float32_file: that it was made from.
        precision: of the file.
        quantisation: what `make_file` said of it: ``stages``, ``reverted`` and ``method`` are read.
        images: ``(n, c, h, w)`` float32; the first 64 are taken, fewer where they are larger than 32x32
            (every pixel counts towards an operator's noise), but 8.
        options: that the file was made by.

    Returns:
        At most `MOST_OPERATORS`. None at all for a file of float32 or float16, for one with stages in float16 (their
        values cannot stand beside float32 ones), and where there are no images.

    Raises:
        UserError: the two files cannot be run side by side.
    """
    stages = dict(quantisation.get("stages", {}))
    if precision not in _QUANTISED or "float16" in stages.values() or not len(images):
        return []
    with tool_errors(path, "held against its float32 file"):
        prepared = prepare(float32_file)
        wish = Wish(precision=precision, stages=stages, rest=options.int4_rest)
        given = _held(assign(prepared, wish), quantisation)
        noises = operator_noise(prepared, onnx.load(path), images[: _num_images(images)])
    weights = weight_counts(prepared)
    # An operator that answers nothing but zeros has no ratio, and no say in what comes out.
    known = [noise for noise in noises if noise.operator in given and noise.signal > 0]
    known.sort(key=lambda noise: noise.sqnr_db)
    return [_record(noise, given[noise.operator], weights) for noise in known[:MOST_OPERATORS]]


def _num_images(images: np.ndarray) -> int:
    pixels = int(np.prod(images.shape[2:]))
    return min(_MOST_IMAGES, max(_LEAST_IMAGES, _MOST_PIXELS // pixels))


def _held(assignment: Mapping[str, Precision], quantisation: Mapping[str, Any]) -> dict[str, Precision]:
    """The precisions that the file holds: operators that went back have one step more bits than was wished for."""
    held = dict(assignment)
    for name in quantisation.get("reverted", ()):
        if held[name] == "int4" and quantisation["method"] is not None:
            held[name] = "int8"
        else:
            del held[name]
    return held


def _record(noise: Noise, precision: Precision, weights: Mapping[str, int]) -> dict[str, object]:
    decibels = noise.sqnr_db
    return Sensitivity(
        operator=noise.operator,
        op_type=noise.op_type,
        precision=precision,
        num_weights=weights.get(noise.operator, 0),
        sqnr_db=round(decibels, 2) if math.isfinite(decibels) else decibels,
    ).to_record()
