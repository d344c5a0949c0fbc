"""Training of a candidate that is shipped narrower than it is trained, or with zeros in its weights.

Responsible for the order: train wide, keep the channels that matter most, train on; zeros come while it is trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from nas.model.costs import Costs, network_costs
from nas.model.shapes import input_shape_of
from nas.problem.evaluation import Candidate, Fidelity
from nas.space.network import Network
from nas.train.compression.shrink import shrink
from nas.train.compression.sparse_rules import GradualSparsity
from nas.train.evaluate import Trained, TrainingEvaluate
from nas.train.fit import Fit, fit
from nas.train.recipe import Recipe
from nas.train.rules import TrainingRule

_SECOND_STREAM = 7  # of the seed: data comes in another order after shrinking


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How the epochs of a candidate are divided where it is shrunk.

    Attributes:
        wide: share of the epochs that the wide network is trained for, in [0, 1); 0: the narrow one is trained alone.
        tune_rate: learning rate after shrinking, relative to the recipe's.
    """

    wide: float = 0.0
    tune_rate: float = 0.5

    def of(self, fidelity: Fidelity) -> tuple[Fidelity, Fidelity]:
        """What the wide and the narrow network are trained for; together the epochs of ``fidelity``.

        A single epoch is divided by its data.
        """
        assert self.wide > 0
        if fidelity.epochs == 1:
            wide = max(1e-6, fidelity.data_share * self.wide)
            return replace(fidelity, data_share=wide), replace(fidelity, data_share=fidelity.data_share - wide)
        wide_epochs = min(fidelity.epochs - 1, max(1, round(fidelity.epochs * self.wide)))
        return replace(fidelity, epochs=wide_epochs), replace(fidelity, epochs=fidelity.epochs - wide_epochs)


def train_shrunk(training: TrainingEvaluate, candidate: Candidate, shares: Shares, *, start: float) -> Trained:
    """Trains a candidate whose deployment is narrower or sparse.

    Args:
        training: how candidates are built and trained otherwise; its time limit, checkpoints and device hold here too.
        candidate: what, for how long. Its epochs are those of wide and narrow network together.
        shares: how they are divided.
        start: of `time.monotonic`, from which the time limit counts.

    Returns:
        The network as it is shipped, in float32, with the metrics of its validation.

    Raises:
        DoesNotFit: it cannot be built for this input.
        DivergenceError, DeadlineError, HopelessError: see `nas.train.fit.fit`.
        UserError: channels that cannot be followed through the network.
        Exception: whatever a custom operator or torch raises.
    """
    network = training.space.network(candidate.architecture.row)
    size = input_shape_of(network, training.task.input_shape)[1:]
    run = _Run(training=training, candidate=candidate, size=size, start=start)
    module = training.build(network, seed=candidate.seed)
    zeros = network.deployment.sparsity
    rules: tuple[TrainingRule, ...] = (GradualSparsity(sparsity=zeros),) if zeros else ()
    fits: list[Fit] = []
    fidelity, recipe, seed, stop_below = candidate.fidelity, training.recipe, candidate.seed, candidate.stop_below
    if network.trained and shares.wide > 0:
        first, fidelity = shares.of(candidate.fidelity)
        wide = training.build(training.space.trained_network(candidate.architecture.row), seed=seed)
        fits.append(run.fit(wide, recipe, first, "wide", seed=seed, stop_below=stop_below[: first.epochs]))
        shrink(wide.cpu(), module, (training.task.input_shape[0], *size))
        recipe = _tuning(recipe, fidelity, shares.tune_rate)
        seed = int(np.random.SeedSequence([seed, _SECOND_STREAM]).generate_state(1)[0])
        stop_below = stop_below[first.epochs :]
        # Shrunk weights depend on how long the wide network was trained: a checkpoint of other weights is none.
        name = f"narrow{first.epochs}"
    else:
        name = "sparse"
    fits.append(run.fit(module, recipe, fidelity, name, seed=seed, stop_below=stop_below, rules=rules))
    return Trained(module=module, network=network, input_size=size, fit=_joined(fits), costs=run.costs(network))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Run:
    training: TrainingEvaluate
    candidate: Candidate
    size: tuple[int, int]
    start: float

    def fit(
        self,
        module: nn.Module,
        recipe: Recipe,
        fidelity: Fidelity,
        name: str,
        *,
        seed: int,
        stop_below: Sequence[float],
        rules: Sequence[TrainingRule] = (),
    ) -> Fit:
        training, digest = self.training, self.candidate.architecture.digest
        folder, limit = training.checkpoints, training.time_limit_seconds
        return fit(
            module,
            training.task,
            recipe,
            fidelity=fidelity,
            seed=seed,
            judge_on=training.judge_on,
            input_size=self.size,
            checkpoint=None if folder is None else folder / f"{digest}-{self.candidate.seed}-{name}.safetensors",
            deadline=None if limit is None else self.start + limit,
            device=training.device,
            watched=training.watched,
            stop_below=tuple(stop_below),
            rules=rules,
        )

    def costs(self, network: Network) -> Costs:
        training = self.training
        return network_costs(
            network,
            input_shape=training.task.input_shape,
            num_classes=training.task.num_classes,
            allow=training.allow,
        )


def _tuning(recipe: Recipe, fidelity: Fidelity, rate: float) -> Recipe:
    """The recipe after shrinking: a lower rate, and a shorter rise to it."""
    return replace(
        recipe,
        learning_rate=recipe.learning_rate * rate,
        warmup_epochs=min(recipe.warmup_epochs, fidelity.epochs / 4),
    )


def _joined(fits: Sequence[Fit]) -> Fit:
    """Several trainings, one after the other, as one; metrics are those of the last."""
    last = fits[-1]
    curve = tuple(value for each in fits for value in each.curve)
    return Fit(
        metrics=last.metrics,
        seconds=math.fsum(each.seconds for each in fits),
        epochs=sum(each.epochs for each in fits),
        resumed_epochs=sum(each.resumed_epochs for each in fits),
        train_losses=tuple(loss for each in fits for loss in each.train_losses),
        curve=curve if all(each.curve for each in fits) else (),
    )
