"""One training on several processes gives what it gives on one."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from nas.errors import UserError
from nas.problem.evaluation import Fidelity
from nas.train.checkpoint import read_progress
from nas.train.distributed import divide, fit_on_several, share_norms, visible_devices
from nas.train.fit import DeadlineError, fit
from nas.train.recipe import Recipe

TWICE = Fidelity(epochs=2)
# 33 images a batch: two processes get 17 and 16.
RECIPE = Recipe(batch_size=33, mixup=0.2, cutout=0.25, ema_decay=0.9)


@pytest.fixture
def net():
    def make() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return nn.Sequential(
                nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8, affine=False), nn.ReLU(),
                nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10),
            )  # fmt: skip

    return make


@pytest.fixture
def alone(tmp_path):
    """A group of this process only."""
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "meeting"), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_two_processes_give_the_weights_figures_and_checkpoint_of_one(few_digits, net, tmp_path):
    single, pair = net(), net()
    options = {"fidelity": TWICE, "seed": 4, "watched": True}
    expected = fit(single, few_digits, RECIPE, checkpoint=tmp_path / "one", **options)
    found = fit_on_several(pair, few_digits, RECIPE, devices=["cpu"] * 2, checkpoint=tmp_path / "two", **options)
    assert found.train_losses == pytest.approx(expected.train_losses, rel=1e-4)
    assert found.metrics == pytest.approx(expected.metrics, rel=1e-3)
    assert found.curve == pytest.approx(expected.curve, abs=1e-9)
    for (name, one), (_, two) in zip(single.state_dict().items(), pair.state_dict().items(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    assert [type(part) for part in pair] == [type(part) for part in single]
    assert not pair.training
    assert not dist.is_initialized()
    one, two = (read_progress(tmp_path / name) for name in ("one", "two"))
    assert one.continues(two)
    assert one.epochs == two.epochs == 2


def test_a_deadline_ends_all_processes_and_what_was_trained_goes_on_on_one(few_digits, net, tmp_path):
    begin = time.monotonic()
    with pytest.raises(DeadlineError):
        fit_on_several(
            net(), few_digits, RECIPE, devices=["cpu"] * 2, fidelity=Fidelity(epochs=100_000), seed=4,
            deadline=begin + 6.0, checkpoint=tmp_path / "state",
        )  # fmt: skip
    assert time.monotonic() - begin < 60
    assert not dist.is_initialized()
    progress = read_progress(tmp_path / "state")  # none where a busy machine did not end an epoch in time
    epochs = 0 if progress is None else progress.epochs
    result = fit(
        net(), few_digits, RECIPE, fidelity=Fidelity(epochs=epochs + 1), seed=4, checkpoint=tmp_path / "state"
    )  # fmt: skip
    assert result.resumed_epochs == epochs


def test_one_device_is_the_training_of_one_process(few_digits, net):
    single, same = net(), net()
    expected = fit(single, few_digits, RECIPE, fidelity=TWICE, seed=4)
    found = fit_on_several(same, few_digits, RECIPE, devices=["cpu"], fidelity=TWICE, seed=4)
    assert found.metrics == expected.metrics


def test_shared_normalisation_of_one_process_is_torchs_own(alone):
    torch.manual_seed(0)
    own = nn.BatchNorm2d(5)
    nn.init.normal_(own.weight)
    nn.init.normal_(own.bias)
    shared = nn.Sequential(nn.BatchNorm2d(5))
    shared[0].load_state_dict(own.state_dict())
    names = list(shared.state_dict())
    share_norms(shared)
    assert list(shared.state_dict()) == names
    for _ in range(3):
        images = torch.randn(7, 5, 3, 2) * 4 + 30
        mine, its = images.clone().requires_grad_(), images.clone().requires_grad_()
        weights = torch.randn(7, 5, 3, 2)
        (own(mine) * weights).sum().backward()
        (shared(its) * weights).sum().backward()
        torch.testing.assert_close(its.grad, mine.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shared[0].state_dict(), own.state_dict(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shared[0].weight.grad, own.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shared.eval()(images), own.eval()(images))


def test_a_divided_network_of_one_process_is_the_network(alone, net):
    module, divided = net().eval(), net().eval()
    divide(divided)
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32))
    torch.testing.assert_close(divided(images), module(images))
    module(images).square().sum().backward()
    divided(images).square().sum().backward()
    torch.testing.assert_close(divided[0].weight.grad, module[0].weight.grad)
    assert math.isfinite(divided[0].weight.grad.sum())


def test_devices_of_two_kinds_and_more_than_images_are_refused(few_digits, net):
    with pytest.raises(UserError, match="one kind"):
        fit_on_several(net(), few_digits, RECIPE, devices=["cpu", "cuda:0"], fidelity=TWICE, seed=0)
    with pytest.raises(UserError, match="at most one an image of a batch"):
        fit_on_several(net(), few_digits, RECIPE, devices=["cpu"] * 34, fidelity=TWICE, seed=0)


def test_a_candidate_on_the_cpu_gets_as_many_processes_as_asked_for():
    assert visible_devices("cpu", 3) == ["cpu"] * 3
    assert visible_devices("cuda", 1) == ["cuda:0"]
