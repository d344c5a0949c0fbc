"""How independent the channels of a network's feature maps are.

References:
    [Jiang2023] Jiang, Wang, Bie. MeCo: Zero-Shot NAS with One Data and Single Forward Pass via Minimum Eigenvalue of
        Correlation. NeurIPS 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nas.train.scores.score import Need, Observed


@dataclass(frozen=True, kw_only=True)
class Meco:
    """Sum over convolutions of the least eigenvalue of the correlation matrix of their channels [Jiang2023].

    Taken of one image. A map with no more places than channels adds nothing: its correlation matrix is singular. The
    paper sums over all modules, activations and containers too; here it is the convolutions.
    """

    needs: tuple[Need, ...] = ("maps",)

    def __call__(self, observed: Observed) -> float:
        assert observed.maps is not None
        return sum(_least_eigenvalue(values) for values in observed.maps)


def _least_eigenvalue(values: torch.Tensor) -> float:
    channels, places = values.shape
    if places <= channels or channels < 2:
        return 0.0
    correlations = torch.nan_to_num(torch.corrcoef(values.to(torch.float64)), nan=0.0, posinf=0.0, neginf=0.0)
    return float(torch.linalg.eigvalsh(correlations)[0])
