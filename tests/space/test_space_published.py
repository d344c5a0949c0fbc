"""The two published spaces, against what their authors published."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest

from nas.locate import resource_folder
from nas.space import Cell, load_space
from nas.space.moves import enumerate_rows

EDGES = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]


def data_file(name):
    folders = [Path(os.environ["NAS_DATA"])] if "NAS_DATA" in os.environ else []
    folders.append(Path(__file__).resolve().parents[3] / "shared" / "data")
    found = [folder / name for folder in folders if (folder / name).is_file()]
    if not found:
        pytest.skip(f"{name} is neither in $NAS_DATA nor in {folders[-1]}")
    return found[0]


@pytest.fixture(scope="module")
def cells():
    return load_space(resource_folder("search_spaces") / "nasbench201.yaml")


@pytest.fixture(scope="module")
def macro():
    return load_space(resource_folder("search_spaces") / "nasbench-macro.yaml")


@pytest.fixture(scope="module")
def cell_digests(cells):
    rows = [tuple(row.tolist()) for row in enumerate_rows(cells)]
    return {row: cells.architecture(row).digest for row in rows}


def expression(row, labels, *, keep_zeros):
    """A cell as the published de-duplication writes it: nested sums of operators, copies left out.

    The published one keeps the terms of absent edges as ``#`` (`keep_zeros`).
    """
    nodes = ["0"]
    for target in (1, 2, 3):
        terms = []
        for (i, j), option in zip(EDGES, row, strict=True):
            if j == target:
                op = labels[option]
                zero = op == "none" or nodes[i] == "#"
                terms.append("#" if zero else nodes[i] if op == "skip_connect" else f"({nodes[i]})@{op}")
        if not keep_zeros:
            terms = [term for term in terms if term != "#"]
        nodes.append("+".join(sorted(terms)) or "#")
    return nodes[3]


def test_nasbench201_has_the_published_size_names_and_order(cells):
    assert cells.size == len(enumerate_rows(cells)) == 15_625
    assert [choice.name for choice in cells.choices] == [f"cell.{i}>{j}" for i, j in EDGES]
    operators = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    assert {choice.labels for choice in cells.choices} == {operators}


def test_nasbench201_has_the_published_number_of_expressions(cells, cell_digests):
    labels = cells.choices[0].labels
    assert len({expression(row, labels, keep_zeros=True) for row in cell_digests}) == 6_466
    assert len({expression(row, labels, keep_zeros=False) for row in cell_digests}) == 5_390


def test_our_digests_split_expressions_only_where_an_operator_is_shared(cells, cell_digests):
    # An expression does not say whether two like terms are one operator used twice, or two: 5 390 expressions
    # (without absent edges) are 6 985 networks, as a brute-force comparison of the folded graphs confirms.
    labels = cells.choices[0].labels
    expression_of = {}
    for row, digest in cell_digests.items():
        text = expression(row, labels, keep_zeros=False)
        assert expression_of.setdefault(digest, text) == text
    assert len(expression_of) == 6_985


def test_nasbench201_has_as_many_digests_as_graphs_that_differ_by_brute_force(cells, cell_digests):
    def graph(row):
        folded = cells.slots[1].resolve(row)
        if not isinstance(folded, Cell):
            return repr(folded and (folded.op, folded.parameters))
        inner = range(1, folded.num_nodes - 1)
        forms = []
        for order in itertools.permutations(inner):
            to = {0: 0, folded.num_nodes - 1: folded.num_nodes - 1, **dict(zip(inner, order, strict=True))}
            forms.append(
                sorted((to[e.source], to[e.target], e.layer.op, str(e.layer.parameters)) for e in folded.edges)
            )
        return repr(min(forms))

    assert len({graph(row) for row in cell_digests}) == 6_985


def test_nasbench201_stands_in_the_published_skeleton(cells):
    network = cells.network([3, 3, 3, 3, 3, 3])
    kinds = ["cell" if isinstance(stage, Cell) else stage.op for stage in network.stages]
    five = ["cell"] * 5
    down = ["reduction_block"]
    assert kinds == ["conv", *five, *down, *five, *down, *five, "norm_activation", "classifier"]


def test_nasbench_macro_has_the_published_size(macro):
    assert macro.size == len(enumerate_rows(macro)) == 6_561
    assert [choice.name for choice in macro.choices] == [f"layer{k}" for k in range(8)]
    assert {choice.labels for choice in macro.choices} == {("identity", "MB3_K3", "MB6_K5")}


def test_nasbench_macro_has_as_many_networks_as_layers_without_identities(macro):
    # Stages of 2, 3 and 3 layers. The first layer of a stage changes the shape and never vanishes: 3 options.
    # Of the others, the sequences of two operators up to their number: 1 + 2, and 1 + 2 + 4.
    digests = {macro.architecture(row).digest for row in enumerate_rows(macro)}
    assert len(digests) == (3 * 3) * (3 * 7) * (3 * 7) == 3_969


def test_nasbench_macro_networks_that_we_call_equal_share_their_published_accuracy(macro):
    table = json.loads(data_file("nasbench_macro/nas-bench-macro_cifar10.json").read_text())
    accuracy = {}
    for row in enumerate_rows(macro):
        published = table["".join(map(str, row))]["mean_acc"]
        assert accuracy.setdefault(macro.architecture(row).digest, published) == published


def test_nasbench_macro_has_the_published_parameters_and_flops(macro):
    # Counted from the layers' shapes: batch norm's parameters count, the last layer's bias is no operation.
    table = json.loads(data_file("nasbench_macro/nas-bench-macro_cifar10.json").read_text())
    for row in enumerate_rows(macro):
        published = table["".join(map(str, row))]
        assert macro_costs(macro.network(row)) == (published["params"], published["flops"])


def macro_costs(network):
    channels, size, parameters, macs = 3, 32, 0, 0
    for layer in network.stages:
        given = layer.parameters
        if layer.op == "classifier":
            return parameters + channels * 10 + 10, macs + channels * 10
        out, stride = given.get("channels", channels), given.get("stride", 1)
        if layer.op == "conv":
            parts = [(channels * out, given["kernel"], stride, out)]
        else:
            hidden = channels * given["expansion"]
            parts = [
                (channels * hidden, 1, 1, hidden),
                (hidden, given["kernel"], stride, hidden),
                (hidden * out, 1, 1, out),
            ]
        for pairs, kernel, step, normalised in parts:
            size //= step
            parameters += pairs * kernel**2 + 2 * normalised
            macs += pairs * kernel**2 * size**2
        channels = out
    raise AssertionError("no classifier")


def test_rows_of_the_published_table_are_rows_of_the_space(cells):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_parquet(data_file("nasbench201/accuracy.parquet"))
    rows = table[[f"op_{i}>{j}" for i, j in EDGES]].to_numpy().astype(np.int16)
    for k in range(0, len(rows), 500):
        chosen = cells.architecture(rows[k]).choices
        for target, node in enumerate(table["architecture"][k].split("+"), start=1):
            for term in node.strip("|").split("|"):
                op, source = term.split("~")
                assert chosen[f"cell.{source}>{target}"] == op
