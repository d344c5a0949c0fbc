"""Tracing, held against torch itself."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from nas.errors import UserError
from nas.model.build import build, build_layer
from nas.model.operators.layers import ACTIVATIONS
from nas.model.trace import Tracer, trace
from nas.model.without_data import without_data
from nas.space.network import Layer, Network

ACTIVATION = st.sampled_from(sorted(ACTIVATIONS))
ODD = st.sampled_from([1, 3, 5])
CHANNELS = st.integers(1, 24)
STRIDE = st.integers(1, 3)
LAYERS = st.one_of(
    st.builds(
        lambda **p: ("conv", p), channels=CHANNELS, kernel=st.integers(1, 5), stride=STRIDE, activation=ACTIVATION
    ),
    st.builds(lambda **p: ("depthwise", p), kernel=ODD, stride=STRIDE, activation=ACTIVATION),
    st.builds(
        lambda **p: ("inverted_residual", p),
        channels=st.one_of(st.none(), CHANNELS).filter(lambda c: c is not None),
        expansion=st.sampled_from([0.5, 1, 1.5, 4]),
        kernel=ODD,
        stride=STRIDE,
        squeeze_excite=st.booleans(),
        activation=ACTIVATION,
    ),
    st.builds(lambda **p: ("inverted_residual", p), expansion=st.sampled_from([1, 3]), squeeze_excite=st.booleans()),
    st.builds(lambda **p: ("basic_block", p), channels=CHANNELS, kernel=ODD, stride=STRIDE, activation=ACTIVATION),
    st.builds(lambda **p: ("bottleneck", p), channels=CHANNELS, expansion=st.sampled_from([1, 2.5, 4]), stride=STRIDE),
    st.builds(lambda **p: ("max_pool", p), kernel=st.integers(1, 4), stride=STRIDE),
    st.builds(lambda **p: ("avg_pool", p), kernel=st.integers(1, 4), stride=STRIDE),
    st.builds(lambda **p: ("relu_conv_norm", p), kernel=ODD),
    st.builds(lambda **p: ("reduction_block", p), channels=CHANNELS, stride=STRIDE),
    st.builds(lambda **p: ("norm_activation", p), activation=ACTIVATION),
    st.just(("none", {})),
    st.just(("identity", {})),
)


@settings(max_examples=60, deadline=None)
@given(
    layers=st.lists(LAYERS, min_size=1, max_size=4),
    hidden=st.sampled_from([0, 5]),
    shape=st.tuples(CHANNELS, st.integers(8, 20), st.integers(8, 20)),
)
def test_a_trace_agrees_with_what_torch_computes(
    layers: list[tuple[str, dict[str, object]]], hidden: int, shape: tuple[int, int, int]
) -> None:
    stages = [Layer(op=op, parameters=parameters) for op, parameters in layers]
    stages.append(Layer(op="classifier", parameters={"hidden": hidden}))
    network = Network(resolution=None, stages=tuple(stages), digest="0" * 16)
    try:
        module = build(network, input_shape=shape, num_classes=3).eval()
    except UserError:
        with pytest.raises(RuntimeError):  # torch refuses what tracing refuses
            _chain(stages, shape)
        return
    table = trace(module, shape)
    x: torch.Tensor = torch.zeros(1, *shape)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        for stage, name in zip(module, dict(module.named_children()), strict=True):
            x = stage(x)
            rows = [row for row, of in zip(table.rows, table.stage, strict=True) if of == name]
            assert not rows or rows[-1].out_shape == tuple(x.shape[1:])
    assert table.macs == counter.get_total_flops() // 2
    assert table.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert table.out_shape == (3,)


def _chain(stages: list[Layer], shape: tuple[int, int, int]) -> None:
    from nas.model.operators.registry import operator_of

    x = torch.zeros(1, *shape)
    with torch.no_grad():
        for stage in stages:
            x = operator_of(stage).build(tuple(x.shape[1:]), 3).eval()(x)


def test_rows_tell_kind_shapes_and_sizes_of_a_block() -> None:
    layer = Layer(
        op="inverted_residual",
        parameters={"channels": 4, "expansion": 2, "kernel": 5, "stride": 2, "activation": "hardswish"},
    )
    network = Network(resolution=None, stages=(layer, Layer(op="classifier", parameters={})), digest="0" * 16)
    rows = list(trace(build(network, input_shape=(3, 8, 8), num_classes=10), (3, 8, 8)))
    assert [row.kind for row in rows] == [
        *("pointwise", "norm", "activation:hardswish", "depthwise", "norm", "activation:hardswish"),
        *("pointwise", "norm", "global_pool", "view", "linear"),
    ]
    depthwise = rows[3]
    assert (depthwise.in_shape, depthwise.out_shape) == ((6, 8, 8), (6, 4, 4))
    assert (depthwise.kernel, depthwise.stride, depthwise.groups) == ((5, 5), (2, 2), 6)
    assert depthwise.macs == 6 * 16 * 25
    assert (depthwise.in_bytes, depthwise.out_bytes, depthwise.weight_bytes) == (4 * 6 * 64, 4 * 6 * 16, 4 * 150)
    assert (rows[-1].macs, rows[-1].parameters) == (40, 50)


class Unusual(nn.Module):
    """Uses functions that tracing has no rule for, and asks its input a few things."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5, 4))
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        x = self.norm(functional.pad(x, (1, 1)))
        a, b = x.chunk(2, dim=1)
        x = torch.cat([a, b * torch.ones_like(b)], 1) + 1
        x = x.reshape(n, c, h * (w + 2)).transpose(1, 2)
        assert x.size(-1) == c
        assert x.dim() == 3
        return (x @ self.weight.t()).mean(dim=1)


def test_functions_without_a_rule_are_run_by_torch() -> None:
    module = Unusual()
    table = trace(module, (4, 6, 5))
    counter = FlopCounterMode(display=False)
    with counter:
        assert table.out_shape == tuple(module(torch.zeros(1, 4, 6, 5)).shape[1:]) == (5,)
    assert table.macs == counter.get_total_flops() // 2 == 6 * 7 * 4 * 5
    assert table.rows[-1].kind == "other:mean"


def test_tracing_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    module[1].eval()
    before = [part.training for part in module.modules()]
    state = {key: value.clone() for key, value in module.state_dict().items()}
    trace(module, (3, 8, 8))
    assert [part.training for part in module.modules()] == before
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def test_a_module_that_cannot_take_the_shape_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match="cannot take an input of 4x8x8: must be the 4 of the input, got 3"):
        trace(nn.Conv2d(3, 8, 3), (4, 8, 8))
    with pytest.raises(UserError, match="cannot take an input of 3x8x8"):
        trace(nn.Sequential(nn.Flatten(), nn.Conv1d(3, 3, 1)), (3, 8, 8))


def test_a_module_that_does_not_give_one_tensor_is_refused() -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    with pytest.raises(UserError, match="must be one tensor computed from the input, got tuple"):
        trace(Pair(), (3, 8, 8))


@settings(max_examples=60, deadline=None)
@given(layer=LAYERS, channels=CHANNELS, sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), max_size=4))
def test_tracing_again_for_another_size_gives_what_tracing_anew_gives(
    layer: tuple[str, dict[str, object]], channels: int, sizes: list[tuple[int, int]]
) -> None:
    op, parameters = layer
    with without_data():
        module = build_layer(Layer(op=op, parameters=parameters), (channels, 9, 9), num_classes=3, allow=()).eval()
    tracer = Tracer(module)
    for height, width in sizes:
        try:
            expected = trace(module, (channels, height, width))
        except UserError as error:
            with pytest.raises(UserError, match=re.escape(str(error))):
                tracer.trace((channels, height, width))
        else:
            assert tracer.trace((channels, height, width)) == expected


def test_a_module_that_looks_at_the_size_of_its_map_is_traced_anew() -> None:
    class Halving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.passes: list[int] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.passes.append(x.shape[-1])
            return functional.max_pool2d(x, 2) if x.shape[-1] > 8 else functional.relu(x)

    module = Halving()
    tracer = Tracer(module)
    assert [tracer.trace((2, size, size)).out_shape for size in (16, 8, 16)] == [(2, 8, 8)] * 3
    assert module.passes == [16, 8, 16]


def test_modules_without_data_have_shapes_and_no_values() -> None:
    with without_data():
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(4, 2))
    assert {tensor.device.type for tensor in module.state_dict().values()} == {"meta"}
    shapes = [tuple(parameter.shape) for parameter in module.parameters()]
    assert shapes == [(8, 3, 3, 3), (8,), (8,), (8,), (2, 4), (2,)]
    assert nn.Linear(2, 2).weight.device.type == "cpu"
