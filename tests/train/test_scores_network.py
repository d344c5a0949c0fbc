"""Scores of a network: computed together, repeatable, and without a trace on the network."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.errors import UserError
from nas.model.build import build
from nas.space.load import load_space
from nas.space.moves import sample
from nas.train.scores.network import SCORES, score_network
from nas.train.scores.observe import observe

SHIPPED = ("mobilenet-tiny", "resnet-tiny", "nasbench201")
SMALL = 16
ROOT = Path(__file__).resolve().parents[2]


def batch(count: int = 12, *, channels: int = 1, size: int = SMALL, classes: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, channels, size, size, generator=generator)
    return images, torch.randint(classes, (count,), generator=generator)


def some_network(name: str, seed: int) -> nn.Module:
    space = load_space(ROOT / "search_spaces" / f"{name}.yaml")
    row = sample(space, 1, np.random.default_rng(seed))[0]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(space.network(row), input_shape=(1, SMALL, SMALL), num_classes=10)


@pytest.mark.parametrize("name", SHIPPED)
def test_all_scores_of_a_shipped_space_are_finite(name: str) -> None:
    scores = score_network(some_network(name, 3), *batch(), SCORES, seed=0)
    assert list(scores) == list(SCORES)
    assert all(math.isfinite(value) for value in scores.values()), scores


def test_the_network_is_left_as_it_was(small_net: Callable[..., nn.Module]) -> None:
    net = small_net(2)
    net[1].eval()
    net[3].weight.grad = torch.ones_like(net[3].weight)
    state = copy.deepcopy(net.state_dict())
    modes = [part.training for part in net.modules()]
    images, labels = batch()
    given = images.clone()
    random = torch.get_rng_state()
    score_network(net, images, labels, SCORES, seed=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(images, given)
    assert not images.requires_grad
    assert [part.training for part in net.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert torch.equal(net[3].weight.grad, torch.ones_like(net[3].weight))
    assert net[0].weight.grad is None
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    assert net[1].momentum == 0.1


def test_equal_arguments_give_equal_scores_whatever_is_asked_together(small_net: Callable[..., nn.Module]) -> None:
    images, labels = batch()
    together = score_network(small_net(2), images, labels, SCORES, seed=5)
    torch.rand(7)
    assert score_network(small_net(2), images, labels, SCORES, seed=5) == together
    alone = {name: score_network(small_net(2), images, labels, [name], seed=5)[name] for name in SCORES}
    assert alone == together


def test_another_seed_draws_other_signals(small_net: Callable[..., nn.Module]) -> None:
    images, labels = batch()
    one, other = (score_network(small_net(2), images, labels, ["trainability"], seed=seed) for seed in (1, 2))
    assert one != other


def test_scores_need_no_gradients_to_be_enabled(small_net: Callable[..., nn.Module]) -> None:
    images, labels = batch()
    with torch.no_grad():
        without = score_network(small_net(2), images, labels, SCORES, seed=5)
    assert without == score_network(small_net(2), images, labels, SCORES, seed=5)


def test_an_unknown_score_is_an_error_that_lists_the_known_ones(small_net: Callable[..., nn.Module]) -> None:
    with pytest.raises(UserError, match="naswot"):
        score_network(small_net(), *batch(), ["nasvot"], seed=0)


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("not here")


class OnlyOnce(nn.Module):
    """Can be run forward, but not backward."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().clone()


class InPlace(nn.Module):
    """Writes into what it gets, as operators from elsewhere do."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu_()


class Rebinds(nn.Module):
    """Replaces its buffer by another tensor at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return x


def chain(*middle: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
        return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), *middle, *head)


def test_a_network_that_cannot_be_run_has_no_scores_but_those_that_need_no_run() -> None:
    scores = score_network(chain(Raises()), *batch(), SCORES, seed=0)
    assert all(math.isnan(value) for value in scores.values()), scores


def test_a_network_without_activations_has_all_scores_but_those_of_patterns() -> None:
    scores = score_network(chain(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)), *batch(), SCORES, seed=0)
    assert {name for name, value in scores.items() if math.isnan(value)} == {"naswot", "swap"}


def test_a_network_that_stops_gradients_has_nan_where_they_are_needed() -> None:
    scores = score_network(chain(nn.ReLU(), OnlyOnce()), *batch(), SCORES, seed=0)
    assert math.isfinite(scores["macs"])
    assert math.isnan(scores["trainability"])
    assert math.isnan(scores["jacobian"])


def test_an_operator_that_writes_into_its_input_is_scored_as_one_that_does_not() -> None:
    clean = [name for name in SCORES if name not in ("naswot", "swap")]  # it is no activation module
    one = score_network(chain(InPlace()), *batch(), clean, seed=0)
    other = score_network(chain(nn.ReLU()), *batch(), clean, seed=0)
    assert one == pytest.approx(other, nan_ok=True)
    assert math.isfinite(one["trainability"])


def test_buffers_that_a_network_replaces_are_put_back() -> None:
    net = chain(Rebinds())
    buffer = net[2].calls
    score_network(net, *batch(), SCORES, seed=0)
    assert net[2].calls is buffer
    assert float(buffer) == 0


def test_outputs_that_are_not_finite_give_nan_and_no_exception() -> None:
    net = chain(nn.ReLU())
    with torch.no_grad():
        net[0].weight[0] = math.inf
    scores = score_network(net, *batch(), SCORES, seed=0)
    assert not any(math.isinf(value) for value in scores.values())
    assert math.isnan(scores["zico"]) or math.isnan(scores["snip"])


def test_frozen_weights_leave_the_gradients_of_weights_out(small_net: Callable[..., nn.Module]) -> None:
    net = small_net(2).requires_grad_(False)
    scores = score_network(net, *batch(), ["zico", "snip", "naswot", "parameters"], seed=0)
    assert math.isnan(scores["zico"])
    assert math.isnan(scores["snip"])
    assert math.isfinite(scores["naswot"])
    assert scores["parameters"] == 0


def test_a_failure_is_told_in_one_line() -> None:
    observed = observe(chain(Raises()), *batch(), ["flow", "patterns"], seed=0)
    assert "not here" in observed.failures["flow"]
    assert "\n" not in observed.failures["flow"]
    assert observed.flow is None
