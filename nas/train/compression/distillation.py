"""Learning from a teacher: its scores, softened, and its feature maps, projected.

Responsible for what is added to a training's loss, and for the protocol of teachers.

References:
    [Hinton2015] G. Hinton et al.: Distilling the Knowledge in a Neural Network. https://arxiv.org/abs/1503.02531
    [Romero2015] A. Romero et al.: FitNets: Hints for Thin Deep Nets. https://arxiv.org/abs/1412.6550
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.errors import UserError
from nas.train.checks import check_number
from nas.train.compression.feature_maps import last_maps, with_maps


@dataclass(frozen=True, kw_only=True, eq=False)
class Signals:
    """What a teacher says of a batch.

    Attributes:
        logits: ``(b, k)``.
        maps: ``(b, c, h, w)`` for each name asked for, in that order.
    """

    logits: Tensor
    maps: tuple[Tensor, ...] = ()


class Teacher(Protocol):
    """Something that gives scores, and perhaps feature maps, for normalised images."""

    @property
    def digest(self) -> str:
        """Differs between teachers that say different things; checkpoints of other teachers are not gone on from."""

    def map_shapes(self, images: Tensor) -> Mapping[str, tuple[int, ...]]:
        """Name -> ``(c, h, w)`` of the last feature map of each size, first to last; empty where it shows none."""

    def __call__(self, images: Tensor, maps: tuple[str, ...] = ()) -> Signals:
        """Scores and those maps for ``(b, c, h, w)`` float32, without gradients, on the images' device."""


@dataclass(frozen=True, kw_only=True)
class DistilOptions:
    """How much a teacher counts.

    The loss is ``(1 - weight) * own + weight * T^2 KL(teacher || student) + feature_weight * maps``, where both scores
    are divided by ``T`` first [Hinton2015], and ``maps`` is the mean squared distance, times the teacher's channels,
    between maps of length 1 at each place, the student's after a linear projection [Romero2015]: 0 for equal
    directions, 2 for orthogonal ones.

    Attributes:
        weight: of the teacher's scores against the labels, in [0, 1].
        temperature: ``T``, above 0; the higher, the more the unlikely classes count.
        feature_weight: of the feature maps; 0 for none.

    Raises:
        UserError: a value out of its range.
    """

    weight: float = 0.5
    temperature: float = 4.0
    feature_weight: float = 0.0

    def __post_init__(self) -> None:
        check_number("compress.distil_weight", self.weight, low=0, high=1)
        check_number("compress.temperature", self.temperature, low=0, high=100, above_low=True)
        check_number("compress.feature_weight", self.feature_weight, low=0, high=1000)


@dataclass(frozen=True, kw_only=True, eq=False)
class Distillation:
    """A teacher, and how much it counts."""

    teacher: Teacher
    options: DistilOptions

    @property
    def digest(self) -> str:
        return f"{self.teacher.digest} {self.options!r}"


class Pupil(nn.Module):
    """A network with the projections that its lessons need; both are trained, saved and averaged together.

    Args:
        student: gives scores; part of this module, not a copy.
        distillation: by what.
        images: one batch as in the training, to see the shapes of.

    Raises:
        UserError: feature maps are wanted, but the teacher shows none, or student and teacher have none in common.
    """

    def __init__(self, student: nn.Module, distillation: Distillation, images: Tensor) -> None:
        super().__init__()
        self.student = student
        self._distillation = distillation
        self._own: tuple[str, ...] = ()
        self._teachers: tuple[str, ...] = ()
        projections = []
        if distillation.options.feature_weight > 0:
            own, taught = last_maps(student, images), dict(distillation.teacher.map_shapes(images))
            count = min(len(own), len(taught))
            if not count:
                problem = f"must be 0 where {'the teacher shows' if own else 'the network has'} no feature maps"
                value = distillation.options.feature_weight
                advice = "only teachers that are torch modules show them"
                raise UserError("compress.feature_weight", f"{problem}, got {value:g}", advice)
            # Counted from the end: the last maps, from which the scores are made, mean the same in both.
            self._own, self._teachers = tuple(own)[-count:], tuple(taught)[-count:]
            for mine, its in zip(self._own, self._teachers, strict=True):
                projections.append(nn.Conv2d(own[mine][0], taught[its][0], 1, bias=False, device=images.device))
        self.projections = nn.ModuleList(projections)

    def forward(self, images: Tensor) -> Tensor:
        """The student's scores."""
        scores: Tensor = self.student(images)
        return scores

    def losses(self, images: Tensor, logits: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The student's scores ``(b, k)``, the teacher's part of the loss, and that of the maps (0 without).

        Args:
            images: a batch, augmented.
            logits: the teacher's for it where they are known already; None: it is asked.
        """
        options = self._distillation.options
        scores, maps = with_maps(self.student, images, self._own)
        if logits is None or self._teachers:
            said = self._distillation.teacher(images, self._teachers)
            logits = said.logits
            distances = [
                _distance(project(mine), its)
                for project, mine, its in zip(self.projections, maps, said.maps, strict=True)
            ]
        else:
            distances = []
        total = torch.stack(distances).mean() if distances else scores.new_zeros(())
        return scores, soft_loss(scores, logits, options.temperature), total


def soft_loss(scores: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(teacher || student)`` of softened scores ``(b, k)``, mean over the batch, nats; at least 0."""
    own = functional.log_softmax(scores.float() / temperature, dim=1)
    its = functional.log_softmax(teacher.float() / temperature, dim=1)
    return functional.kl_div(own, its, reduction="batchmean", log_target=True) * temperature**2


def _distance(mine: Tensor, its: Tensor) -> Tensor:
    """Mean squared distance between maps of length 1 at each place, at the smaller size of both."""
    size = (min(mine.shape[2], its.shape[2]), min(mine.shape[3], its.shape[3]))
    mine, its = (functional.adaptive_avg_pool2d(value.float(), size) for value in (mine, its))
    return (functional.normalize(mine, dim=1) - functional.normalize(its, dim=1)).square().sum(dim=1).mean()
