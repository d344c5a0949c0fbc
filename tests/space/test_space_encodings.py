import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from space_templates import templates

from nas.space.encodings import (
    kinds_of_choices,
    num_pairwise,
    one_hot,
    one_hot_names,
    operator_counts,
    operator_counts_names,
    operator_projection,
    pairs,
    pairwise,
    pairwise_names,
)
from nas.space.flat import flat_space
from nas.space.moves import enumerate_rows, sample
from nas.space.network import Cell
from nas.space.paths import MAX_CELLS, cell_paths, path_encoding, path_names
from nas.space.space import SearchSpace

OPERATORS = ["none", "identity", {"op": "conv", "kernel": 3}]
CELL = {"cell": {"nodes": 3, "edges": {"choose": OPERATORS}}}


def cell_space(cell: dict[str, object] = CELL) -> SearchSpace:
    return SearchSpace.from_template({"name": "cells", "network": ["conv", cell, "classifier"]})


@settings(max_examples=60, deadline=None)
@given(template=templates(), seed=st.integers(0, 2**32 - 1))
def test_pairwise_is_the_product_of_two_options_of_different_choices(template: dict[str, object], seed: int) -> None:
    space = SearchSpace.from_template(template)
    rows = sample(space, 7, np.random.default_rng(seed))
    single = one_hot(space, rows)
    starts = np.cumsum([0, *(choice.num_options for choice in space.choices)])
    parts = [single[:, a:b] for a, b in itertools.pairwise(starts)]
    products = [(parts[i][:, :, None] * parts[j][:, None, :]).reshape(len(rows), -1) for i, j in pairs(space)]
    expected = np.concatenate([np.zeros((len(rows), 0)), *products], axis=1)
    encoded = pairwise(space, rows)
    assert encoded.shape == (7, num_pairwise(space)) == (7, len(pairwise_names(space)))
    assert np.array_equal(encoded, expected)


@settings(max_examples=60, deadline=None)
@given(template=templates(), seed=st.integers(0, 2**32 - 1))
def test_counts_are_a_projection_of_options_and_have_a_name_each(template: dict[str, object], seed: int) -> None:
    space = SearchSpace.from_template(template)
    rows = sample(space, 9, np.random.default_rng(seed))
    counts = operator_counts(space, rows)
    assert counts.shape == (9, len(operator_counts_names(space)))
    assert np.array_equal(counts, one_hot(space, rows) @ operator_projection(space))
    shared = {column for kind in kinds_of_choices(space) if len(kind) > 1 for column in kind}
    active = sum((rows[:, column] >= 0 for column in shared), np.zeros(9, dtype=int))
    assert counts.sum(axis=1).tolist() == active.tolist()


def test_choices_are_of_one_kind_where_labels_of_one_are_among_the_others() -> None:
    wide, narrow = ["skip", "3", "5"], ["3", "5"]
    space = flat_space("t", {"a": wide, "b": narrow, "c": ["x", "y"], "d": wide})
    assert kinds_of_choices(space) == ((0, 1, 3), (2,))
    counts = operator_counts(space, np.array([[1, 0, 1, 2], [0, 1, 0, 0]], dtype=np.int16))
    assert counts.tolist() == [[0, 2, 1], [2, 0, 1]]
    assert operator_counts_names(space) == ("a and 2 more: skip", "a and 2 more: 3", "a and 2 more: 5")


def test_names_tell_what_a_pair_is() -> None:
    space = flat_space("t", {"a": ["x", "y"], "b": ["1"]})
    assert pairwise_names(space) == ("a=x & b=1", "a=y & b=1")
    assert pairwise(space, np.array([[1, 0]], dtype=np.int16)).tolist() == [[0, 1]]
    assert one_hot_names(space) == ("a=x", "a=y", "b=1")


def test_paths_are_sequences_of_operators_from_input_to_output() -> None:
    space = cell_space()
    row = space.row({"1.0>1": "conv", "1.0>2": "identity", "1.1>2": "conv"})
    encoded = dict(zip(path_names(space), path_encoding(space, row[None])[0].tolist(), strict=True))
    conv = "conv(kernel=3)"
    where = cell_paths(space)[0].where
    assert {name: count for name, count in encoded.items() if count} == {
        f"{where}: -": 1,
        f"{where}: {conv} > {conv}": 1,
    }


def test_parallel_paths_of_one_sequence_are_counted() -> None:
    space = cell_space()
    row = space.row({"1.0>1": "conv", "1.0>2": "conv", "1.1>2": "identity"})
    assert path_encoding(space, row[None]).max() == 2


def test_cells_that_fold_to_the_same_network_have_the_same_paths() -> None:
    space = cell_space()
    rows = enumerate_rows(space)
    encoded = path_encoding(space, rows)
    digests = [space.network(row).digest for row in rows]
    for digest in set(digests):
        same = encoded[[one == digest for one in digests]]
        assert (same == same[0]).all()
    # An edge that leads nowhere does not matter.
    dead = [space.row({"1.0>1": a, "1.0>2": "conv", "1.1>2": "none"}) for a in ("none", "identity", "conv")]
    assert len(np.unique(path_encoding(space, np.array(dead)), axis=0)) == 1


def test_a_cell_without_a_way_through_has_no_path() -> None:
    space = cell_space()
    row = space.row({"1.0>1": "conv", "1.0>2": "none", "1.1>2": "none"})
    assert isinstance(space.network(row).stages[1], Cell)
    assert not path_encoding(space, row[None]).any()


def test_choices_that_hang_on_an_edge_s_choice_are_part_of_its_paths() -> None:
    nested = {"choose": ["none", {"op": "conv", "kernel": {"choose": [1, 3]}}]}
    space = cell_space({"cell": {"nodes": 2, "edges": nested}})
    encoded = path_encoding(space, enumerate_rows(space))
    assert encoded.tolist() == [[0, 0], [1, 0], [0, 1]]


def test_a_cell_that_is_used_many_times_is_encoded_once_and_other_spaces_have_no_paths() -> None:
    repeated = {"repeat": {"times": 3, "block": {"use": "genotype"}}}
    space = SearchSpace.from_template({"define": {"genotype": CELL}, "network": ["conv", repeated, "classifier"]})
    assert len(cell_paths(space)) == 1
    flat = flat_space("t", {"a": ["x", "y"]})
    assert path_encoding(flat, np.zeros((4, 1), dtype=np.int16)).shape == (4, 0)


def test_cells_with_too_many_ways_are_left_out() -> None:
    space = cell_space({"cell": {"nodes": 6, "edges": {"choose": OPERATORS}}})
    assert MAX_CELLS < 3**15
    assert cell_paths(space) == ()


@pytest.mark.parametrize("encode", [one_hot, pairwise, operator_counts, path_encoding])
def test_no_rows_have_an_encoding_too(encode) -> None:
    space = cell_space()
    assert len(encode(space, np.zeros((0, space.num_choices), dtype=np.int16))) == 0
