"""Training: that it learns, that it can be repeated, that it stops."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from torch import nn

from nas.errors import UserError
from nas.problem.evaluation import Fidelity
from nas.train.data.npz import Npz
from nas.train.fit import DeadlineError, DivergenceError, fit, scaled_size
from nas.train.judge import judge, logits, metrics_of
from nas.train.recipe import Recipe
from nas.train.task import image_classification

BRIEF = Fidelity(epochs=2)


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)


def test_digits_are_learnt(digits, small_net):
    module = small_net()
    result = fit(module, digits, Recipe(), fidelity=Fidelity(epochs=12), seed=0, judge_on="test")
    assert result.metrics["accuracy"] > 0.95
    assert result.train_losses[-1] < 0.5 * result.train_losses[0]
    assert result.epochs == len(result.train_losses) == 12
    assert result.metrics["train_loss"] == result.train_losses[-1]
    assert judge(module, digits, "test") == {key: result.metrics[key] for key in ("accuracy", "loss")}


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": "adamw", "learning_rate": 5e-3},
        {"ema_decay": 0.0, "clip_norm": None, "nesterov": False},
        {"mixup": 0.2, "cutout": 0.25},
    ],
)
def test_every_kind_of_recipe_learns(digits, small_net, changes):
    result = fit(small_net(), digits, Recipe(**changes), fidelity=Fidelity(epochs=4), seed=0)
    assert result.metrics["accuracy"] > 0.75


def test_two_trainings_with_one_seed_are_equal_to_the_last_bit(few_digits, small_net):
    recipe = Recipe(flip=True, cutout=0.25, mixup=0.2)
    modules = [small_net() for _ in range(3)]
    results = [
        fit(module, few_digits, recipe, fidelity=BRIEF, seed=seed)
        for module, seed in zip(modules, (1, 1, 2), strict=True)
    ]
    assert results[0].metrics == results[1].metrics
    assert same(modules[0], modules[1])
    assert not same(modules[0], modules[2])


def test_training_leaves_torchs_generator_and_threads_as_they_were(few_digits, small_net):
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    fit(small_net(), few_digits, Recipe(), fidelity=BRIEF, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_training_does_not_depend_on_the_generator_outside(few_digits, small_net):
    modules = [small_net(), small_net()]
    for outside, module in enumerate(modules):
        torch.manual_seed(outside)
        fit(module, few_digits, Recipe(), fidelity=BRIEF, seed=1)
    assert same(*modules)


def test_no_epochs_mean_that_the_module_is_judged_as_it_is(few_digits, small_net):
    module = small_net()
    result = fit(module, few_digits, Recipe(), fidelity=Fidelity(epochs=0), seed=0)
    assert same(module, small_net())
    assert result.epochs == 0
    assert "train_loss" not in result.metrics


class Recorder(nn.Module):
    """Counts the images and sizes it sees while training."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(1, 10)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append(tuple(x.shape))
        return self.scores(x.mean(dim=(2, 3)))


def test_fidelity_sets_the_size_and_the_number_of_images(digits):
    module = Recorder()
    fidelity = Fidelity(epochs=2, resolution=0.5, data_share=0.5)
    fit(module, digits, Recipe(), fidelity=fidelity, seed=0, input_size=(12, 12))
    assert {shape[1:] for shape in module.seen} == {(1, 6, 6)}
    assert sum(shape[0] for shape in module.seen) == 2 * round(0.5 * 1437)
    assert {shape[0] for shape in module.seen} <= set(range(60, 70))


def test_a_batch_larger_than_the_data_is_the_data(few_digits):
    module = Recorder()
    fit(module, few_digits, Recipe(batch_size=5000), fidelity=BRIEF, seed=0)
    assert [shape[0] for shape in module.seen] == [len(few_digits.labels("train"))] * 2


def test_sizes_scale_with_the_resolution_and_never_vanish():
    assert scaled_size((12, 10), 0.5) == (6, 5)
    assert scaled_size((8, 8), 0.01) == (1, 1)


def test_what_is_judged_is_the_average_of_weights_and_statistics(few_digits, small_net):
    averaged, last = small_net(), small_net()
    recipe = Recipe(schedule="constant")
    fit(averaged, few_digits, recipe, fidelity=BRIEF, seed=0)
    fit(last, few_digits, Recipe(schedule="constant", ema_decay=0.0), fidelity=BRIEF, seed=0)
    for name in ("0.weight", "1.running_mean", "1.running_var"):
        assert not torch.equal(averaged.state_dict()[name], last.state_dict()[name])
    counts = [module.state_dict()["1.num_batches_tracked"] for module in (averaged, last)]
    assert counts[0] == counts[1] > 0


class Broken(nn.Module):
    """Gives NaN, or scores that explode, from some call on."""

    def __init__(self, *, factor: float) -> None:
        super().__init__()
        self.scores = nn.Linear(64, 10)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(x.flatten(1)) * self.factor


def test_a_loss_that_is_not_finite_ends_the_training_at_once(few_digits):
    with pytest.raises(DivergenceError, match="the loss is nan at step 1 of epoch 1"):
        fit(Broken(factor=math.nan), few_digits, Recipe(), fidelity=BRIEF, seed=0)


def test_a_loss_far_above_guessing_ends_the_training_after_the_warm_up(few_digits):
    recipe = Recipe(learning_rate=1e-6, warmup_epochs=1.0)
    with pytest.raises(DivergenceError, match=r"the loss of epoch 2 is .* more than 3 times that of guessing \(2.3\)"):
        fit(Broken(factor=1e3), few_digits, recipe, fidelity=Fidelity(epochs=5), seed=0)


def test_a_learning_rate_that_is_far_too_high_is_told_as_divergence(few_digits, small_net):
    recipe = Recipe(learning_rate=100.0, clip_norm=None, warmup_epochs=0.0, weight_decay=0.5)
    with pytest.raises(DivergenceError):
        fit(small_net(), few_digits, recipe, fidelity=Fidelity(epochs=20), seed=0)


def test_outputs_that_are_nan_only_in_evaluation_are_told_as_divergence(few_digits, small_net):
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) if self.training else self.inner(x) * math.nan

    with pytest.raises(DivergenceError, match="outputs on the validation split are not finite"):
        fit(Odd(), few_digits, Recipe(), fidelity=BRIEF, seed=0)


def test_a_deadline_ends_the_training(digits, small_net):
    start = time.monotonic()
    with pytest.raises(DeadlineError, match="of 1000"):
        fit(small_net(), digits, Recipe(), fidelity=Fidelity(epochs=1000), seed=0, deadline=start + 0.5)
    assert 0.5 <= time.monotonic() - start < 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_and_a_device_that_is_none_are_refused(few_digits, small_net):
    for name, words in (("cuda", "torch finds no GPU"), ("abacus", "must be a device of torch")):
        with pytest.raises(UserError, match=words):
            fit(small_net(), few_digits, Recipe(), fidelity=BRIEF, seed=0, device=name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_digits_are_learnt_on_a_gpu_in_every_precision(digits, small_net, precision, tmp_path):
    recipe = Recipe(precision=precision)
    for epochs in (6, 12):
        result = fit(
            small_net(),
            digits,
            recipe,
            fidelity=Fidelity(epochs=epochs),
            seed=0,
            device="cuda",
            checkpoint=tmp_path / "a.safetensors",
        )
    assert result.resumed_epochs == 6
    assert result.metrics["accuracy"] > 0.9


def test_logits_are_those_of_evaluation_mode_in_the_order_of_the_split(few_digits, small_net):
    module = small_net()
    got = logits(module, few_digits, "test")
    assert not module.training
    with torch.no_grad():
        assert torch.allclose(got, small_net().eval()(few_digits.images("test")), atol=1e-5)


def test_metrics_have_their_closed_form():
    outputs = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0], [0.0, 1e9], [math.nan, 0.0]])
    labels = torch.tensor([0, 0, 1, 0])
    assert metrics_of(outputs[:3], labels[:3])["loss"] == pytest.approx((math.log(2) + math.log(4 / 3)) / 3)
    assert metrics_of(outputs[:3], labels[:3])["accuracy"] == 1.0
    assert metrics_of(outputs, labels)["accuracy"] == 0.75
    assert math.isnan(metrics_of(outputs, labels)["loss"])


def test_colour_images_with_two_classes_are_learnt_too(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = rng.integers(0, 100, (120, 6, 5, 3)) + 150 * labels[:, None, None, None]
    np.savez(tmp_path / "a.npz", images=images, labels=np.where(labels == 1, "light", "dark"))
    task = image_classification(Npz(path=str(tmp_path / "a.npz")).load())
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    recipe = Recipe(batch_size=16)
    assert fit(module, task, recipe, fidelity=Fidelity(epochs=5), seed=0, judge_on="test").metrics["accuracy"] == 1.0
