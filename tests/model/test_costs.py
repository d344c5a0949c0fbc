"""Fusion, memory and size, in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas.model.build import build
from nas.model.costs import module_costs, network_costs
from nas.model.features import FEATURE_NAMES, add_features, feature_kind
from nas.model.file_costs import FILE_BYTES, OPERATION_BYTES
from nas.model.fusion import Kernel, fuse, peak_bytes
from nas.model.layer_table import LayerRow, LayerTable
from nas.model.trace import trace
from nas.space.network import Cell, Edge, Layer, Network


def layer(op: str, **parameters: object) -> Layer:
    return Layer(op=op, parameters=parameters)


def network(*stages: Layer | Cell) -> Network:
    return Network(resolution=None, stages=(*stages, layer("classifier")), digest="0" * 16)


def kernels_of(*stages: Layer | Cell, shape: tuple[int, int, int] = (16, 8, 8)) -> list[Kernel]:
    module = build(network(*stages), input_shape=shape, num_classes=10)
    return fuse(trace(module, shape))[0]


def kinds(*stages: Layer | Cell, shape: tuple[int, int, int] = (16, 8, 8)) -> list[str]:
    """Kinds of the kernels before the three of the classifier's pool and linear layer."""
    found = [kernel.row.kind for kernel in kernels_of(*stages, shape=shape)]
    assert found[-2:] == ["global_pool", "linear"]
    return found[:-2]


def test_normalisation_and_activation_go_into_a_convolution() -> None:
    for activation in ("none", "relu", "relu6", "hardswish"):
        assert kinds(layer("conv", channels=8, activation=activation)) == ["conv"]


def test_activations_with_an_exponential_stay_kernels() -> None:
    assert kinds(layer("conv", channels=8, activation="silu")) == ["conv", "activation:silu"]
    assert kinds(layer("depthwise", activation="gelu")) == ["depthwise", "activation:gelu"]


def test_the_sum_of_a_residual_goes_into_its_last_convolution() -> None:
    assert kinds(layer("inverted_residual", expansion=2)) == ["pointwise", "depthwise", "pointwise"]
    assert kinds(layer("basic_block")) == ["conv", "conv"]
    assert kinds(layer("basic_block", channels=32)) == ["conv", "conv", "pointwise"]


def test_a_gate_is_a_pool_two_convolutions_and_a_product() -> None:
    block = layer("inverted_residual", expansion=2, squeeze_excite=True)
    found = kernels_of(block)[:-2]
    assert [feature_kind(kernel) for kernel in found] == [
        *("pointwise", "depthwise3", "global_pool", "gate", "gate", "scale", "pointwise")
    ]


def test_a_value_that_is_read_twice_keeps_its_kernel() -> None:
    cell = Cell(
        num_nodes=3,
        edges=(
            Edge(source=0, target=1, layer=layer("conv", activation="none")),
            Edge(source=1, target=2, layer=layer("norm_activation")),
            Edge(source=1, target=2, layer=layer("identity")),
        ),
    )
    assert kinds(cell) == ["conv", "norm", "add"]


def test_nothing_is_fused_across_the_border_of_two_stages() -> None:
    assert kinds(layer("conv", activation="none"), layer("norm_activation")) == ["conv", "norm"]
    inside = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
    assert [kernel.row.kind for kernel in fuse(trace(inside, (16, 8, 8)))[0]] == ["conv"]


def test_the_size_holds_folded_weights_and_counts_the_bytes_of_each_precision() -> None:
    costs = network_costs(network(layer("conv", channels=8)), input_shape=(3, 8, 8), num_classes=10)
    conv, linear = 8 * 27, 80
    overhead = FILE_BYTES + OPERATION_BYTES * len(["Conv", "Relu", "GlobalAveragePool", "Gemm"])
    assert costs.parameters == conv + 2 * 8 + linear + 10
    assert costs.macs == conv * 64 + linear
    assert costs.size_bytes["float32"] == 4 * (conv + 8 + linear + 10) + overhead
    assert costs.size_bytes["float16"] == 2 * (conv + 8 + linear + 10) + overhead
    assert costs.size_bytes["int8"] == conv + linear + 4 * 18 + 13 * 18 + 2 * 700 + overhead


def test_the_peak_of_a_plain_chain_is_the_largest_pair_of_neighbours() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 2, stride=2), nn.Conv2d(16, 2, 1))
    assert module_costs(module, (3, 8, 8)).peak_activation_bytes == 4 * 64 * (8 + 4)


def test_the_input_of_a_residual_lives_until_its_sum() -> None:
    costs = network_costs(network(layer("inverted_residual", expansion=4)), input_shape=(8, 8, 8), num_classes=2)
    assert costs.peak_activation_bytes == 4 * 64 * (8 + 32 + 32)
    alone = network_costs(
        network(layer("inverted_residual", expansion=4, channels=9)), input_shape=(8, 8, 8), num_classes=2
    )
    assert alone.peak_activation_bytes == 4 * 64 * (32 + 32)


def test_an_elementwise_kernel_writes_over_its_dying_input() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.SiLU(), nn.SiLU())
    assert module_costs(module, (3, 8, 8)).peak_activation_bytes == 4 * 64 * (3 + 8)


def _live_sets(table: LayerTable, kernels: Sequence[Kernel], output: int) -> Iterator[set[int]]:
    """The values that must be held while each kernel runs, by definition and without reuse of buffers."""
    for k, kernel in enumerate(kernels):
        made = {-1, *(earlier.output for earlier in kernels[:k])}
        needed = {value for later in kernels[k:] for value in later.inputs} | {output}
        yield (made & needed) | {kernel.output}


@settings(max_examples=100, deadline=None)
@given(data=st.data(), num=st.integers(1, 8))
def test_the_peak_is_the_largest_set_of_live_values(data: st.DataObject, num: int) -> None:
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=num + 1, max_size=num + 1))
    shapes = [(size, 1, 1) for size in sizes]
    inputs = [
        tuple(data.draw(st.lists(st.integers(-1, i - 1), min_size=1, max_size=1, unique=True))) for i in range(num)
    ]
    rows = tuple(LayerRow(kind="conv", in_shape=shapes[inputs[i][0] + 1], out_shape=shapes[i + 1]) for i in range(num))
    table = LayerTable(in_shape=shapes[0], rows=rows, inputs=tuple(inputs), output=num - 1, stage=("",) * num)
    kernels, output = fuse(table)
    largest = max(sum(4 * table.shape_of(value)[0] for value in live) for live in _live_sets(table, kernels, output))
    assert peak_bytes(table, kernels, output) == largest


def test_features_count_kernels_work_and_bytes() -> None:
    table = trace(nn.Sequential(nn.Conv2d(3, 20, 3, padding=1, bias=False), nn.BatchNorm2d(20), nn.ReLU()), (3, 8, 8))
    out = [0.0] * len(FEATURE_NAMES)
    add_features(fuse(table)[0], table, out)
    named = {name: value for name, value in zip(FEATURE_NAMES, out, strict=True) if value}
    assert named == {
        "conv_narrow.kernels": 1,
        # Along a row: the first and last pixel by themselves with 2 taps, and 6 pixels at once with 3, each for two
        # blocks of output channels; 22 taps down the map, three input channels.
        "conv_narrow.steps": 22 * 3 * (2 * 2 * 4 + 3 * 6 * 2),
        "conv_narrow.loads": 22 * 3 * (2 * 2 + 3) * 2,
        "conv_narrow.calls": 8,
        # Of the 3 taps of a window, 2.75 lie inside the 8 pixels on average, in each direction.
        "conv_narrow.padded_macs": 64 * 2.75**2 * 3 * 32,
        "conv_narrow.gathered": 64 * 9 * 3,
        "conv_narrow.activation_bytes": 4 * 64 * (3 + 20),
        "conv_narrow.weight_bytes": 4 * (27 * 20 + 20),
    }


def test_feature_names_are_distinct() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
