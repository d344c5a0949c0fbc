"""Operators: what they build, and how they refuse parameters and shapes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.errors import UserError
from nas.model.operators.registry import OPERATORS, operator_of
from nas.model.shapes import DoesNotFit
from nas.space.network import Layer


def layer(op: str, **parameters: object) -> Layer:
    return Layer(op=op, parameters=parameters, where="network[2].block")


def module_of(op: str, in_shape: tuple[int, int, int], **parameters: object) -> nn.Module:
    return operator_of(layer(op, **parameters)).build(in_shape, 10).eval()


SHAPES = [
    ("conv", {}, (6, 9, 7)),
    ("conv", {"channels": 12, "stride": 2}, (12, 5, 4)),
    ("conv", {"kernel": 4}, (6, 8, 6)),
    ("conv", {"kernel": 1, "groups": 3, "channels": 9}, (9, 9, 7)),
    ("depthwise", {"kernel": 5, "stride": 2}, (6, 5, 4)),
    ("inverted_residual", {"expansion": 3}, (6, 9, 7)),
    ("inverted_residual", {"expansion": 0.5, "channels": 8, "squeeze_excite": True}, (8, 9, 7)),
    ("basic_block", {"channels": 8, "stride": 2}, (8, 5, 4)),
    ("bottleneck", {"channels": 8, "expansion": 2}, (8, 9, 7)),
    ("max_pool", {"kernel": 2, "stride": 2}, (6, 4, 3)),
    ("avg_pool", {}, (6, 9, 7)),
    ("identity", {}, (6, 9, 7)),
    ("none", {}, (6, 9, 7)),
    ("relu_conv_norm", {"kernel": 1}, (6, 9, 7)),
    ("reduction_block", {"channels": 12}, (12, 5, 4)),
    ("reduction_block", {"channels": 12, "stride": 1}, (12, 9, 7)),
    ("norm_activation", {"activation": "silu"}, (6, 9, 7)),
    ("classifier", {"hidden": 5, "dropout": 0.5}, (10,)),
]


@pytest.mark.parametrize(("op", "parameters", "out_shape"), SHAPES)
def test_an_operator_gives_the_shape_that_its_parameters_say(
    op: str, parameters: dict[str, object], out_shape: tuple[int, ...]
) -> None:
    module = module_of(op, (6, 9, 7), **parameters)
    for batch in (1, 3):
        assert module(torch.zeros(batch, 6, 9, 7)).shape == (batch, *out_shape)


@pytest.mark.parametrize(("op", "parameters", "out_shape"), SHAPES)
def test_an_operator_gives_the_same_in_channels_last(
    op: str, parameters: dict[str, object], out_shape: tuple[int, ...]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = module_of(op, (6, 9, 7), **parameters)
        x = torch.randn(2, 6, 9, 7)
    expected = module(x)
    assert torch.allclose(module(x.contiguous(memory_format=torch.channels_last)), expected, atol=1e-5)


def test_every_operator_is_tested_for_its_shape() -> None:
    assert {op for op, _, _ in SHAPES} == set(OPERATORS)


def test_an_inverted_residual_of_expansion_1_has_no_widening_layer() -> None:
    convolutions = [m for m in module_of("inverted_residual", (8, 4, 4), expansion=1).modules() if type(m) is nn.Conv2d]
    assert [(conv.kernel_size, conv.groups) for conv in convolutions] == [((3, 3), 8), ((1, 1), 1)]


def test_an_inverted_residual_adds_its_input_only_where_shapes_agree() -> None:
    x = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    same = module_of("inverted_residual", (8, 4, 4), expansion=2)
    for parameter in same.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(same(x), x)
    wider = module_of("inverted_residual", (8, 4, 4), expansion=2, channels=12)
    for parameter in wider.parameters():
        nn.init.zeros_(parameter)
    assert not wider(x).any()


def test_a_bottleneck_divides_its_output_channels_by_the_expansion() -> None:
    convolutions = [m for m in module_of("bottleneck", (16, 4, 4), channels=32).modules() if type(m) is nn.Conv2d]
    assert [conv.out_channels for conv in convolutions] == [8, 8, 32, 32]


def test_the_reduction_block_takes_maps_of_odd_size() -> None:
    assert module_of("reduction_block", (4, 5, 7), channels=8)(torch.ones(1, 4, 5, 7)).shape == (1, 8, 3, 4)


def test_average_pooling_leaves_a_constant_map_as_it_is() -> None:
    x = torch.full((1, 2, 5, 5), 3.0)
    assert torch.allclose(module_of("avg_pool", (2, 5, 5), kernel=3)(x), x)


WRONG = [
    ("conv", {"chanels": 8}, "network[2].block.chanels", "did you mean channels? Known: activation, channels"),
    ("conv", {"channels": 0}, "network[2].block.channels", "from 1 to"),
    ("conv", {"channels": 8.0}, "network[2].block.channels", "got 8.0"),
    ("conv", {"stride": True}, "network[2].block.stride", "got True"),
    ("conv", {"kernel": "3"}, "network[2].block.kernel", "got '3'"),
    ("conv", {"activation": "relu7"}, "network[2].block.activation", "did you mean relu"),
    ("depthwise", {"kernel": 4}, "network[2].block.kernel", "odd"),
    ("inverted_residual", {}, "network[2].block.expansion", "must be given"),
    ("inverted_residual", {"expansion": 0}, "network[2].block.expansion", "at least 0.01"),
    ("inverted_residual", {"expansion": 2, "squeeze_excite": 1}, "network[2].block.squeeze_excite", "true or false"),
    ("classifier", {"dropout": 1}, "network[2].block.dropout", "below 1"),
    ("classifier", {"hidden": -1}, "network[2].block.hidden", "from 0"),
    ("identity", {"channels": 8}, "network[2].block.channels", "Known: none"),
    ("invertedresidual", {}, "network[2].block.op", "did you mean inverted_residual?"),
    ("os.system", {}, "network[2].block.op", "allowed package (none)"),
]


@pytest.mark.parametrize(("op", "parameters", "where", "said"), WRONG)
def test_a_wrong_parameter_is_told_with_its_place_in_the_template(
    op: str, parameters: dict[str, object], where: str, said: str
) -> None:
    with pytest.raises(UserError) as caught:
        operator_of(layer(op, **parameters))
    assert caught.value.where == where
    assert said in str(caught.value)


def test_groups_that_do_not_divide_the_channels_do_not_fit() -> None:
    with pytest.raises(DoesNotFit, match="6 channels of the input, got 4"):
        module_of("conv", (6, 8, 8), channels=8, groups=4)
    with pytest.raises(DoesNotFit, match="9 channels of the output, got 2"):
        module_of("conv", (6, 8, 8), channels=9, groups=2)


@pytest.fixture
def user_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"users_operators_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "from torch import nn\n"
        "def Wide(in_channels, factor=2):\n"
        "    if in_channels > 64:\n"
        "        raise ValueError('too wide')\n"
        "    return nn.Conv2d(in_channels, in_channels * factor, 1)\n"
        "def Text(in_channels):\n"
        "    return 'no module'\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def test_an_operator_of_the_user_is_imported_and_called(user_package: str) -> None:
    operator = operator_of(layer(f"{user_package}.Wide", factor=3), allow=[user_package])
    assert operator.build((4, 8, 8), 10)(torch.zeros(1, 4, 8, 8)).shape == (1, 12, 8, 8)


def test_an_operator_outside_the_allowed_packages_is_not_imported(user_package: str) -> None:
    with pytest.raises(UserError, match="allowed package"):
        operator_of(layer(f"{user_package}.Wide"), allow=[user_package[:-1], "other"])
    assert user_package not in sys.modules


def test_mistakes_in_operators_of_the_user_are_told(user_package: str) -> None:
    allow = [user_package, "no_such_package_anywhere"]
    with pytest.raises(UserError, match="cannot be imported: ModuleNotFoundError"):
        operator_of(layer("no_such_package_anywhere.Name"), allow=allow)
    with pytest.raises(UserError, match="no class or function 'Narrow'"):
        operator_of(layer(f"{user_package}.Narrow"), allow=allow)
    with pytest.raises(UserError, match="no class or function 'number'"):
        operator_of(layer(f"{user_package}.number"), allow=allow)
    with pytest.raises(UserError, match="unexpected keyword argument 'faktor'"):
        operator_of(layer(f"{user_package}.Wide", faktor=3), allow=allow).build((4, 8, 8), 10)
    with pytest.raises(UserError, match=r"must return a torch\.nn\.Module, got str"):
        operator_of(layer(f"{user_package}.Text"), allow=allow).build((4, 8, 8), 10)
    with pytest.raises(DoesNotFit, match="too wide"):
        operator_of(layer(f"{user_package}.Wide"), allow=allow).build((65, 8, 8), 10)
