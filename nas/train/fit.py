"""Training a network on a task.

Responsible for the loop over epochs and steps, and for stopping it: at divergence, at a deadline.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.errors import UserError
from nas.problem.evaluation import Fidelity
from nas.train.augmentation import Batch, TrainingImages, training_images
from nas.train.checkpoint import Progress, Trainee, read_progress, restore_checkpoint, save_checkpoint
from nas.train.compression.distillation import Distillation
from nas.train.compression.lessons import Lessons, lessons_of
from nas.train.curves_watch import HopelessError, watch
from nas.train.data.images import SplitName
from nas.train.ema import MovingAverage
from nas.train.judge import judge
from nas.train.optimiser import learning_rate, make_optimiser
from nas.train.recipe import Precision, Recipe
from nas.train.rules import ActiveRule, TrainingRule
from nas.train.task import ImageClassification, Size
from nas.train.torch_settings import one_thread, seeded

_events = logging.getLogger("nas.candidate")  # see nas.run.candidate_log
_CHECK_EVERY = 16  # steps between looks at the loss: each look waits for the device
_DTYPES: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class DivergenceError(RuntimeError):
    """The loss is not finite, or far above that of guessing."""


class DeadlineError(TimeoutError):
    """The time is over before the training is."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What came of a training.

    Attributes:
        metrics: ``accuracy`` and ``loss`` on the judged split, ``train_loss`` of the last epoch (with label smoothing
            and augmentation, before averaging).
        seconds: wall time, judging included.
        epochs: trained in this call.
        resumed_epochs: taken over from a checkpoint.
        train_losses: mean training loss of every epoch, resumed ones included.
        curve: accuracy after every epoch, on a part of the judged split (`nas.train.curves_watch.watch`), the last one
            on all of it; NaN for epochs that were taken over. Empty where the training was not watched.
    """

    metrics: Mapping[str, float]
    seconds: float
    epochs: int
    resumed_epochs: int
    train_losses: tuple[float, ...]
    curve: tuple[float, ...] = ()


def fit(
    module: nn.Module,
    task: ImageClassification,
    recipe: Recipe,
    *,
    fidelity: Fidelity,
    seed: int,
    judge_on: SplitName = "validation",
    input_size: Size | None = None,
    checkpoint: Path | None = None,
    deadline: float | None = None,
    device: str = "cpu",
    watched: bool = False,
    stop_below: Sequence[float] = (),
    rules: Sequence[TrainingRule] = (),
    teacher: Distillation | None = None,
) -> Fit:
    """Train a module in place and judge it; afterwards it holds the judged weights, in evaluation mode.

    The module starts from the weights that it has. Order and augmentation of epoch ``e`` follow from ``seed`` and
    ``e`` alone, and on a CPU two trainings with one seed are equal to the last bit.

    Args:
        module: takes ``(n, c, h, w)`` float32 of ``input_size`` times ``fidelity.resolution``.
        task: what to learn.
        recipe: how.
        fidelity: for how long, on how much of the training split, at which multiple of ``input_size``; judged at the
            same size.
        seed: of order and augmentation and of random layers.
        judge_on: the split that the metrics are of.
        input_size: height and width that the network takes; None: the data's own.
        checkpoint: file that is written after each epoch, and gone on from where it holds a training with the same
            seed, recipe, data, rules and teacher and no more epochs than wanted (with more, it is neither used nor
            overwritten). Epochs at another resolution or share of the data count as epochs. An interrupted training
            that is gone on with gives what it would have given; one that goes on from *fewer planned* epochs does not
            give what a training in one go would have (see `nas.train.optimiser.learning_rate`).
        deadline: of `time.monotonic`; checked at each step.
        device: torch's name of it; on ``cuda`` in the precision of the recipe.
        watched: keep the accuracy after each epoch. It changes nothing of the training.
        stop_below: accuracy of each epoch, from the first, below which to stop; it has the training watched.
        rules: what else happens at each step, in this order: weights that stay zero, ranges that settle.
        teacher: whom to learn from besides the labels, and how much. It costs a pass forward of the teacher a step,
            but for scores of images that are never augmented, which are asked for once.

    Raises:
        HopelessError: the accuracy fell below that; the epoch is in the checkpoint.
        DivergenceError: the loss became NaN or infinite, or stayed far above that of guessing.
        DeadlineError: the deadline passed; the last full epoch is in the checkpoint.
        UserError: a device that is not there.
    """
    start = time.monotonic()
    target = _device(device)
    size = scaled_size(input_size or task.input_shape[1:], fidelity.resolution)
    with one_thread():
        module.to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = training_images(task, recipe, size=size, data_share=fidelity.data_share, device=target)
        lessons = lessons_of(module, teacher, images, seed=seed) if teacher is not None else None
        training = _Training(
            trainee=_trainee(module if lessons is None else lessons.pupil, recipe),
            images=images,
            recipe=recipe,
            seed=seed,
            epochs=fidelity.epochs,
            deadline=math.inf if deadline is None else deadline,
            scaler=torch.amp.GradScaler(target.type, enabled=_half(recipe, target) == torch.float16),
            method=_method(rules, teacher),
            lessons=lessons,
        )
        saved = training.saved(checkpoint)
        further = saved is not None and saved.epochs > fidelity.epochs
        losses = training.resume(checkpoint, saved) if checkpoint and saved and not further else []
        resumed = len(losses)
        curve = _Curve(training, judge_on, size, stop_below) if watched or stop_below else None
        active = training.start(rules, module, done=resumed * training.steps)
        for epoch in range(resumed, fidelity.epochs):
            losses.append(training.epoch(epoch, active))
            training.check(epoch, losses[-1])
            _events.info("epoch", extra={"fields": {"epoch": epoch + 1, "epochs": fidelity.epochs, "loss": losses[-1]}})
            if checkpoint is not None and not further:
                save_checkpoint(checkpoint, training.trainee, training.progress(losses))
            if curve is not None and epoch + 1 < fidelity.epochs:
                curve.judge(epoch)
        if training.trainee.average is not None:
            training.trainee.module.load_state_dict(training.trainee.average.state)
        for rule in active:
            rule.finish()
        metrics = judge(module, task, judge_on, input_size=size, device=device)
    if not math.isfinite(metrics["loss"]):
        raise DivergenceError(f"the outputs on the {judge_on} split are not finite")
    return Fit(
        metrics={**metrics, "train_loss": losses[-1]} if losses else metrics,
        seconds=time.monotonic() - start,
        epochs=fidelity.epochs - resumed,
        resumed_epochs=resumed,
        train_losses=tuple(losses),
        curve=(*curve.values, metrics["accuracy"]) if curve is not None and resumed < fidelity.epochs else (),
    )


def scaled_size(size: Size, resolution: float) -> Size:
    """Height and width at a fidelity's resolution, at least one pixel."""
    return max(1, round(size[0] * resolution)), max(1, round(size[1] * resolution))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Training:
    trainee: Trainee
    images: TrainingImages
    recipe: Recipe
    seed: int
    epochs: int
    deadline: float
    scaler: torch.amp.GradScaler
    method: str
    lessons: Lessons | None

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return max(1, round(len(self.images) / self.recipe.batch_size))

    def start(self, rules: Sequence[TrainingRule], module: nn.Module, *, done: int) -> list[ActiveRule]:
        """Has the rules begin, after ``done`` steps."""
        return [rule.start(module, steps=self.epochs * self.steps, done=done) for rule in rules]

    def epoch(self, epoch: int, rules: Sequence[ActiveRule]) -> float:
        """Train for one epoch; the mean loss over its images."""
        entropy = np.random.SeedSequence([self.seed, epoch])
        rng = np.random.default_rng(entropy)
        device = self.images.labels.device
        order = rng.permutation(len(self.images))
        steps = self.steps
        total = torch.zeros((), device=device)
        self.trainee.module.train()
        with seeded(int(entropy.generate_state(1, np.uint64)[0]), device):
            for step, indices in enumerate(np.array_split(order, steps)):
                if time.monotonic() > self.deadline:
                    raise DeadlineError(f"the time was over in epoch {epoch + 1} of {self.epochs}")
                rate = learning_rate(self.recipe, step=epoch * steps + step, steps_per_epoch=steps, epochs=self.epochs)
                loss = self._step(self._loss_of(indices, self.images.batch(indices, rng)), rate)
                for rule in rules:
                    rule.after_step(epoch * steps + step + 1)
                if self.trainee.average is not None:
                    self.trainee.average.update()
                if step % _CHECK_EVERY == 0 and not math.isfinite(loss.item()):
                    raise DivergenceError(f"the loss is {loss.item()} at step {step + 1} of epoch {epoch + 1}")
                total += loss * len(indices)
        return total.item() / len(order)

    def _loss_of(self, indices: NDArray[np.int64], batch: Batch) -> Tensor:
        smoothing = self.recipe.label_smoothing
        with _autocast(self.recipe, batch.images.device):
            if self.lessons is not None:
                return self.lessons.loss(indices, batch, smoothing)
            return batch.loss(self.trainee.module(batch.images), smoothing)

    def _step(self, loss: Tensor, rate: float) -> Tensor:
        trainee, recipe = self.trainee, self.recipe
        for group in trainee.optimiser.param_groups:
            group["lr"] = rate
        trainee.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if recipe.clip_norm is not None:
            self.scaler.unscale_(trainee.optimiser)
            nn.utils.clip_grad_norm_(trainee.module.parameters(), recipe.clip_norm)
        self.scaler.step(trainee.optimiser)
        self.scaler.update()
        return loss.detach()

    def check(self, epoch: int, loss: float) -> None:
        """Raise `DivergenceError` where an epoch's loss says so."""
        if not math.isfinite(loss):
            raise DivergenceError(f"the loss of epoch {epoch + 1} is {loss}")
        guessing = math.log(self.images.task.num_classes)
        # What a teacher adds to the loss has no such scale.
        if (
            self.lessons is None
            and epoch + 1 > self.recipe.warmup_epochs
            and loss > self.recipe.divergence_factor * guessing
        ):
            raise DivergenceError(
                f"the loss of epoch {epoch + 1} is {loss:.3g}, more than {self.recipe.divergence_factor:g} times"
                f" that of guessing ({guessing:.3g})"
            )

    def progress(self, losses: list[float]) -> Progress:
        """What a checkpoint of now says of itself."""
        return Progress(
            epochs=len(losses),
            seed=self.seed,
            recipe=self.recipe.digest,
            data=self.images.task.data.digest,
            num_averaged=0 if self.trainee.average is None else self.trainee.average.num_updates,
            loss_scale=float(self.scaler.get_scale()),
            train_losses=tuple(losses),
            method=self.method,
        )

    def saved(self, checkpoint: Path | None) -> Progress | None:
        """What the checkpoint says of itself, where it is one of this training."""
        saved = read_progress(checkpoint) if checkpoint is not None else None
        return saved if saved is not None and saved.continues(self.progress([])) else None

    def resume(self, checkpoint: Path, saved: Progress) -> list[float]:
        """Go on from a checkpoint; the losses of its epochs, none where it is of another network."""
        if not restore_checkpoint(checkpoint, self.trainee, saved):
            return []
        if self.scaler.is_enabled():
            self.scaler.load_state_dict({**self.scaler.state_dict(), "scale": saved.loss_scale})
        return list(saved.train_losses)


class _Curve:
    """The accuracies of a training so far, NaN where it was not watched."""

    def __init__(self, training: _Training, split: SplitName, size: Size, stop_below: Sequence[float]) -> None:
        images = training.images
        self._training = training
        self._stop_below = stop_below
        self._watch = watch(images.task, split, size=size, num_trained=len(images), device=images.labels.device)
        self.values = [math.nan] * (training.epochs - 1)

    def judge(self, epoch: int) -> None:
        """Judges after an epoch; raises `HopelessError` where that is below what it has to be."""
        value = self._watch.accuracy(self._training.trainee)
        self.values[epoch] = value
        if epoch < len(self._stop_below) and value < self._stop_below[epoch]:
            raise HopelessError(self.values[: epoch + 1], self._stop_below[epoch], self._training.epochs)


def _trainee(module: nn.Module, recipe: Recipe) -> Trainee:
    return Trainee(
        module=module,
        optimiser=make_optimiser(module, recipe),
        average=MovingAverage(module, recipe.ema_decay) if recipe.ema_decay > 0 else None,
    )


def _method(rules: Sequence[TrainingRule], teacher: Distillation | None) -> str:
    parts = [rule.digest for rule in rules] + ([teacher.digest] if teacher is not None else [])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16] if parts else ""


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError("device", f"must be a device of torch, got {name!r}", "cpu or cuda are usual") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device", f"torch finds no GPU for {name!r}", "use cpu, or install torch with CUDA")
    # An index, because torch's generators are forked by index.
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else device


def _half(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    return _DTYPES.get(recipe.precision) if device.type == "cuda" else None


def _autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager[object]:
    half = _half(recipe, device)
    return nullcontext() if half is None else torch.autocast(device.type, dtype=half)
