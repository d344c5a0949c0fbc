"""How many different things the units of a network respond to.

References:
    [Peng2024] Peng, Song, Fayek, Ciesielski, Chang. SWAP-NAS: Sample-Wise Activation Patterns for Ultra-fast NAS. ICLR
        2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from nas.train.scores.score import Need, Observed

IMAGES_AT_MOST = 32  # a unit's pattern then fits a whole number; the paper takes 16 to 32


@dataclass(frozen=True, kw_only=True)
class Swap:
    """Natural logarithm of the number of distinct sample-wise activation patterns [Peng2024].

    The pattern of a unit is which of the images (the first 32 at most) switch it on. The paper takes the number itself,
    averages it over initialisations, and may weight it by size; here it is one initialisation without weight.
    """

    needs: tuple[Need, ...] = ("patterns",)

    def __call__(self, observed: Observed) -> float:
        assert observed.patterns is not None
        different = [torch.unique(_words(pattern)) for pattern in observed.patterns]
        return math.log(len(torch.unique(torch.cat(different))))


def _words(pattern: torch.Tensor) -> torch.Tensor:
    """``(units,)`` int64: bit ``i`` is the response to image ``i``."""
    words = torch.zeros(pattern.shape[1], dtype=torch.int64, device=pattern.device)
    for place, responses in enumerate(pattern[:IMAGES_AT_MOST]):
        words |= responses.to(torch.int64) << place
    return words
