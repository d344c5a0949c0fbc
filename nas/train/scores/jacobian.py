"""How differently a network responds to small changes of the images of a batch.

References:
    [Mellor2020] Mellor, Turner, Storkey, Crowley. Neural Architecture Search without Training. arXiv:2006.04647v1,
        2020. (The first version; [Mellor2021] at ICML 2021 replaced it by `nas.train.scores.naswot`.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nas.train.scores.score import Need, Observed

FLOOR = 1e-5  # added to eigenvalues, as in the paper


@dataclass(frozen=True, kw_only=True)
class JacobianCovariance:
    """How little the Jacobians of the images correlate [Mellor2020]; 0 less ``n`` at best.

    ``-sum(log(v + k) + 1 / (v + k))`` over the eigenvalues ``v`` of the ``(n, n)`` correlation matrix of the gradients
    of the summed outputs by the image. NaN where an image has a constant gradient.
    """

    needs: tuple[Need, ...] = ("input_gradients",)

    def __call__(self, observed: Observed) -> float:
        assert observed.input_gradients is not None
        correlations = torch.corrcoef(observed.input_gradients.to(torch.float64))
        raised = torch.linalg.eigvalsh(correlations) + FLOOR
        return float(-(raised.log() + 1 / raised).sum())
