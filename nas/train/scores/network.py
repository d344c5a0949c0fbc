"""Scores of one network.

Responsible for the scores by name, and for computing those asked for together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor, nn

from nas.errors import unknown_name
from nas.train.scores.az_nas import Expressivity, Progressivity, Trainability
from nas.train.scores.gradients import GradientNorm, Snip
from nas.train.scores.jacobian import JacobianCovariance
from nas.train.scores.meco import Meco
from nas.train.scores.naswot import Naswot
from nas.train.scores.observe import observe
from nas.train.scores.score import Observed, Score
from nas.train.scores.size import Layers, Macs, Parameters
from nas.train.scores.swap import Swap
from nas.train.scores.synflow import Synflow
from nas.train.scores.vkdnw import FisherEntropy, Vkdnw
from nas.train.scores.zico import Zico

SCORES: dict[str, Score] = {
    "parameters": Parameters(),
    "macs": Macs(),
    "layers": Layers(),
    "synflow": Synflow(),
    "naswot": Naswot(),
    "swap": Swap(),
    "jacobian": JacobianCovariance(),
    "gradient-norm": GradientNorm(),
    "snip": Snip(),
    "zico": Zico(),
    "meco": Meco(),
    "expressivity": Expressivity(),
    "progressivity": Progressivity(),
    "trainability": Trainability(),
    "fisher-entropy": FisherEntropy(),
    "vkdnw": Vkdnw(),
}


def score_network(
    module: nn.Module, images: Tensor, labels: Tensor, which: Iterable[str], *, seed: int
) -> dict[str, float]:
    """Scores of an untrained network, computed together; larger goes along with a better network.

    The module is left as it was: weights, running statistics, modes, gradients, and torch's random state.

    Args:
        module: in float32, as it would be trained; gives ``(n, num_classes)``. Computed where it is.
        images: ``(n, c, h, w)`` float32, normalised; 32 or more, of an odd number the last one is left out.
        labels: ``(n,)`` int64.
        which: names of `SCORES`.
        seed: of random signals and random layers; on a CPU equal arguments give equal scores.

    Returns:
        Name -> score, in the order of ``which``; NaN where the network is degenerate or does not let itself be looked
        at (no activation module, a custom operator that cannot be run in this way).

    Raises:
        UserError: an unknown name.
    """
    names = check_scores(which)
    needs = {need for name in names for need in SCORES[name].needs}
    observed = observe(module, images, labels, needs, seed=seed)
    return {name: _score(SCORES[name], observed) for name in names}


def check_scores(names: Iterable[str], *, where: str = "scores") -> tuple[str, ...]:
    """The names as a tuple. Raises `UserError` for one that is not of `SCORES`."""
    names = tuple(names)
    for name in names:
        if name not in SCORES:
            raise unknown_name(where, "score", name, SCORES)
    return names


def _score(score: Score, observed: Observed) -> float:
    if any(need in observed.failures for need in score.needs):
        return math.nan
    try:
        value = score(observed)
    except (ArithmeticError, ValueError, RuntimeError):  # linear algebra of figures that are not finite
        return math.nan
    return value if math.isfinite(value) else math.nan
