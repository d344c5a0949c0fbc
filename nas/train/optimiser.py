"""Optimisers and the learning rate over time.

Responsible for which parameters decay, and for the schedule as a pure function of the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nas.train.recipe import OptimiserName, Recipe


def _sgd(groups: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True
    )


def _adamw(groups: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999), fused=True)


OPTIMISERS: dict[OptimiserName, Callable[[list[dict[str, Any]], Recipe], torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
}


def make_optimiser(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of ``recipe``: weights decay; biases and normalisation, of at most one dimension, do not."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return OPTIMISERS[recipe.optimiser]([group for group in groups if group["params"]], recipe)


def learning_rate(recipe: Recipe, *, step: int, steps_per_epoch: int, epochs: int) -> float:
    """The learning rate of a step, counted from 0 over the whole training of ``epochs``.

    Linear warm-up that reaches the highest rate at its last step, then [Loshchilov2017] a half cosine that would
    reach ``final_share`` one step after the last, or a constant. A training that goes on from fewer epochs follows the
    curve of the new total from where it stands: its rate is raised again, and its result is not that of a training
    in one go.
    """
    total = steps_per_epoch * epochs
    warmup = round(min(recipe.warmup_epochs * steps_per_epoch, total / 2))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    if recipe.schedule == "constant":
        return recipe.learning_rate
    progress = (step - warmup) / max(1, total - warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return recipe.learning_rate * (recipe.final_share + (1 - recipe.final_share) * cosine)
