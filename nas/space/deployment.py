"""How a network is shipped: precision of its file, width, sparsity.

Responsible for the value `Deployment` and for the names of precisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

PrecisionName = Literal["float32", "float16", "int8", "int8-dynamic", "int4"]
"""Of a file. ``int8``: weights and activations by calibration; ``int8-dynamic``: int8 weights, ranges of activations
found at run time; ``int4``: weights of matrix products in blocks of 4 bits."""

PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)
FLOAT = "float32"
Sparsity = float | Literal["2:4"]
TWO_OF_FOUR: Literal["2:4"] = "2:4"


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What becomes of a trained network before it is shipped.

    As `nas.space.space.SearchSpace.network` gives it, it is canonical: ``stages`` holds only stages that the network
    has and that differ from ``precision``, and a width that leaves every layer as it is counts as 1.

    Attributes:
        precision: of the whole file, one of `PRECISIONS`.
        stages: stage name -> precision, where it differs.
        width: share of the channels that are left of each layer, in (0, 1].
        sparsity: share of the weights that are zero, in [0, 1), or ``2:4``: two of every four.
    """

    precision: str = FLOAT
    stages: Mapping[str, str] = field(default_factory=dict)
    width: float = 1.0
    sparsity: Sparsity = 0.0

    @property
    def is_default(self) -> bool:
        """Whether it is a dense float32 file of the network as it was trained."""
        return self == Deployment()

    @property
    def file_precision(self) -> str:
        """What the file is called after: the one precision beside float32 that is in it, float32 where none is."""
        return next((name for name in (self.precision, *self.stages.values()) if name != FLOAT), FLOAT)

    @property
    def zeros(self) -> float:
        """Share of the weights that are zero: 0.5 for ``2:4``."""
        return 0.5 if self.sparsity == TWO_OF_FOUR else float(self.sparsity)

    @property
    def is_mixed(self) -> bool:
        """Whether stages differ in precision."""
        return bool(self.stages)

    def of_stage(self, name: str) -> str:
        """The precision of a stage."""
        return self.stages.get(name, self.precision)

    def __str__(self) -> str:
        parts = [self.precision, *(f"{name} {precision}" for name, precision in self.stages.items())]
        parts += [f"width {self.width:g}"] if self.width != 1 else []
        parts += [f"{self.sparsity} sparse"] if self.sparsity else []
        return ", ".join(parts)


def canonical_deployment(deployment: Deployment, stage_names: Sequence[str], *, narrower: bool) -> Deployment:
    """The one form of all deployments that give the same file.

    Args:
        deployment: as chosen.
        stage_names: of the stages that the folded network has, in order.
        narrower: whether the width changes any layer.
    """
    found = list(dict.fromkeys(deployment.of_stage(name) for name in stage_names)) or [deployment.precision]
    precision = deployment.precision if deployment.precision in found else found[0]
    stages = {name: deployment.of_stage(name) for name in dict.fromkeys(stage_names)}
    return Deployment(
        precision=precision,
        stages={name: own for name, own in stages.items() if own != precision},
        width=float(deployment.width) if narrower else 1.0,
        sparsity=deployment.sparsity if deployment.sparsity == TWO_OF_FOUR else float(deployment.sparsity),
    )
