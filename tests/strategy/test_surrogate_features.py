"""Features of rows: what is dead does not show, and scales are alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.space.flat import flat_space
from nas.space.load import load_space
from nas.space.moves import enumerate_rows, sample
from nas.space.network import Cell, Layer
from nas.space.space import SearchSpace
from nas.strategy.surrogate.features import Scaling, features_of, logarithms, row_features
from nas.strategy.surrogate.live_graph import cells_of, live_features, live_size

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space(ROOT / "search_spaces" / "nasbench201.yaml")


def cell_of(space: SearchSpace, row: np.ndarray) -> Cell | Layer | None:
    return space.slots[1].resolve(row)


def test_networks_with_one_digest_have_one_set_of_live_features_but_for_the_order_of_nodes(space: SearchSpace) -> None:
    rows = sample(space, 1500, np.random.default_rng(0))
    (view,) = cells_of(space)
    paths = live_features(view, rows)[1]
    sizes = live_size(view, rows)
    first: dict[str, int] = {}
    for k, row in enumerate(rows):
        other = first.setdefault(space.architecture(row).digest, k)
        np.testing.assert_array_equal(paths[k], paths[other])
        assert sizes[k] == sizes[other]
    assert len(first) < 1490


def test_the_live_size_is_that_of_the_folded_cell(space: SearchSpace) -> None:
    (view,) = cells_of(space)
    rows = sample(space, 300, np.random.default_rng(1))
    for row, size in zip(rows, live_size(view, rows), strict=True):
        cell = cell_of(space, row)
        layers = [cell] if isinstance(cell, Layer) else [edge.layer for edge in cell.edges] if cell else []
        convolutions = [layer for layer in layers if layer.op == "relu_conv_norm"]
        assert size == sum(int(str(layer.parameters["kernel"])) ** 2 for layer in convolutions)


def test_a_chain_has_its_depth_its_single_path_and_its_size(space: SearchSpace) -> None:
    (view,) = cells_of(space)
    none, copy, one, three, pool = range(5)
    # Edges 0>1, 0>2, 1>2, 0>3, 1>3, 2>3.
    rows = np.array(
        [
            [three, none, one, none, none, three],  # 3x3, 1x1, 3x3 in a chain
            [none, none, three, none, three, three],  # nothing leaves the input
            [three, three, three, copy, none, none],  # only a copy arrives
            [pool, none, none, none, pool, three],  # a dead 3x3 behind
        ],
        dtype=np.int16,
    )
    summary, paths = live_features(view, rows)
    assert live_size(view, rows).tolist() == [19.0, 0.0, 0.0, 0.0]
    assert summary[:, 5].tolist() == [4.0, 0.0, 1.0, 1.0]  # weighted operators on the longest path, plus one if any
    assert paths.sum(axis=1).tolist() == [1.0, 0.0, 1.0, 1.0]
    assert summary[:, 4].tolist() == [2.0, 0.0, 0.0, 1.0]


def test_paths_count_sequences_whatever_nodes_they_pass(space: SearchSpace) -> None:
    (view,) = cells_of(space)
    by_node_1 = np.array([[3, 0, 0, 0, 2, 0]], dtype=np.int16)
    by_node_2 = np.array([[0, 3, 0, 0, 0, 2]], dtype=np.int16)
    np.testing.assert_array_equal(live_features(view, by_node_1)[1], live_features(view, by_node_2)[1])
    turned = np.array([[2, 0, 0, 0, 3, 0]], dtype=np.int16)
    assert (live_features(view, by_node_1)[1] != live_features(view, turned)[1]).any()


def test_a_cell_with_too_many_paths_still_has_a_summary() -> None:
    template = {
        "name": "wide",
        "network": [{"cell": {"nodes": 9, "edges": {"choose": ["none", {"op": "conv", "kernel": 3}]}}}],
    }
    wide = SearchSpace.from_template(template)
    (view,) = cells_of(wide)
    summary, paths = live_features(view, sample(wide, 50, np.random.default_rng(0)))
    assert paths.shape == (50, 0)
    assert (summary[:, 1:].max(axis=0) > 0).all()


def test_options_differ_by_one_for_each_choice_and_levels_by_their_distance() -> None:
    flat = flat_space("f", {"a": ["x", "y", "z"], "b": ["x", "y", "z"]})
    groups = row_features(flat, np.array([[0, 0], [1, 0], [2, 1]], dtype=np.int16))
    options = groups["options"]
    assert np.square(options[0] - options[1]).sum() == pytest.approx(1.0)
    assert np.square(options[0] - options[2]).sum() == pytest.approx(2.0)
    assert groups["counts"].tolist() == [[2, 0, 0], [1, 1, 0], [0, 1, 1]]
    numbers = SearchSpace.from_template(
        {"name": "n", "network": [{"op": "conv", "channels": {"choose": [8, 16, 32]}, "kernel": 3}]}
    )
    assert row_features(numbers, enumerate_rows(numbers))["levels"].tolist() == [[0.0], [0.5], [1.0]]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_scaled_rows_have_a_squared_distance_of_one_on_average(seed: int) -> None:
    flat = flat_space("f", {f"c{k}": ["x", "y", "z"] for k in range(5)})
    rng = np.random.default_rng(seed)
    rows = sample(flat, 400, rng)
    features = features_of(flat, rows, {"macs": rng.lognormal(size=400), "same": np.ones(400)})
    scaling = Scaling.of(features)
    for values in scaling(features):
        squared = 2 * np.square(values - values.mean(axis=0)).sum(axis=1).mean()
        assert squared == pytest.approx(1.0, abs=0.1)


def test_figures_without_a_logarithm_become_the_smallest_that_has_one() -> None:
    values = logarithms(np.array([0.0, -1.0, np.nan, np.inf, 2.0, 8.0]))
    np.testing.assert_allclose(np.exp(values), [2, 2, 2, 2, 2, 8])
    assert logarithms(np.array([np.nan])).tolist() == [0.0]
