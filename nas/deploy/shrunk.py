"""Training of a candidate that is shipped narrower than it is trained, or with zeros in its weights.

Responsible for the order: train wide, keep the channels that matter most, train on; zeros come while it is trained on.
In a search all of it shares the epochs of the candidate (`train_shrunk`); a member of the front gets its fine-tuning on
top, and may have a teacher (`train_final`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from torch import nn

from nas.model.costs import network_costs
from nas.model.shapes import input_shape_of
from nas.problem.evaluation import Candidate, Fidelity
from nas.space.network import Network
from nas.train.compression.distillation import Distillation
from nas.train.compression.options import CompressOptions
from nas.train.compression.shrink import shrink
from nas.train.compression.steps import Setting, fine_tune_recipe, thin
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
    """

    wide: float = 0.0

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


def train_shrunk(
    training: TrainingEvaluate, candidate: Candidate, shares: Shares, options: CompressOptions, *, start: float
) -> Trained:
    """Trains a candidate of a search whose deployment is narrower or sparse.

    Args:
        training: how candidates are built and trained otherwise; its time limit, checkpoints and device hold here too.
        candidate: what, for how long. Its epochs are those of wide and narrow network together.
        shares: how they are divided.
        options: how channels are chosen and zeros come, and the learning rate after channels went.
        start: of `time.monotonic`, from which the time limit counts.

    Returns:
        The network as it is shipped, in float32, with the metrics of its validation.

    Raises:
        DoesNotFit: it cannot be built for this input.
        DivergenceError, DeadlineError, HopelessError: see `nas.train.fit.fit`.
        UserError: channels that cannot be followed through the network.
        Exception: whatever a custom operator or torch raises.
    """
    run = _Run(training=training, candidate=candidate, start=start)
    network = run.network
    module = training.build(network, seed=candidate.seed)
    zeros = network.deployment.sparsity
    rules: tuple[TrainingRule, ...] = (options.zeros(zeros),) if zeros else ()
    fits: list[Fit] = []
    fidelity, recipe, seed, stop_below = candidate.fidelity, training.recipe, candidate.seed, candidate.stop_below
    if network.trained and shares.wide > 0:
        first, fidelity = shares.of(candidate.fidelity)
        wide = training.build(training.space.trained_network(candidate.architecture.row), seed=seed)
        fits.append(run.fit(wide, recipe, first, "wide", seed=seed, stop_below=stop_below[: first.epochs]))
        shrink(wide.cpu(), module, (training.task.input_shape[0], *run.size), importance=options.importance)
        recipe = fine_tune_recipe(recipe, options.fine_tune_rate)
        seed = _second(seed)
        stop_below = stop_below[first.epochs :]
        # Shrunk weights depend on how long the wide network was trained: a checkpoint of other weights is none.
        name = f"narrow{first.epochs}"
    else:
        name = "sparse"
    fits.append(run.fit(module, recipe, fidelity, name, seed=seed, stop_below=stop_below, rules=rules))
    return run.trained(module, fits)


def train_final(
    training: TrainingEvaluate,
    candidate: Candidate,
    options: CompressOptions,
    *,
    wide_first: bool,
    teacher: Distillation | None = None,
    start: float,
) -> Trained:
    """Trains a member of the front in full: at full width, then without the channels, then without the weights.

    Args:
        training: as of `train_shrunk`.
        candidate: what, for how long; its fine-tuning after channels or weights went comes on top.
        options: how it is compressed.
        wide_first: whether a narrow network is cut from a wide one; else it is narrow from the start.
        teacher: whom to learn from in all of it; None for nobody.
        start: of `time.monotonic`, from which the time limit counts.

    Returns:
        The network as it is shipped, in float32, with the metrics of its validation.

    Raises:
        As of `train_shrunk`.
    """
    run = _Run(training=training, candidate=candidate, start=start, teacher=teacher)
    narrowed, zeros = bool(run.network.trained) and wide_first, run.network.deployment.sparsity
    row, seed, name = candidate.architecture.row, candidate.seed, "wide" if narrowed else "full"
    first = training.space.trained_network(row) if narrowed else run.network
    module = training.build(first, seed=seed)
    fits = [run.fit(module, training.recipe, candidate.fidelity, name, seed=seed, stop_below=candidate.stop_below)]
    if narrowed or zeros:
        narrow = training.build(run.network, seed=seed) if narrowed else None
        epochs = options.fine_tune_epochs(candidate.fidelity.epochs)
        thinned = thin(module, narrow, run.setting(options), sparsity=zeros, epochs=epochs)
        module = thinned.module
        fits.append(thinned.fit)
    return run.trained(module, fits)


def _second(seed: int) -> int:
    return int(np.random.SeedSequence([seed, _SECOND_STREAM]).generate_state(1)[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Run:
    training: TrainingEvaluate
    candidate: Candidate
    start: float
    teacher: Distillation | None = None

    @cached_property
    def network(self) -> Network:
        return self.training.space.network(self.candidate.architecture.row)

    @property
    def size(self) -> tuple[int, int]:
        return input_shape_of(self.network, self.training.task.input_shape)[1:]

    @property
    def deadline(self) -> float | None:
        limit = self.training.time_limit_seconds
        return None if limit is None else self.start + limit

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
        folder = training.checkpoints
        return fit(
            module,
            training.task,
            recipe,
            fidelity=fidelity,
            seed=seed,
            judge_on=training.judge_on,
            input_size=self.size,
            checkpoint=None if folder is None else folder / f"{digest}-{self.candidate.seed}-{name}.safetensors",
            deadline=self.deadline,
            device=training.device,
            watched=training.watched,
            stop_below=tuple(stop_below),
            rules=rules,
            teacher=self.teacher,
        )

    def setting(self, options: CompressOptions) -> Setting:
        training = self.training
        return Setting(
            task=training.task,
            recipe=training.recipe,
            options=options,
            seed=_second(self.candidate.seed),
            input_size=self.size,
            judge_on=training.judge_on,
            teacher=self.teacher,
            device=training.device,
            deadline=self.deadline,
        )

    def trained(self, module: nn.Module, fits: Sequence[Fit]) -> Trained:
        training = self.training
        costs = network_costs(
            self.network,
            input_shape=training.task.input_shape,
            num_classes=training.task.num_classes,
            allow=training.allow,
        )
        return Trained(module=module, network=self.network, input_size=self.size, fit=_joined(fits), costs=costs)


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
