"""Trainings that are gone on with, and weights in files."""

from __future__ import annotations

import logging

import pytest
import torch
from safetensors import safe_open
from torch import nn

from nas.errors import UserError
from nas.problem.evaluation import Fidelity
from nas.train.checkpoint import read_progress
from nas.train.ema import MovingAverage
from nas.train.fit import fit
from nas.train.recipe import Recipe
from nas.train.weights import load_weights, save_weights

CONSTANT = Recipe(schedule="constant", warmup_epochs=0.0)


def same(first: nn.Module, second: nn.Module) -> bool:
    states = first.state_dict(), second.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    "recipe",
    [
        CONSTANT,
        Recipe(schedule="constant", warmup_epochs=0.0, optimiser="adamw", learning_rate=2e-3),
        Recipe(schedule="constant", warmup_epochs=0.0, ema_decay=0.0),
    ],
)
def test_two_epochs_and_two_more_are_four_where_the_rate_is_constant(few_digits, small_net, recipe, tmp_path):
    straight, first, second = small_net(), small_net(), small_net(seed=9)
    path = tmp_path / "state.safetensors"
    whole = fit(straight, few_digits, recipe, fidelity=Fidelity(epochs=4), seed=3)
    fit(first, few_digits, recipe, fidelity=Fidelity(epochs=2), seed=3, checkpoint=path)
    resumed = fit(second, few_digits, recipe, fidelity=Fidelity(epochs=4), seed=3, checkpoint=path)
    assert (resumed.epochs, resumed.resumed_epochs) == (2, 2)
    assert same(straight, second)
    assert resumed.metrics == whole.metrics
    assert resumed.train_losses == whole.train_losses


class Interrupted(nn.Module):
    """Is interrupted at some training step, counted from 1; never at 0."""

    def __init__(self, inner: nn.Module, *, step: int) -> None:
        super().__init__()
        self.inner, self.step, self.calls = inner, step, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        if self.calls == self.step:
            raise KeyboardInterrupt
        return self.inner(x)


def test_an_interrupted_training_ends_as_if_it_had_not_been(few_digits, small_net, tmp_path):
    path = tmp_path / "state.safetensors"
    recipe, fidelity = Recipe(), Fidelity(epochs=4)
    straight, resumed = Interrupted(small_net(), step=0), Interrupted(small_net(seed=9), step=0)
    whole = fit(straight, few_digits, recipe, fidelity=fidelity, seed=3)
    third_epoch = straight.calls // 2 + 1
    cut = Interrupted(small_net(), step=third_epoch)
    with pytest.raises(KeyboardInterrupt):
        fit(cut, few_digits, recipe, fidelity=fidelity, seed=3, checkpoint=path)
    again = fit(resumed, few_digits, recipe, fidelity=fidelity, seed=3, checkpoint=path)
    assert again.resumed_epochs == 2
    assert same(straight, resumed)
    assert again.metrics == whole.metrics


def test_going_on_under_a_cosine_follows_the_curve_of_the_new_total(few_digits, small_net, tmp_path):
    path = tmp_path / "state.safetensors"
    straight, second = small_net(), small_net()
    fit(straight, few_digits, Recipe(), fidelity=Fidelity(epochs=4), seed=3)
    fit(small_net(), few_digits, Recipe(), fidelity=Fidelity(epochs=2), seed=3, checkpoint=path)
    fit(second, few_digits, Recipe(), fidelity=Fidelity(epochs=4), seed=3, checkpoint=path)
    assert not same(straight, second)


def test_a_finished_training_is_only_judged_again(few_digits, small_net, tmp_path):
    path = tmp_path / "state.safetensors"
    first, second = small_net(), small_net(seed=9)
    fidelity = Fidelity(epochs=2)
    done = fit(first, few_digits, Recipe(), fidelity=fidelity, seed=3, checkpoint=path)
    again = fit(second, few_digits, Recipe(), fidelity=fidelity, seed=3, checkpoint=path)
    assert again.epochs == 0
    assert again.metrics == done.metrics
    assert same(first, second)


def test_a_state_that_is_further_on_is_neither_used_nor_overwritten(few_digits, small_net, tmp_path):
    path = tmp_path / "state.safetensors"
    fit(small_net(), few_digits, Recipe(), fidelity=Fidelity(epochs=3), seed=3, checkpoint=path)
    content = path.read_bytes()
    shorter, straight = small_net(), small_net()
    result = fit(shorter, few_digits, Recipe(), fidelity=Fidelity(epochs=1), seed=3, checkpoint=path)
    fit(straight, few_digits, Recipe(), fidelity=Fidelity(epochs=1), seed=3)
    assert result.resumed_epochs == 0
    assert same(shorter, straight)
    assert path.read_bytes() == content


@pytest.mark.parametrize("other", ["seed", "recipe", "data"])
def test_a_state_of_another_training_is_not_gone_on_from(digits, few_digits, small_net, tmp_path, other):
    path = tmp_path / "state.safetensors"
    fit(small_net(), few_digits, Recipe(), fidelity=Fidelity(epochs=1), seed=3, checkpoint=path)
    result = fit(
        small_net(),
        digits if other == "data" else few_digits,
        Recipe(flip=True) if other == "recipe" else Recipe(),
        fidelity=Fidelity(epochs=2, data_share=0.1),
        seed=4 if other == "seed" else 3,
        checkpoint=path,
    )
    assert result.resumed_epochs == 0
    assert read_progress(path).epochs == 2


def test_a_state_of_another_network_or_a_broken_one_is_told_and_replaced(few_digits, small_net, tmp_path, caplog):
    path = tmp_path / "state.safetensors"
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    fit(other, few_digits, Recipe(), fidelity=Fidelity(epochs=1), seed=3, checkpoint=path)
    with caplog.at_level(logging.WARNING):
        fit(small_net(), few_digits, Recipe(), fidelity=Fidelity(epochs=2), seed=3, checkpoint=path)
        path.write_bytes(b"junk")
        fit(small_net(), few_digits, Recipe(), fidelity=Fidelity(epochs=1), seed=3, checkpoint=path)
    assert [record.message.endswith("training starts anew") for record in caplog.records] == [True, True]
    assert read_progress(path).epochs == 1


def test_a_state_is_one_safetensors_file_and_nothing_else(few_digits, small_net, tmp_path):
    path = tmp_path / "below" / "state.safetensors"
    fit(small_net(), few_digits, Recipe(), fidelity=Fidelity(epochs=1), seed=3, checkpoint=path)
    assert [file.name for file in path.parent.iterdir()] == ["state.safetensors"]
    with safe_open(path, framework="pt") as file:
        kinds = {name.split("/")[0] for name in file.keys()}  # noqa: SIM118 - it is no mapping
    assert kinds == {"model", "average", "optimiser"}


def test_going_on_at_a_higher_resolution_counts_the_epochs(few_digits, small_net, tmp_path):
    path = tmp_path / "state.safetensors"
    low, high = Fidelity(epochs=1, resolution=0.5, data_share=0.5), Fidelity(epochs=3)
    fit(small_net(), few_digits, Recipe(), fidelity=low, seed=3, checkpoint=path)
    assert fit(small_net(), few_digits, Recipe(), fidelity=high, seed=3, checkpoint=path).resumed_epochs == 1


def test_weights_come_back_whatever_their_memory_layout(small_net, tmp_path):
    module = small_net().to(memory_format=torch.channels_last)
    other = small_net(seed=1)
    save_weights(module, tmp_path / "a.safetensors")
    load_weights(other, tmp_path / "a.safetensors")
    assert same(module, other)


def test_tied_weights_come_back_and_stay_tied(tmp_path):
    def tied() -> nn.Sequential:
        module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        module[1].weight = module[0].weight
        return module

    first, second = tied(), tied()
    save_weights(first, tmp_path / "a.safetensors")
    load_weights(second, tmp_path / "a.safetensors")
    assert same(first, second)
    assert second[0].weight is second[1].weight


def test_weights_of_another_network_and_broken_files_are_refused(small_net, tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match="no such file"):
        load_weights(small_net(), path)
    save_weights(nn.Linear(3, 3), path)
    with pytest.raises(UserError, match=r"a\.safetensors: must fit the network, got nothing for 0.weight"):
        load_weights(small_net(), path)
    path.write_bytes(b"junk")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        load_weights(small_net(), path)


def test_the_average_follows_its_closed_form():
    module = nn.BatchNorm1d(1)
    average = MovingAverage(module, decay=0.5)
    expected = 1.0
    for update, value in enumerate((2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)):
        nn.init.constant_(module.weight, value)
        module.num_batches_tracked += 1
        average.update()
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
    assert average.state["weight"].item() == pytest.approx(expected)
    assert average.state["num_batches_tracked"].item() == 10
