"""What is done to a network between its training and its files: the configuration group ``compress``.

Responsible for the options and their rules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from nas.errors import UserError
from nas.train.checks import check_flag, check_number, check_one_of
from nas.train.compression.channels import IMPORTANCES, Importance
from nas.train.compression.distillation import DistilOptions
from nas.train.compression.sparse_rules import GradualSparsity
from nas.train.compression.sparsity import SCOPES, Scope, Sparsity

Zeroing = Literal["gradual", "at-once"]
ZEROINGS: tuple[Zeroing, ...] = get_args(Zeroing)
DistilKind = Literal["none", "largest", "function", "onnx"]

_TAUGHT_STEP, _ROUNDED_STEP = 4.0, 3.0  # what a step costs at the most, in plain steps
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class CompressOptions:
    """How networks are made smaller and taught; *whether* they are narrow, sparse or INT8 the search space says.

    Attributes:
        distil: the teacher of final trainings and of every fine-tuning: ``none``, ``largest`` (the network of the
            front with the most MACs, trained first), ``package.module:function`` (returns a `torch.nn.Module`; its
            package must be allowed) or the path of an ``.onnx`` file.
        distil_weight: of the teacher's scores against the labels, in [0, 1].
        temperature: by which scores are softened.
        feature_weight: of the teacher's feature maps; 0 for none. Files show none.
        importance: what a channel is judged by: ``magnitude`` or ``scale`` (of its normalisations).
        fine_tune_share: epochs of training after channels or weights went, as a share of the final training's.
        fine_tune_rate: its highest learning rate, as a share of the recipe's.
        zeroing: whether weights become zero by a cubic schedule over the fine-tuning, or ``at-once`` before it.
        zeroing_end: share of the fine-tuning after which a gradual schedule has all its zeros.
        zeroing_scope: whether the smallest weights go of the whole network (``global``) or of each ``layer``.
        qat_epochs: of quantisation-aware training for INT8 files; 0: they are quantised after training only.
        qat_rate: its highest learning rate, as a share of the recipe's.
        qat_control: whether the float network is trained on for as many steps too, so that what rounding costs is told
            apart from what more training gains. It doubles the time of that step.

    Raises:
        UserError: a value out of its range.
    """

    distil: str = "none"
    distil_weight: float = 0.5
    temperature: float = 4.0
    feature_weight: float = 0.0
    importance: Importance = "magnitude"
    fine_tune_share: float = 0.5
    fine_tune_rate: float = 0.3
    zeroing: Zeroing = "gradual"
    zeroing_end: float = 0.5
    zeroing_scope: Scope = "global"
    qat_epochs: int = 0
    qat_rate: float = 0.1
    qat_control: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.distil, str):
            raise UserError("compress.distil", f"must be a teacher's name, got {self.distil!r}", _KNOWN)
        assert self.distil_kind in get_args(DistilKind)
        assert self.distil_options.weight == self.distil_weight
        check_one_of("compress.importance", "importance", self.importance, IMPORTANCES)
        check_number("compress.fine_tune_share", self.fine_tune_share, low=0, high=10)
        check_number("compress.fine_tune_rate", self.fine_tune_rate, low=0, high=1, above_low=True)
        check_one_of("compress.zeroing", "zeroing", self.zeroing, ZEROINGS)
        check_number("compress.zeroing_end", self.zeroing_end, low=0, high=1)
        check_one_of("compress.zeroing_scope", "scope", self.zeroing_scope, SCOPES)
        check_number("compress.qat_epochs", self.qat_epochs, low=0, integer=True)
        check_number("compress.qat_rate", self.qat_rate, low=0, high=1, above_low=True)
        check_flag("compress.qat_control", self.qat_control)
        if self.distil == "none" and self.feature_weight > 0:
            problem = f"must be 0 without a teacher, got {self.feature_weight:g}"
            raise UserError("compress.feature_weight", problem, "set compress.distil=largest")
        if self.distil_kind == "onnx" and self.feature_weight > 0:
            problem = f"must be 0 for a teacher in a file, which shows no feature maps, got {self.feature_weight:g}"
            raise UserError("compress.feature_weight", problem)

    @property
    def distil_kind(self) -> DistilKind:
        """What kind of teacher ``distil`` names. Raises `UserError` where it names none."""
        if self.distil == "none":
            return "none"
        if self.distil == "largest":
            return "largest"
        if self.distil.endswith(".onnx"):
            return "onnx"
        if _FUNCTION.fullmatch(self.distil):
            return "function"
        raise UserError("compress.distil", f"must name a teacher, got '{self.distil}'", _KNOWN)

    @property
    def distil_options(self) -> DistilOptions:
        """How much the teacher counts."""
        return DistilOptions(
            weight=self.distil_weight, temperature=self.temperature, feature_weight=self.feature_weight
        )

    def zeros(self, sparsity: Sparsity) -> GradualSparsity:
        """The rule by which a fine-tuning comes to its zeros."""
        end = self.zeroing_end if self.zeroing == "gradual" else 0.0
        return GradualSparsity(sparsity=sparsity, scope=self.zeroing_scope, end=end)

    def fine_tune_epochs(self, final_epochs: int) -> int:
        """Epochs of a fine-tuning after a final training of so many; at least 1 unless the share is 0."""
        return max(1, round(self.fine_tune_share * final_epochs)) if self.fine_tune_share > 0 else 0

    def time_factor(self, final_epochs: int) -> float:
        """How long all trainings of one network may take, relative to a final training of so many epochs, at least 1.

        For time limits, so rather too much than too little: a step with a teacher counts as four, one with rounding as
        three.
        """
        tuned = 1.0 + self.fine_tune_epochs(final_epochs) / final_epochs
        aware = self.qat_epochs / final_epochs * (_ROUNDED_STEP + float(self.qat_control))
        return (tuned + aware) * (1.0 if self.distil == "none" else _TAUGHT_STEP)


_KNOWN = "none, largest, package.module:function, or a path to an .onnx file"
