"""The images that a target finds ranges on.

Responsible for refusing, in one line, images on which every range would be wrong.
"""

from __future__ import annotations

import numpy as np

from nas.deploy.precision.calibration import check_normalisation
from nas.deploy.targets.target import Source
from nas.errors import UserError

_COMPARED = 512  # test images whose mean and deviation are held against those of the calibration images


def calibration_images(source: Source, limit: int) -> np.ndarray:
    """The first ``limit`` calibration images ``(n, c, h, w)`` float32.

    Raises:
        UserError: there are none, one is not finite, or they were normalised otherwise than the model's inputs are.
    """
    samples = source.samples
    images = np.ascontiguousarray(samples.calibration[:limit], dtype=np.float32)
    if not len(images):
        raise UserError("calibration", "must hold at least one image, got none", "give images of the training split")
    if not np.isfinite(images).all():
        raise UserError("calibration", "must be finite, got NaN or infinity", "look at the data's normalisation")
    check_normalisation(images, mean=samples.mean, std=samples.std, inputs=np.asarray(samples.test[:_COMPARED]))
    return images
