"""What else may happen in a training, step by step, besides descending the loss.

Responsible for the two protocols by which `nas.train.fit.fit` lets masks, schedules and observers take part.
"""

from __future__ import annotations

from typing import Protocol

from torch import nn


class ActiveRule(Protocol):
    """A rule at work in one training."""

    def after_step(self, done: int) -> None:
        """Called when ``done`` steps (from 1) are done; may change the weights."""

    def finish(self) -> None:
        """Called once, when the weights to be judged are in place: averaged ones where there is an average."""


class TrainingRule(Protocol):
    """A rule that a training is to follow. A frozen record: what it does follows from the weights and the step.

    So an interrupted training that is gone on with gives what it would have given.
    """

    @property
    def digest(self) -> str:
        """Differs between rules that act differently; checkpoints of other rules are not gone on from."""

    def start(self, module: nn.Module, *, steps: int, done: int) -> ActiveRule:
        """Begins to act on a module.

        Args:
            module: that is trained, with its weights of now.
            steps: of the whole training.
            done: steps that were done already, in a training that is gone on with; 0 otherwise.
        """
