"""Traced figures against published tables, each with the counting convention that makes them equal.

NAS-Bench-201 [Dong2020] counts in ``macs_million``, at 32x32 and 10 classes: the multiply-accumulates of all
convolutions, those of dead edges too; of the linear layer also one for each bias; nothing for pooling, normalisation,
activations and sums. So the table is our figure of the unfolded network plus 10, in millions.

NAS-Bench-Macro [Su2021] counts the multiply-accumulates of all convolutions and of the linear layer without its bias,
and all trainable parameters, with those of normalisation. That is our figure as it is.

References:
    [Dong2020] NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search, ICLR 2020.
    [Su2021] Prioritized Architecture Sampling with Monto-Carlo Tree Search, CVPR 2021.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nas.model.costs import network_costs
from nas.model.population_costs import PopulationCosts
from nas.space.load import load_space
from nas.space.moves import enumerate_rows

ROOT = Path(__file__).parents[2]
EDGES = ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")
CONV_1X1, CONV_3X3 = 2, 3
LINEAR_BIASES = 10
STAGE_MACS = 16 * 16 * 32 * 32  # of a 1x1 convolution; the same in all three stages
CELLS = 15


def data_file(name: str) -> Path:
    folders = [Path(os.environ["NAS_DATA"])] if "NAS_DATA" in os.environ else []
    folders.append(ROOT.parent / "shared" / "data")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    pytest.skip(f"{name} is neither in $NAS_DATA nor in {folders[-1]}")


@pytest.fixture(scope="module")
def cells() -> tuple[np.ndarray, np.ndarray]:
    """Operator index of each edge ``(15625, 6)``, and multiply-accumulates ``(15625,)`` as published."""
    table = pd.read_parquet(data_file("nasbench201/accuracy.parquet"))
    ops = table[[f"op_{edge}" for edge in EDGES]].to_numpy()
    return ops, np.rint(table["macs_million"].to_numpy() * 1e6).astype(np.int64)


def live_convolutions(ops: np.ndarray) -> np.ndarray:
    """MACs of the convolutions on a path from input to output, in units of a 1x1 convolution: ``(n,)``."""
    on = {edge: ops[:, k] != 0 for k, edge in enumerate(EDGES)}
    from_input = {0: np.ones(len(ops), dtype=bool)}
    from_input[1] = on["0>1"]
    from_input[2] = on["0>2"] | (from_input[1] & on["1>2"])
    to_output = {3: np.ones(len(ops), dtype=bool)}
    to_output[2] = on["2>3"]
    to_output[1] = on["1>3"] | (to_output[2] & on["1>2"])
    units = np.zeros(len(ops), dtype=np.int64)
    for k, edge in enumerate(EDGES):
        source, target = int(edge[0]), int(edge[2])
        live = from_input[source] & to_output[target] & on[edge]
        units += live * ((ops[:, k] == CONV_1X1) + 9 * (ops[:, k] == CONV_3X3))
    return units


def test_macs_of_all_nasbench201_cells_are_the_published_ones_less_their_dead_convolutions(
    cells: tuple[np.ndarray, np.ndarray],
) -> None:
    ops, published = cells
    space = load_space(ROOT / "search_spaces" / "nasbench201.yaml")
    costs = PopulationCosts(space, input_shape=(3, 32, 32), num_classes=10).costs(ops)
    every = (ops == CONV_1X1).sum(axis=1) + 9 * (ops == CONV_3X3).sum(axis=1)
    dead = every - live_convolutions(ops)
    np.testing.assert_array_equal(costs["macs"] + LINEAR_BIASES, published - dead * CELLS * STAGE_MACS)
    assert (dead == 0).sum() == (costs["macs"] + LINEAR_BIASES == published).sum() > 10_000


def test_traced_macs_of_200_random_unfolded_cells_are_the_published_ones(
    cells: tuple[np.ndarray, np.ndarray],
) -> None:
    ops, published = cells
    space = load_space(ROOT / "search_spaces" / "nasbench201.yaml")
    for k in np.random.default_rng(201).choice(len(ops), 200, replace=False):
        costs = network_costs(space.network(ops[k], fold=False), input_shape=(3, 32, 32), num_classes=10)
        assert costs.macs + LINEAR_BIASES == published[k], ops[k]


@pytest.mark.parametrize(("op", "parameters"), [(0, 73_306), (1, 73_306), (CONV_3X3, 1_531_546)])
def test_parameters_of_known_nasbench201_cells_are_the_published_ones(op: int, parameters: int) -> None:
    space = load_space(ROOT / "search_spaces" / "nasbench201.yaml")
    costs = PopulationCosts(space, input_shape=(3, 32, 32), num_classes=10).costs([[op] * 6])
    assert costs["parameters"] == parameters


def test_parameters_and_macs_of_all_macro_networks_are_the_published_ones() -> None:
    table = json.loads(data_file("nasbench_macro/nas-bench-macro_cifar10.json").read_text())
    space = load_space(ROOT / "search_spaces" / "nasbench-macro.yaml")
    rows = enumerate_rows(space, limit=6561)
    costs = PopulationCosts(space, input_shape=(3, 32, 32), num_classes=10).costs(rows)
    published = [table["".join(map(str, row))] for row in rows.tolist()]
    np.testing.assert_array_equal(costs["parameters"], [entry["params"] for entry in published])
    np.testing.assert_array_equal(costs["macs"], [entry["flops"] for entry in published])
