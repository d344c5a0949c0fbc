"""Costs of rows in the precision that they choose, against their parts and against files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas.model.build import build, module_names
from nas.model.costs import network_costs
from nas.model.deployed_costs import DeployedCosts
from nas.model.packing import packed_bytes
from nas.model.population_costs import PopulationCosts
from nas.space.deployment import PRECISIONS
from nas.space.load import load_space
from nas.space.moves import sample
from nas.space.network import Network
from nas.space.space import SearchSpace

SHAPE = (3, 16, 16)
PATH = Path(__file__).parents[2] / "search_spaces" / "mobilenet-tiny-joint.yaml"
NETWORK: list[object] = [
    {"name": "stem", "op": "conv", "channels": {"choose": [16, 24], "name": "width"}},
    {"repeat": {"name": "body", "times": {"choose": [1, 2]}, "block": {"op": "inverted_residual", "expansion": 2}}},
    {"name": "head", "choose": ["identity", {"op": "conv", "channels": 32, "activation": "hardswish"}]},
    {"op": "classifier"},
]


def deployed(space: SearchSpace) -> DeployedCosts:
    return DeployedCosts(space=space, built=PopulationCosts(space.undeployed, input_shape=SHAPE, num_classes=10))


def space_of(**deploy: object) -> SearchSpace:
    return SearchSpace.from_template({"network": NETWORK, "deploy": deploy})


@pytest.mark.parametrize("precision", PRECISIONS)
def test_figures_of_rows_are_those_of_the_network_that_is_shipped(precision: str) -> None:
    space = space_of(width={"choose": [0.5, 1.0]}, precision={"choose": list(PRECISIONS)})
    rows = sample(space, 20, np.random.default_rng(0))
    rows[:, -1] = PRECISIONS.index(precision)  # type: ignore[arg-type]
    found = deployed(space).costs(rows)
    for place, row in enumerate(rows):
        costs = network_costs(space.network(row), input_shape=SHAPE, num_classes=10)
        assert found["macs"][place] == costs.macs
        assert found["parameters"][place] == costs.parameters
        assert found["size_bytes"][place] == costs.size_bytes[precision]


def test_activations_take_the_bytes_of_their_precision() -> None:
    space = space_of(precision={"choose": list(PRECISIONS)})
    rows = sample(space, 30, np.random.default_rng(0))
    is_relu = np.array([len(space.network(row).stages) < 4 or not _has_head(space.network(row)) for row in rows])
    found = {}
    for code, name in enumerate(PRECISIONS):
        rows[:, -1] = code
        found[name] = deployed(space).costs(rows)["peak_activation_bytes"]
    np.testing.assert_array_equal(found["float16"], found["float32"] // 2)
    np.testing.assert_array_equal(found["int8-dynamic"], found["float32"])
    np.testing.assert_array_equal(found["int8"][is_relu], found["float32"][is_relu] // 4)
    # A hard swish is computed in float32: what it reads and writes is there at once.
    assert (found["int8"][~is_relu] >= 2 * 4 * 32 * 16 * 16).all()
    assert is_relu.any()
    assert not is_relu.all()


def _has_head(network: Network) -> bool:
    return "head" in network.stage_names


def test_a_mixed_file_holds_each_stage_in_its_precision() -> None:
    """Against files that are all float32 but for one stage: what that one saves adds up over stages."""
    hole = {"choose": ["float32", "int8"]}
    space = space_of(precision={"default": hole, "stem": hole, "body": hole})
    names = [choice.name for choice in space.choices]
    columns = [names.index(name) for name in ("deploy.precision", "deploy.stem.precision", "deploy.body.precision")]
    rows = sample(space, 60, np.random.default_rng(1))
    costs = deployed(space)

    def sizes(*codes: int) -> np.ndarray:
        asked = rows.copy()
        asked[:, columns] = codes
        return costs.costs(asked)["size_bytes"]

    whole = sizes(0, 0, 0)
    saved = [whole - sizes(1, 0, 0), whole - sizes(0, 1, 0), whole - sizes(0, 0, 1)]
    assert all((part > 0).any() for part in saved)
    np.testing.assert_allclose(whole - sizes(1, 1, 1), sum(saved))
    uniform = space_of(precision={"choose": ["float32", "int8"]})
    as_one = np.column_stack([rows[:, : uniform.num_choices - 1], np.ones(len(rows), dtype=np.int16)])
    np.testing.assert_allclose(sizes(1, 1, 1), deployed(uniform).costs(as_one)["size_bytes"])
    np.testing.assert_allclose(sizes(1, 0, 1), whole - saved[0] - saved[2])


def test_a_space_that_says_nothing_of_files_has_the_figures_of_what_is_built() -> None:
    space = space_of(width={"choose": [0.5, 1.0]})
    rows = sample(space, 10, np.random.default_rng(0))
    found, exact = deployed(space).costs(rows), deployed(space).built.costs(rows)
    assert set(found) == set(exact)
    assert all((found[name] == exact[name]).all() for name in exact)


def test_sparsity_changes_only_what_is_left_after_packing() -> None:
    space = space_of(precision={"choose": ["float32", "int8"]}, sparsity={"choose": [0.0, 0.5, 0.9, "2:4"]})
    rows = sample(space, 50, np.random.default_rng(0))
    found = []
    for option in range(4):
        rows[:, -1] = option
        found.append(deployed(space).costs(rows))
    for name in ("macs", "size_bytes", "peak_activation_bytes"):
        assert all((costs[name] == found[0][name]).all() for costs in found)
    dense, half, most, fours = (costs["compressed_bytes"] for costs in found)
    assert (most < half).all()
    assert (half < dense).all()
    assert (dense < found[0]["size_bytes"]).all()
    np.testing.assert_array_equal(half, fours)


def test_packing_a_file_without_zeros_takes_the_share_of_dense_numbers() -> None:
    files = {"size_bytes": np.array([1000.0]), "number_bytes": np.array([1000.0]), "prunable_bytes": np.array([900.0])}
    codes = np.array([PRECISIONS.index("float32")])
    assert packed_bytes(files, np.array([0.0]), codes) == pytest.approx(920)
    # Zeros must not make a file larger, however few there are.
    assert packed_bytes(files, np.array([1e-4]), codes) <= 920


def test_sums_by_stage_are_the_sum_over_all() -> None:
    space = load_space(PATH)
    costs = PopulationCosts(space.undeployed, input_shape=SHAPE, num_classes=10)
    rows = sample(space.undeployed, 40, np.random.default_rng(0))
    weights = np.random.default_rng(1).uniform(size=len(costs.feature_names))
    found = costs.by_stage(rows, weights)
    assert found.shape == (40, len(space.stage_names))
    np.testing.assert_allclose(found.sum(axis=1), costs.weighted(rows, weights))


def test_blocks_are_traced_once_whatever_precision_they_are_asked_in() -> None:
    space = load_space(PATH)
    costs = deployed(space)
    rows = sample(space, 300, np.random.default_rng(0))
    costs.costs(rows)
    known = len(costs.built._blocks)
    costs.costs(rows[::-1])
    assert len(costs.built._blocks) == known


def test_modules_are_named_as_the_network_says() -> None:
    space = load_space(PATH)
    network = space.network(sample(space, 1, np.random.default_rng(0))[0])
    module = build(network, input_shape=SHAPE, num_classes=10)
    assert tuple(name for name, _ in module.named_children()) == module_names(network)
