"""Rules by which a training keeps its zeros, or comes to them bit by bit.

Responsible for when masks change; which weights they hide is `nas.train.compression.sparsity`'s.

References:
    [Zhu2017] M. Zhu, S. Gupta: To prune, or not to prune. https://arxiv.org/abs/1710.01878
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from nas.errors import UserError
from nas.train.checks import check_number, check_one_of
from nas.train.compression.sparsity import (
    SCOPES,
    Masks,
    Scope,
    Sparsity,
    check_sparsity,
    masks_of_zeros,
    sparsify,
)


@dataclass(frozen=True, kw_only=True)
class KeepZeros:
    """Weights that are zero when the training starts stay zero: fine-tuning after `sparsify`."""

    @property
    def digest(self) -> str:
        return "keep-zeros"

    def start(self, module: nn.Module, *, steps: int, done: int) -> _KeepZeros:
        return _KeepZeros(masks_of_zeros(module))


@dataclass(frozen=True, kw_only=True)
class GradualSparsity:
    """Zeros come by a cubic schedule: many early, when the rest can still take over, few late [Zhu2017, eq. 1].

    The share of zeros after step ``t`` is ``s (1 - (1 - (t - a)/(b - a))^3)`` between the steps ``a`` and ``b``, and
    ``s`` after ``b``. A weight that went stays away. The pattern 2:4 knows no shares: it comes at ``a``, whole.

    Attributes:
        sparsity: at the end: share of the maskable weights, or ``2:4``.
        scope: see `nas.train.compression.sparsity.sparsify`.
        begin: ``a``, as a share of all steps.
        end: ``b``, likewise; what is left of the training heals.
        every: steps between changes of the masks.

    Raises:
        UserError: a value out of its range.
    """

    sparsity: Sparsity
    scope: Scope = "global"
    begin: float = 0.0
    end: float = 0.5
    every: int = 10

    def __post_init__(self) -> None:
        check_sparsity("prune.sparsity", self.sparsity)
        check_one_of("prune.scope", "scope", self.scope, SCOPES)
        check_number("prune.begin", self.begin, low=0, high=1, below_high=True)
        check_number("prune.end", self.end, low=0, high=1)
        check_number("prune.every", self.every, low=1, integer=True)
        if self.end < self.begin:
            raise UserError("prune.end", f"must not lie before prune.begin ({self.begin:g}), got {self.end:g}")

    @property
    def digest(self) -> str:
        return repr(self)

    def share(self, done: int, steps: int) -> float:
        """The share of zeros that is due when ``done`` of ``steps`` steps are done; only for a sparsity in numbers."""
        assert not isinstance(self.sparsity, str)
        first, last = self.begin * steps, self.end * steps
        if done < first:
            return 0.0
        if done >= last:
            return self.sparsity
        return self.sparsity * (1 - (1 - (done - first) / (last - first)) ** 3)

    def start(self, module: nn.Module, *, steps: int, done: int) -> _GradualSparsity:
        return _GradualSparsity(self, module, steps=steps, done=done)


class _KeepZeros:
    def __init__(self, masks: Masks) -> None:
        self._masks = masks

    def after_step(self, done: int) -> None:
        self._masks.apply()

    def finish(self) -> None:
        self._masks.apply()


class _GradualSparsity:
    def __init__(self, rule: GradualSparsity, module: nn.Module, *, steps: int, done: int) -> None:
        self._rule, self._module, self._steps = rule, module, steps
        # Zeros in the weights are all the state there is: a training that is gone on with finds its masks again. Those
        # of a fresh start are somebody's initialisation, and no masks.
        self._masks = masks_of_zeros(module) if done else Masks(module=module, kept={})
        self._complete = done > 0 and self._last(done)

    def after_step(self, done: int) -> None:
        self._masks.apply()
        if not self._complete and self._due(done):
            rule = self._rule
            amount = rule.sparsity if isinstance(rule.sparsity, str) else rule.share(done, self._steps)
            self._masks = sparsify(self._module, amount, scope=rule.scope)
            self._complete = self._last(done)

    def finish(self) -> None:
        self._masks.apply()

    def _due(self, done: int) -> bool:
        rule = self._rule
        return done >= rule.begin * self._steps and (done % rule.every == 0 or self._last(done))

    def _last(self, done: int) -> bool:
        whole = isinstance(self._rule.sparsity, str)
        return done >= (self._rule.begin if whole else self._rule.end) * self._steps
