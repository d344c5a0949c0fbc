import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.space import Cell, Edge, Layer, SearchSpace, choose
from nas.space.folding import fold_stage, network_digest

MODULUS = 2_147_483_647


def layer(op, **parameters):
    return Layer(op=op, parameters=parameters)


def cell(num_nodes, **edges):
    """``cell(3, a01="conv")``: the operators by their two nodes."""
    return Cell(
        num_nodes=num_nodes,
        edges=tuple(Edge(source=int(k[1]), target=int(k[2]), layer=layer(op)) for k, op in edges.items()),
    )


def apply(stage, x):
    """A stage as a function of whole numbers, with operators that map 0 to 0 and are not linear."""
    if stage is None:
        return x
    if isinstance(stage, Layer):
        if stage.op in ("identity", "none"):
            return x if stage.op == "identity" else 0
        k = sum(stage.op.encode())
        return (k * x * x + (k + 7) * x) % MODULUS
    values = [x] + [0] * (stage.num_nodes - 1)
    for edge in sorted(stage.edges, key=lambda edge: edge.target):
        values[edge.target] = (values[edge.target] + apply(edge.layer, values[edge.source])) % MODULUS
    return values[-1]


def random_cell(seed, *, most=6, ops=("none", "identity", "a", "b")):
    rng = random.Random(seed)
    num_nodes = rng.randint(2, most)
    pairs = [(i, j) for j in range(1, num_nodes) for i in range(j)]
    return Cell(
        num_nodes=num_nodes,
        edges=tuple(Edge(source=i, target=j, layer=layer(rng.choice(ops))) for i, j in pairs),
    )


def smallest_form(folded):
    """Canonical form by brute force: the smallest edge list over all orders of the inner nodes."""
    if not isinstance(folded, Cell):
        return str(folded)
    inner = range(1, folded.num_nodes - 1)
    forms = []
    for order in itertools.permutations(inner):
        to = {0: 0, folded.num_nodes - 1: folded.num_nodes - 1, **dict(zip(inner, order, strict=True))}
        forms.append(sorted((to[edge.source], to[edge.target], edge.layer.op) for edge in folded.edges))
    return str(min(forms))


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**40), st.integers(1, MODULUS - 1))
def test_a_folded_cell_computes_the_same(seed, x):
    original = random_cell(seed)
    assert apply(fold_stage(original), x) == apply(original, x)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**40))
def test_a_folded_cell_is_topological_live_and_stays_as_it_is(seed):
    folded = fold_stage(random_cell(seed))
    if isinstance(folded, Cell):
        assert all(edge.source < edge.target for edge in folded.edges)
        assert all(edge.layer.op != "none" for edge in folded.edges)
        if folded.edges:
            assert {edge.target for edge in folded.edges} == set(range(1, folded.num_nodes))
            assert {edge.source for edge in folded.edges} == set(range(folded.num_nodes - 1))
        assert fold_stage(folded) == folded


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**40))
def test_folded_cells_are_equal_exactly_where_brute_force_says_so(seed):
    # Few operators on few nodes, so that isomorphic pairs are common.
    some = [fold_stage(random_cell(seed + k, most=5, ops=("none", "a"))) for k in range(12)]
    for one, other in itertools.combinations(some, 2):
        assert (one == other) == (smallest_form(one) == smallest_form(other))


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_inner_nodes_does_not_matter_in_symmetric_cells(seed):
    # Five chains of two alike operators each, with nodes in random order: the worst case of a canonical order.
    rng = random.Random(seed)
    inner = list(range(1, 11))
    rng.shuffle(inner)
    edges = []
    for chain in range(5):
        first, second = sorted(inner[2 * chain : 2 * chain + 2])
        edges += [(0, first), (first, second), (second, 11)]
    rng.shuffle(edges)
    shuffled = Cell(num_nodes=12, edges=tuple(Edge(source=i, target=j, layer=layer("a")) for i, j in edges))
    expected = [(0, k) for k in range(1, 6)]
    folded = fold_stage(shuffled)
    assert [(edge.source, edge.target) for edge in folded.edges][:5] == expected
    assert network_digest(None, [folded]) == network_digest(None, [fold_stage(folded)])
    assert len(folded.edges) == 15


@pytest.mark.parametrize(
    ("original", "folded"),
    [
        (cell(2, e01="identity"), None),
        (cell(2, e01="a"), layer("a")),
        (cell(2, e01="none"), Cell(num_nodes=2, edges=())),
        (cell(4, e01="a", e02="b", e13="none", e23="none"), Cell(num_nodes=2, edges=())),
        (cell(3, e01="identity", e12="a"), layer("a")),
        (cell(3, e01="none", e12="a", e02="b"), layer("b")),
        (cell(3, e01="a", e02="b"), layer("b")),
        (cell(3, e01="identity", e02="a", e12="a"), Cell(num_nodes=2, edges=cell(2, x01="a", y01="a").edges)),
        (cell(4, e01="identity", e12="identity", e23="identity"), None),
    ],
)
def test_dead_parts_and_copies_fold_away(original, folded):
    assert fold_stage(original) == folded


def test_a_shared_operator_is_told_from_one_that_stands_twice():
    shared = fold_stage(cell(4, e01="a", e12="identity", e13="b", e23="b"))
    twice = fold_stage(cell(4, e01="a", e02="a", e13="b", e23="b"))
    assert shared != twice
    assert network_digest(None, [shared]) != network_digest(None, [twice])


def test_a_chain_in_a_cell_has_the_digest_of_the_sequence():
    chain = fold_stage(cell(4, e01="a", e12="b", e23="a"))
    assert network_digest(None, [chain]) == network_digest(None, [layer("a"), layer("b"), layer("a")])


def test_the_resolution_is_part_of_the_digest():
    digests = {network_digest(resolution, [layer("a")]) for resolution in (None, 1, 1.0, 8)}
    assert len(digests) == 4


def test_identities_vanish_and_lists_are_flattened_unless_asked_otherwise():
    space = SearchSpace.from_template({"network": ["identity", [["conv"], []], {"sequence": ["conv", "identity"]}]})
    assert [stage.op for stage in space.network([]).stages] == ["conv", "conv"]
    unfolded = space.network([], fold=False)
    assert [stage.op for stage in unfolded.stages] == ["identity", "conv", "conv", "identity"]
    assert unfolded.digest == space.network([]).digest


def test_an_unfolded_cell_keeps_absent_edges():
    edges = {"0>1": "none", "0>2": "conv", "1>2": choose("none", "identity")}
    space = SearchSpace.from_template({"network": [{"cell": {"nodes": 3, "edges": edges}}]})
    ops = [edge.layer.op for edge in space.network([0], fold=False).stages[0].edges]
    assert ops == ["none", "conv", "none"]
    assert space.network([0]).digest == space.network([1]).digest
    assert space.network([0]).stages[0].op == "conv"
