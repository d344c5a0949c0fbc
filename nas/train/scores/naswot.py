"""How differently the images of a batch switch the activations of a network.

References:
    [Mellor2021] Mellor, Turner, Storkey, Crowley. Neural Architecture Search without Training. ICML 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nas.train.scores.score import Need, Observed


@dataclass(frozen=True, kw_only=True)
class Naswot:
    """Logarithm of the determinant of the kernel of activation patterns [Mellor2021].

    Entry ``(i, j)`` of the kernel counts the units, over all activations, that images ``i`` and ``j`` switch alike.
    Minus infinity where two images cannot be told apart. For activations other than ReLU a unit counts as on where
    its input is positive.
    """

    needs: tuple[Need, ...] = ("patterns",)

    def __call__(self, observed: Observed) -> float:
        patterns = observed.patterns
        assert patterns is not None
        count = len(patterns[0])
        kernel = torch.zeros(count, count, dtype=torch.float64)
        for pattern in patterns:
            units = pattern.to(torch.float32)
            on = units.sum(dim=1)
            alike = pattern.shape[1] - on[:, None] - on[None, :] + 2 * (units @ units.T)
            kernel += alike.to("cpu", torch.float64)
        return float(torch.linalg.slogdet(kernel).logabsdet)
