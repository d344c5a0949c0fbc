"""Narrow networks from wide ones: every tensor is filled, and what is kept is what mattered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nas.errors import UserError
from nas.locate import resource_folder
from nas.model.build import build
from nas.space.load import load_space
from nas.space.moves import sample
from nas.space.narrowing import narrowed
from nas.space.network import Layer, Network
from nas.train.compression.channels import ChannelGraph, channel_importance, most_important
from nas.train.compression.shrink import prune_channels, shrink

SHAPE = (3, 16, 16)


def network(*layers: dict[str, object]) -> Network:
    stages = tuple(Layer(op=str(layer.pop("op")), parameters=layer, where="network") for layer in layers)
    return Network(resolution=None, stages=stages, digest="0" * 16)


def both(net: Network, width: float) -> tuple[nn.Module, nn.Module]:
    narrow = replace(net, stages=tuple(narrowed(stage, width) for stage in net.stages))
    wide, small = (build(each, input_shape=SHAPE, num_classes=10) for each in (net, narrow))
    return settled(wide), small


def settled(module: nn.Module) -> nn.Module:
    """Statistics and scales as after a training: none is 0 or 1 by chance."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module.eval()


BLOCKS: dict[str, tuple[dict[str, object], ...]] = {
    "basic": ({"op": "basic_block", "channels": 32, "stride": 2}, {"op": "basic_block"}),
    "bottleneck": ({"op": "bottleneck", "channels": 64, "expansion": 2}, {"op": "bottleneck", "expansion": 2}),
    "inverted": (
        {"op": "inverted_residual", "channels": 32, "expansion": 4, "stride": 2, "squeeze_excite": True},
        {"op": "inverted_residual", "expansion": 2, "squeeze_excite": True, "activation": "hardswish"},
    ),
    "depthwise": ({"op": "depthwise"}, {"op": "conv", "channels": 32, "kernel": 1}),
    "grouped": ({"op": "conv", "channels": 32, "groups": 4}, {"op": "conv", "channels": 48, "groups": 2}),
    "reduction": ({"op": "reduction_block", "channels": 32}, {"op": "relu_conv_norm"}, {"op": "norm_activation"}),
    "hidden": ({"op": "max_pool"}, {"op": "conv", "channels": 24}),
}


@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
def test_channels_that_do_nothing_can_go_without_a_change_of_the_answers(blocks):
    """Closed form: a wide network whose dropped channels are zero equals the narrow one."""
    hidden = 16 if blocks is BLOCKS["hidden"] else 0
    net = network({"op": "conv", "channels": 32}, *(dict(b) for b in blocks), {"op": "classifier", "hidden": hidden})
    wide, narrow = both(net, 0.5)
    graph = ChannelGraph(wide, torch.zeros(2, *SHAPE))
    targets = dict(narrow.named_modules())
    with torch.no_grad():
        for group in graph.groups:
            root = targets[group.root]
            count = root.out_channels if isinstance(root, nn.Conv2d) else root.out_features
            kept = set(most_important(group, channel_importance(group, "magnitude"), count))
            for member in group.members:
                if member.outgoing:
                    places = [p for p, r in zip(member.places, member.roots, strict=True) if r not in kept]
                    for name in ("weight", "bias", "running_mean"):
                        if getattr(member.module, name, None) is not None:
                            getattr(member.module, name)[places] = 0
    images = torch.randn(4, *SHAPE)
    expected = wide(images)
    shrink(wide, narrow, SHAPE)
    torch.testing.assert_close(narrow.eval()(images), expected, rtol=1e-4, atol=1e-5)


def test_a_network_of_the_same_width_is_a_copy(rng):
    space = load_space(resource_folder("search_spaces") / "mobilenet-tiny.yaml")
    net = space.network(sample(space, 1, rng)[0])
    wide, copy = both(net, 1.0)
    assert shrink(wide, copy, SHAPE) == ()
    assert all(torch.equal(a, b) for a, b in zip(wide.state_dict().values(), copy.state_dict().values(), strict=True))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", ["mobilenet-tiny", "resnet-tiny", "nasbench201", "nasbench-macro"])
def test_every_shipped_space_can_be_shrunk_and_no_tensor_keeps_its_random_start(name, rng):
    space = load_space(resource_folder("search_spaces") / f"{name}.yaml")
    for row in sample(space, 3, rng):
        wide, narrow = both(space.network(row), 0.5)
        for tensor in narrow.state_dict().values():
            tensor.fill_(77)
        before = {key: value.clone() for key, value in wide.state_dict().items()}
        shrink(wide, narrow, SHAPE)
        assert not any(bool((value == 77).any()) for value in narrow.state_dict().values())
        assert all(torch.equal(value, before[key]) for key, value in wide.state_dict().items())
        assert torch.isfinite(narrow.eval()(torch.randn(2, *SHAPE))).all()


def test_a_shortcut_that_comes_in_by_rounding_is_told_and_filled():
    net = network(
        {"op": "conv", "channels": 12},
        {"op": "inverted_residual", "channels": 16, "expansion": 2},
        {"op": "basic_block", "channels": 12},
        {"op": "classifier"},
    )
    wide, narrow = both(net, 0.5)
    assert shrink(wide, narrow, SHAPE) == ("s1_inverted_residual", "s2_basic_block")


def test_a_narrow_network_that_is_none_is_refused_in_one_line_and_left_alone():
    wide, _ = both(network({"op": "conv", "channels": 16}, {"op": "classifier"}), 1.0)
    other, _ = both(network({"op": "conv", "channels": 24}, {"op": "classifier"}), 1.0)
    before = other.state_dict()["s0_conv.conv.weight"].clone()
    with pytest.raises(UserError, match=r"network.s0_conv.conv: must have at most the 16 channels .* got 24"):
        shrink(wide, other, SHAPE)
    kernel, _ = both(network({"op": "conv", "channels": 8, "kernel": 5}, {"op": "classifier"}), 1.0)
    with pytest.raises(UserError, match=r"fewer channels, got .*8, 3, 3, 3.* for .*8, 3, 5, 5"):
        shrink(wide, kernel, SHAPE)
    assert torch.equal(before, other.state_dict()["s0_conv.conv.weight"])


def test_importance_is_that_of_all_members_relative_to_their_means():
    module = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([1.0, 2.0, 0.0, 1.0]).reshape(4, 1, 1, 1))
        module[1].weight.copy_(torch.tensor([1.0, 1.0, 1.0, 3.0]))
        module[3].weight.copy_(torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]]))
    group = next(g for g in ChannelGraph(module, torch.zeros(2, 1, 1, 1)).groups if g.root == "0")
    # Squares over their means: convolution (1, 4, 0, 1)/1.5, scales (1, 1, 1, 9)/3, linear columns (1, 0, 2, 1)/1.
    expected = [(1 / 1.5 + 1 / 3 + 1) / 3, (4 / 1.5 + 1 / 3) / 3, (1 / 3 + 2) / 3, (1 / 1.5 + 3 + 1) / 3]
    torch.testing.assert_close(channel_importance(group, "magnitude"), torch.tensor(expected, dtype=torch.float64))
    assert most_important(group, channel_importance(group, "magnitude"), 2) == [1, 3]
    assert most_important(group, channel_importance(group, "scale"), 2) == [0, 3]


def test_a_users_module_loses_channels_in_multiples_and_keeps_its_scores():
    module = settled(
        nn.Sequential(
            nn.Conv2d(3, 32, 3),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 12, 3),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(48, 7),
        )
    )
    example = torch.randn(2, *SHAPE)
    pruned = prune_channels(module, example, 0.5)
    assert pruned.kept == {"0": (16, 32), "3": (8, 12)}
    assert pruned.module(example).shape == (2, 7)
    assert module[0].out_channels == 32
    assert prune_channels(module, example, 0.5, ignore=["0"]).kept == {"3": (8, 12)}
    assert prune_channels(module, example, 0.0, round_to=1).kept == {}


class FixedNumbers(nn.Module):
    """A block with a number of channels written into its forward, as attention often has."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1)
        self.second = nn.Conv2d(16, 32, 1)
        self.scores = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.second(self.first(x).relu()).reshape(x.shape[0], 4, 8, -1)
        return self.scores(heads.mean(dim=3).reshape(x.shape[0], 32))


def test_layers_that_would_break_are_left_alone_with_the_reason():
    pruned = prune_channels(FixedNumbers(), torch.randn(2, *SHAPE), 0.5)
    assert pruned.kept == {"first": (8, 16)}
    assert "shape" in pruned.left_alone["second"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ratio": 1.0}, "prune.ratio: must be a number at least 0 and below 1, got 1.0"),
        ({"ratio": 0.5, "ignore": ["nothing"]}, "prune.ignore: no layer named 'nothing'"),
        ({"ratio": 0.5, "importance": "luck"}, "prune.importance: no importance named 'luck'"),
    ],
)
def test_wrong_options_are_told(options, words):
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        prune_channels(FixedNumbers(), torch.randn(2, *SHAPE), **options)
