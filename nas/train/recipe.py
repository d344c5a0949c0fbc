"""How a network is trained.

Responsible for the record `Recipe` and for what its fields may be. How many epochs there are is the fidelity's.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from nas.errors import UserError
from nas.train.checks import check_flag, check_number, check_one_of

OptimiserName = Literal["sgd", "adamw"]
ScheduleName = Literal["cosine", "constant"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained; nothing in it depends on the network.

    Lengths within an image are shares of its side, because networks see images at several resolutions.

    Attributes:
        optimiser: ``sgd`` (with momentum) or ``adamw``.
        learning_rate: at its highest, after the warm-up.
        momentum: of SGD; the first decay rate of AdamW.
        nesterov: Nesterov's momentum; SGD only.
        weight_decay: on weights; never on biases and normalisation.
        batch_size: images a step. Steps of an epoch are as equal as can be, and none is dropped.
        schedule: of the learning rate after the warm-up: ``cosine`` down to ``final_share``, or ``constant``.
        final_share: the last learning rate, as a share of the highest.
        warmup_epochs: linear increase of the learning rate; at most half of the training.
        label_smoothing: share of the target that is spread over all classes, in [0, 1).
        shift: greatest random shift in either direction, as a share of the side; black moves in.
        flip: whether half of the images are mirrored, left to right. Wrong for digits and text.
        cutout: side of a square that is blanked at a random place, as a share of the image's; 0 for none.
        mixup: parameter of the Beta distribution by which pairs of images are mixed; 0 for none.
        ema_decay: of the moving average of weights and normalisation statistics that is judged in place of the last
            ones, in [0, 1); 0 for none. The first steps average over fewer: ``(1 + t)/(10 + t)``.
        clip_norm: greatest norm of the gradient; None for no limit.
        precision: of forward and backward passes on a GPU; a CPU always computes in float32.
        divergence_factor: training stops as failed when an epoch after the warm-up has a mean loss of more than so
            many times that of guessing (``ln(classes)``).

    Raises:
        UserError: a value out of its range.

    References:
        [Loshchilov2017] I. Loshchilov, F. Hutter: SGDR (cosine schedule). https://arxiv.org/abs/1608.03983
        [Loshchilov2019] I. Loshchilov, F. Hutter: Decoupled weight decay (AdamW). https://arxiv.org/abs/1711.05101
        [Szegedy2016] C. Szegedy et al.: Rethinking Inception (label smoothing). https://arxiv.org/abs/1512.00567
        [DeVries2017] T. DeVries, G. Taylor: Cutout. https://arxiv.org/abs/1708.04552
        [Zhang2018] H. Zhang et al.: mixup. https://arxiv.org/abs/1710.09412
    """

    optimiser: OptimiserName = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    batch_size: int = 64
    schedule: ScheduleName = "cosine"
    final_share: float = 0.0
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.1
    shift: float = 0.125
    flip: bool = False
    cutout: float = 0.0
    mixup: float = 0.0
    ema_decay: float = 0.99
    clip_norm: float | None = 5.0
    precision: Precision = "bfloat16"
    divergence_factor: float = 3.0

    def __post_init__(self) -> None:
        check_one_of("recipe.optimiser", "optimiser", self.optimiser, get_args(OptimiserName))
        check_one_of("recipe.schedule", "schedule", self.schedule, get_args(ScheduleName))
        check_one_of("recipe.precision", "precision", self.precision, get_args(Precision))
        check_number("recipe.learning_rate", self.learning_rate, low=0, high=100, above_low=True)
        check_number("recipe.batch_size", self.batch_size, low=2, integer=True)
        for field in ("momentum", "label_smoothing", "ema_decay"):
            check_number(f"recipe.{field}", getattr(self, field), low=0, high=1, below_high=True)
        check_number("recipe.weight_decay", self.weight_decay, low=0, high=10)
        check_number("recipe.final_share", self.final_share, low=0, high=1)
        check_number("recipe.warmup_epochs", self.warmup_epochs, low=0)
        for field in ("shift", "cutout"):
            advice = "it is a share of the image's side, e.g. 0.125"
            check_number(f"recipe.{field}", getattr(self, field), low=0, high=1, below_high=True, advice=advice)
        check_number("recipe.mixup", self.mixup, low=0, high=10)
        check_number("recipe.divergence_factor", self.divergence_factor, low=1, above_low=True)
        if self.clip_norm is not None:
            check_number("recipe.clip_norm", self.clip_norm, low=0, above_low=True)
        for field in ("nesterov", "flip"):
            check_flag(f"recipe.{field}", getattr(self, field))
        if self.optimiser == "sgd" and self.nesterov and self.momentum == 0:
            raise UserError("recipe.nesterov", "must be false without momentum, got true with momentum 0")

    @property
    def is_random(self) -> bool:
        """Whether images are changed at random, so that none comes twice the same."""
        return self.shift > 0 or self.flip or self.cutout > 0 or self.mixup > 0

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over all fields; checkpoints of another recipe are not gone on from."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]
