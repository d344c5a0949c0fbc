"""The trainings after the training: narrow, sparse and rounded forms of a network made good again.

Responsible for the order of the steps (channels, zeros, rounding), for their recipes, and for the float control that
quantisation-aware training is held against.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

from nas.errors import UserError
from nas.problem.evaluation import Fidelity
from nas.train.compression.distillation import Distillation
from nas.train.compression.fake_quantise import Profile
from nas.train.compression.options import CompressOptions
from nas.train.compression.qat import SettledRanges, prepare_qat
from nas.train.compression.shrink import prune_channels, shrink
from nas.train.compression.sparse_rules import KeepZeros
from nas.train.compression.sparsity import Sparsity, sparsify
from nas.train.data.images import SplitName
from nas.train.fit import Fit, fit
from nas.train.recipe import Recipe
from nas.train.rules import TrainingRule
from nas.train.task import ImageClassification, Size

_CALIBRATION = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """What all steps share.

    Attributes:
        task: what is learnt.
        recipe: of the training that came before.
        options: how networks are compressed.
        seed: of order and augmentation.
        input_size: height and width that the network takes; None: the data's own.
        judge_on: the split that metrics are of.
        teacher: whom to learn from; None for nobody.
        device: torch's name of where to train.
        deadline: of `time.monotonic`; None for none.
    """

    task: ImageClassification
    recipe: Recipe
    options: CompressOptions
    seed: int
    input_size: Size | None = None
    judge_on: SplitName = "validation"
    teacher: Distillation | None = None
    device: str = "cpu"
    deadline: float | None = None

    def images(self, count: int) -> Tensor:
        """The first training images as the network takes them: ``(count, c, h, w)``, normalised."""
        return self.task.normalise(self.task.pixels("train", self.input_size)[:count])

    def fit(self, module: nn.Module, *, rate: float, epochs: int, rules: tuple[TrainingRule, ...] = ()) -> Fit:
        """Trains a module that is trained already on, at a share of the recipe's learning rate."""
        return fit(
            module,
            self.task,
            fine_tune_recipe(self.recipe, rate),
            fidelity=Fidelity(epochs=epochs),
            seed=self.seed,
            judge_on=self.judge_on,
            input_size=self.input_size,
            device=self.device,
            deadline=self.deadline,
            rules=rules,
            teacher=self.teacher,
        )


def fine_tune_recipe(recipe: Recipe, rate: float) -> Recipe:
    """The recipe of a training that goes on from good weights: a lower rate that falls to 0, hardly a warm-up."""
    return replace(
        recipe,
        learning_rate=recipe.learning_rate * rate,
        warmup_epochs=min(recipe.warmup_epochs, 0.25),
        schedule="cosine",
        final_share=0.0,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Form:
    """A network, and the training that its last step was.

    Attributes:
        module: in evaluation mode, on the CPU.
        epochs, seconds: of that training; 0 where there was none.
        validation_accuracy: after it; None where there was none.
        text: what was done, for people.
    """

    module: nn.Module
    epochs: int = 0
    seconds: float = 0.0
    validation_accuracy: float | None = None
    text: str = ""

    @classmethod
    def trained(cls, module: nn.Module, result: Fit, text: str) -> Form:
        """The form of a network after a training, with ``text`` on what was done before it."""
        accuracy = result.metrics["accuracy"]
        epochs, seconds = result.epochs, result.seconds
        own = module.cpu().eval()
        return cls(module=own, epochs=epochs, seconds=seconds, validation_accuracy=accuracy, text=text)


def cut(wide: nn.Module, share: float, setting: Setting, *, epochs: int) -> Form:
    """Any module with a share of the channels of each layer gone, trained on.

    Args:
        wide: trained, on the CPU; not changed.
        share: of the channels, in (0, 1).
        setting: task, recipe, options and the rest.
        epochs: of fine-tuning.

    Raises:
        UserError: a network that cannot be followed, or in which no channel can go.
        DivergenceError, DeadlineError: see `nas.train.fit.fit`.
    """
    example = setting.images(2)
    found = prune_channels(wide, example, share, importance=setting.options.importance)
    if not found.kept:
        reasons = "; ".join(f"{name}: {why}" for name, why in found.left_alone.items()) or "its layers are too narrow"
        raise UserError("prune", f"leaves every layer as it is, {reasons}", "prune=[] leaves this step out")
    result = setting.fit(found.module, rate=setting.options.fine_tune_rate, epochs=epochs)
    left, whole = (sum(counts[place] for counts in found.kept.values()) for place in (0, 1))
    alone = f", {len(found.left_alone)} layers left alone" if found.left_alone else ""
    return Form.trained(found.module, result, f"{left} of {whole} channels{alone}, trained on for {epochs} epochs")


@dataclass(frozen=True, kw_only=True, eq=False)
class Thinned:
    """A network after its channels or weights went, and the training after that.

    Attributes:
        module: holds the judged weights, in evaluation mode.
        fit: of the fine-tuning.
        other_shortcuts: blocks that have another shortcut than in the wide network (`shrink`).
    """

    module: nn.Module
    fit: Fit
    other_shortcuts: tuple[str, ...]


def thin(
    wide: nn.Module, narrow: nn.Module | None, setting: Setting, *, sparsity: Sparsity = 0.0, epochs: int
) -> Thinned:
    """Channels go, then weights, and the network is trained on meanwhile.

    Args:
        wide: trained; not changed.
        narrow: what it is to become, filled and trained here; None where all channels stay.
        setting: task, recipe, options and the rest.
        sparsity: share of weights that are zero at the end, or ``2:4``; 0 for none.
        epochs: of fine-tuning; 0 leaves the network as it was cut, judged.

    Raises:
        UserError: ``narrow`` is no narrower form of ``wide``.
        DivergenceError, DeadlineError: see `nas.train.fit.fit`.
    """
    shortcuts: tuple[str, ...] = ()
    module = copy.deepcopy(wide) if narrow is None else narrow
    if narrow is not None:
        channels = setting.task.input_shape[0]
        size = setting.input_size or setting.task.input_shape[1:]
        shortcuts = shrink(wide, narrow, (channels, *size), importance=setting.options.importance)
    rules: tuple[TrainingRule, ...] = ()
    if sparsity and epochs:
        rules = (setting.options.zeros(sparsity),)
    elif sparsity:
        sparsify(module, sparsity, scope=setting.options.zeroing_scope)
    result = setting.fit(module, rate=setting.options.fine_tune_rate, epochs=epochs, rules=rules)
    return Thinned(module=module, fit=result, other_shortcuts=shortcuts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Aware:
    """A network trained with rounding, and the same network trained on without.

    Attributes:
        module: rounds; for `nas.deploy.qat.write_qat_file`.
        fit: of its training; the metrics are those of the rounded network.
        control: the float network after as many steps at the same rate; None where it was not wanted.
        control_fit: of that.
    """

    module: fx.GraphModule
    fit: Fit
    control: nn.Module | None
    control_fit: Fit | None


def train_aware(module: nn.Module, setting: Setting, *, profile: Profile, epochs: int) -> Aware:
    """Quantisation-aware training of a trained network, and its float control.

    Zeros of a sparse network stay zero in both.

    Args:
        module: trained, on any device; not changed.
        setting: task, recipe, options and the rest.
        profile: sign of the activations.
        epochs: of each training.

    Raises:
        UserError: the network cannot be traced.
        DivergenceError, DeadlineError: see `nas.train.fit.fit`.
    """
    keep: tuple[TrainingRule, ...] = (KeepZeros(),) if _has_zeros(module) else ()
    images = setting.images(_CALIBRATION)
    rounded = prepare_qat(module, images, profile=profile)
    rate = setting.options.qat_rate
    result = setting.fit(rounded, rate=rate, epochs=epochs, rules=(*keep, SettledRanges()))
    control, control_fit = None, None
    if setting.options.qat_control:
        control = copy.deepcopy(module)
        control_fit = setting.fit(control, rate=rate, epochs=epochs, rules=keep)
    return Aware(module=rounded, fit=result, control=control, control_fit=control_fit)


@torch.no_grad()
def _has_zeros(module: nn.Module) -> bool:
    weights = [part.weight for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return zeros > 0.01 * sum(weight.numel() for weight in weights)
