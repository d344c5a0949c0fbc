"""Costs of populations against tracing each network as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.errors import UserError
from nas.model import slot_table
from nas.model.costs import network_costs
from nas.model.population_costs import PopulationCosts
from nas.space.load import load_space
from nas.space.moves import enumerate_rows, sample
from nas.space.space import SearchSpace

SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
NAMES = ("macs", "parameters", "size_bytes", "peak_activation_bytes")


def space_of(*stages: object, **top: object) -> SearchSpace:
    return SearchSpace.from_template({"name": "s", "network": [*stages, {"op": "classifier"}], **top})


def one_by_one(space: SearchSpace, population: np.ndarray, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    found = [network_costs(space.network(row), input_shape=shape, num_classes=10) for row in population]
    figures = [(c.macs, c.parameters, c.size_bytes["float32"], c.peak_activation_bytes) for c in found]
    return dict(zip(NAMES, np.array(figures, dtype=float).T, strict=True))


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8)], ids=["colour", "grey"])
def test_figures_are_those_of_the_whole_network(path: Path, shape: tuple[int, int, int]) -> None:
    space = load_space(path)
    population = sample(space, 12, np.random.default_rng(7))
    costs = PopulationCosts(space, input_shape=shape, num_classes=10)
    assert costs.buildable(population).all()
    expected = one_by_one(space, population, shape)
    found = costs.costs(population)
    assert set(found) == set(NAMES)
    for name in NAMES:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


MIXED: dict[str, Any] = {
    "input": {"resolution": {"choose": [6, 0.5, 1.5]}},
    "network": [
        {"op": "conv", "channels": {"choose": [4, 20]}, "activation": "none"},
        {"repeat": {"times": {"choose": [0, 1, 2]}, "block": {"op": "norm_activation", "activation": "gelu"}}},
        {
            "cell": {
                "nodes": 4,
                "edges": {
                    "choose": [
                        "none",
                        "identity",
                        {"op": "conv", "activation": "none"},
                        {"op": "max_pool"},
                        {"op": "norm_activation"},
                    ]
                },
            }
        },
        {"op": "classifier", "hidden": {"choose": [0, 8]}, "activation": "hardswish"},
    ],
}


def test_figures_of_cells_conditional_parts_and_resolutions_are_those_of_the_whole_network() -> None:
    space = SearchSpace.from_template({"name": "mixed", **MIXED})
    population = sample(space, 60, np.random.default_rng(3))
    costs = PopulationCosts(space, input_shape=(2, 9, 9), num_classes=10)
    found, expected = costs.costs(population), one_by_one(space, population, (2, 9, 9))
    for name in NAMES:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_results_do_not_depend_on_what_was_asked_before_or_on_the_size_of_the_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = load_space(SPACES[0])
    population = sample(space, 12, np.random.default_rng(5))
    warm = PopulationCosts(space, input_shape=(1, 8, 8), num_classes=10)
    warm.costs(sample(space, 40, np.random.default_rng(6)))
    cold = PopulationCosts(space, input_shape=(1, 8, 8), num_classes=10)
    monkeypatch.setattr(slot_table, "MAX_COMBINATIONS", 1)
    for name in NAMES:
        np.testing.assert_array_equal(warm.costs(population)[name], cold.costs(population)[name])
    np.testing.assert_array_equal(warm.features(population), cold.features(population))


def test_a_slot_with_more_choices_than_a_table_can_hold_is_looked_up_all_the_same() -> None:
    cell = {"cell": {"nodes": 8, "edges": {"choose": ["none", "identity", {"op": "avg_pool"}]}}}
    space = space_of(cell)
    assert len(space.choices) == 28
    population = sample(space, 10, np.random.default_rng(0))
    found = PopulationCosts(space, input_shape=(2, 8, 8), num_classes=10).costs(population)
    for name, expected in one_by_one(space, population, (2, 8, 8)).items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


def test_weights_on_features_need_no_features() -> None:
    space = load_space(SPACES[0])
    rng = np.random.default_rng(1)
    population = sample(space, 50, rng)
    costs = PopulationCosts(space, input_shape=(3, 16, 16), num_classes=10)
    features = costs.features(population)
    assert features.shape == (50, len(costs.feature_names))
    assert (features >= 0).all()
    one, two = rng.random(len(costs.feature_names)), rng.random((len(costs.feature_names), 2))
    np.testing.assert_allclose(costs.weighted(population, one), features @ one, rtol=1e-12)
    np.testing.assert_allclose(costs.weighted(population, two), features @ two, rtol=1e-12)


def test_networks_that_cannot_be_built_are_nan_and_the_others_are_not() -> None:
    pool = {"op": "max_pool", "kernel": 2, "stride": 2}
    space = space_of({"repeat": {"times": {"choose": [1, 2, 3]}, "block": pool}})
    population = enumerate_rows(space, limit=10)
    costs = PopulationCosts(space, input_shape=(1, 4, 4), num_classes=10)
    assert costs.buildable(population).tolist() == [True, True, False]
    for values in (*costs.costs(population).values(), costs.weighted(population, np.ones(len(costs.feature_names)))):
        assert np.isnan(values).tolist() == [False, False, True]
    assert np.isnan(costs.features(population)).all(axis=1).tolist() == [False, False, True]


def test_groups_fit_some_widths_only() -> None:
    space = space_of({"op": "conv", "channels": {"choose": [6, 8]}}, {"op": "conv", "groups": 4})
    costs = PopulationCosts(space, input_shape=(1, 4, 4), num_classes=10)
    assert costs.buildable(enumerate_rows(space, limit=10)).tolist() == [False, True]


def test_a_wrong_operator_is_not_taken_for_one_that_does_not_fit() -> None:
    space = space_of({"op": "conv", "kernel": {"choose": [3, "five"]}})
    with pytest.raises(UserError, match=r"network\[0\]\.kernel"):
        PopulationCosts(space, input_shape=(1, 4, 4), num_classes=10).buildable(enumerate_rows(space, limit=10))


def test_no_rows_give_no_figures() -> None:
    space = load_space(SPACES[0])
    costs = PopulationCosts(space, input_shape=(3, 16, 16), num_classes=10)
    empty = np.zeros((0, len(space.choices)), dtype=np.int16)
    assert {values.shape for values in costs.costs(empty).values()} == {(0,)}
    assert costs.features(empty).shape == (0, len(costs.feature_names))
    assert costs.weighted(empty, np.ones(len(costs.feature_names))).shape == (0,)


def test_a_space_without_choices_has_one_network() -> None:
    space = space_of({"op": "conv", "channels": 4})
    population = np.zeros((3, 0), dtype=np.int16)
    found = PopulationCosts(space, input_shape=(1, 8, 8), num_classes=10).costs(population)
    assert found["macs"].tolist() == [64 * 9 * 4 + 40] * 3


def test_rows_and_weights_of_another_space_are_refused() -> None:
    space = space_of({"op": "conv", "channels": {"choose": [4, 8]}})
    costs = PopulationCosts(space, input_shape=(1, 8, 8), num_classes=10)
    with pytest.raises(UserError, match="must be rows of 1 choices, got shape"):
        costs.costs(np.zeros((3, 2), dtype=np.int16))
    with pytest.raises(UserError, match="must be one a feature"):
        costs.weighted(np.zeros((3, 1), dtype=np.int16), np.ones(3))


def test_a_hundred_thousand_rows_take_well_under_a_second_once_tables_are_filled() -> None:
    import time

    space = load_space(next(path for path in SPACES if path.stem == "nasbench-macro"))
    population = sample(space, 100_000, np.random.default_rng(0))
    costs = PopulationCosts(space, input_shape=(3, 32, 32), num_classes=10)
    weights = np.ones(len(costs.feature_names))
    costs.weighted(population, weights)
    start = time.process_time()
    costs.weighted(population, weights)
    assert time.process_time() - start < 0.5
