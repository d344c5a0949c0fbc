"""The handwritten digits that scikit-learn brings along: 1,797 grey images of 8x8 pixels, ten classes.

References:
    [Alpaydin1998] E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits. UCI Machine Learning
        Repository, 1998. https://doi.org/10.24432/C50P49
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.train.data.assembly import RawImages, assemble
from nas.train.data.images import ImageData
from nas.train.data.options import DataOptions

_LARGEST = 16  # pixels count the dark cells of a 4x4 block


@dataclass(frozen=True, kw_only=True)
class Digits(DataOptions):
    """scikit-learn's digits [Alpaydin1998]. Nothing is downloaded."""

    def load(self) -> ImageData:
        """The digits, their values 0..16 brought to 0..255."""
        from sklearn.datasets import load_digits

        values, labels = load_digits(return_X_y=True)
        images = np.round(values.reshape(-1, 8, 8, 1) * (255 / _LARGEST)).astype(np.uint8)
        raw = RawImages(
            name="digits",
            labels=labels,
            parts=["train"] * len(labels),
            read=lambda index: images[index],
            name_of=lambda index: f"digit {index}",
            note=f"values 0..{_LARGEST} times 255/{_LARGEST}, rounded",
        )
        return assemble(raw, self)
