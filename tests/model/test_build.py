"""Building networks and cells."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nas.errors import UserError
from nas.model.build import build
from nas.model.shapes import DoesNotFit, input_shape_of
from nas.space.network import Cell, Edge, Layer, Network

CLASSIFIER = Layer(op="classifier", parameters={})


def network(*stages: Layer | Cell, resolution: int | float | None = None) -> Network:
    return Network(resolution=resolution, stages=stages, digest="0" * 16)


def edge(source: int, target: int, op: str, **parameters: object) -> Edge:
    return Edge(source=source, target=target, layer=Layer(op=op, parameters=parameters, where=f"cell.{source}{target}"))


def cell_output(cell: Cell, x: torch.Tensor) -> torch.Tensor:
    module = build(network(cell, CLASSIFIER), input_shape=tuple(x.shape[1:]), num_classes=2).eval()
    return module[0](x)


def test_a_network_maps_any_batch_to_one_score_a_class() -> None:
    stem = Layer(op="conv", parameters={"channels": 4})
    module = build(network(stem, CLASSIFIER), input_shape=(3, 8, 6), num_classes=7)
    assert module(torch.zeros(5, 3, 8, 6)).shape == (5, 7)
    assert [name for name, _ in module.named_children()] == ["s0_conv", "s1_classifier"]
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())


def test_a_module_comes_back_ready_to_train() -> None:
    module = build(
        network(Layer(op="conv", parameters={"channels": 4}), CLASSIFIER), input_shape=(3, 8, 8), num_classes=2
    )
    assert all(part.training for part in module.modules())


def test_weights_follow_from_the_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = build(
                network(Layer(op="basic_block", parameters={"channels": 4}), CLASSIFIER),
                input_shape=(3, 8, 8),
                num_classes=2,
            )
        return nn.utils.parameters_to_vector(module.parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(("resolution", "size"), [(None, (8, 12)), (16, (16, 16)), (1.5, (12, 18)), (0.01, (1, 1))])
def test_the_input_has_the_networks_resolution(resolution: int | float | None, size: tuple[int, int]) -> None:
    assert input_shape_of(network(CLASSIFIER, resolution=resolution), (3, 8, 12)) == (3, *size)


def test_nodes_of_a_cell_are_sums_of_their_edges() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    cell = Cell(
        num_nodes=3,
        edges=(edge(1, 2, "identity"), edge(0, 1, "identity"), edge(0, 2, "identity"), edge(0, 1, "identity")),
    )
    assert torch.equal(cell_output(cell, x), 3 * x)


def test_a_cell_without_edges_gives_zeros() -> None:
    x = torch.ones(2, 3, 4, 4)
    assert torch.equal(cell_output(Cell(num_nodes=2, edges=()), x), torch.zeros_like(x))


def test_a_node_that_nothing_reaches_is_zero() -> None:
    x = torch.ones(1, 3, 4, 4)
    cell = Cell(num_nodes=3, edges=(edge(1, 2, "identity"), edge(0, 2, "identity")))
    assert torch.equal(cell_output(cell, x), x)


def test_absent_edges_of_an_unfolded_cell_count_as_zeros_and_dead_operators_keep_their_weights() -> None:
    x = torch.ones(1, 3, 4, 4)
    cell = Cell(num_nodes=3, edges=(edge(0, 1, "relu_conv_norm", kernel=3), edge(1, 2, "none"), edge(0, 2, "identity")))
    assert torch.equal(cell_output(cell, x), x)
    module = build(network(cell, CLASSIFIER), input_shape=(3, 4, 4), num_classes=2)
    assert sum(parameter.numel() for parameter in module[0].parameters()) == 3 * 3 * 9 + 2 * 3


def test_edges_of_unequal_shapes_are_refused_with_the_place_of_the_cell() -> None:
    cell = Cell(
        num_nodes=2, edges=(edge(0, 1, "conv", channels=4), edge(0, 1, "conv", channels=5)), where="network[1].cell"
    )
    with pytest.raises(DoesNotFit, match=r"network\[1\]\.cell\.edges: .*node 1, got 4x8x8 and 5x8x8"):
        build(network(cell, CLASSIFIER), input_shape=(3, 8, 8), num_classes=2)


def test_a_window_that_is_larger_than_the_map_is_refused_with_place_and_sizes() -> None:
    pool = Layer(op="max_pool", parameters={"kernel": 2, "stride": 2}, where="network[0]")
    with pytest.raises(DoesNotFit, match=r"network\[0\]\.kernel: cannot take an input of 3x1x1: of 2 must fit"):
        build(network(pool, CLASSIFIER), input_shape=(3, 1, 1), num_classes=2)


def test_a_network_must_end_in_scores() -> None:
    stem = Layer(op="conv", parameters={"channels": 4}, where="network[0]")
    with pytest.raises(DoesNotFit, match="must end in 10 scores, one a class, got an output of 4x8x8"):
        build(network(stem), input_shape=(3, 8, 8), num_classes=10)
    with pytest.raises(DoesNotFit, match=r"network\[0\]: must stand before the classifier"):
        build(network(CLASSIFIER, stem), input_shape=(3, 8, 8), num_classes=10)


@pytest.mark.parametrize(("shape", "classes"), [((0, 8, 8), 10), ((3, 8), 10), ((3, 8, 8), 0)])
def test_data_without_pixels_or_classes_is_refused(shape: tuple[int, ...], classes: int) -> None:
    with pytest.raises(UserError, match="must be"):
        build(network(CLASSIFIER), input_shape=shape, num_classes=classes)
