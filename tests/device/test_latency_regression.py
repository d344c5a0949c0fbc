"""Encodings, regressors and the look-up tables that they are folded into."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.device.encoders import ENCODINGS, Encoder
from nas.device.lookup import Lookup, Term, one_hot_terms, pairwise_terms
from nas.device.regression import REGRESSORS, interleaved_folds, suits
from nas.space.encodings import num_pairwise, one_hot, pairs, pairwise
from nas.space.flat import flat_space
from nas.space.moves import sample
from nas.space.space import SearchSpace

FLAT = flat_space("flat", {f"c{k}": ["a", "b", "c", "d"] for k in range(5)})
CELLS = SearchSpace.from_template(
    {
        "name": "cells",
        "network": [
            {"op": "conv", "channels": {"choose": [8, 16]}},
            {"cell": {"nodes": 3, "edges": {"choose": ["none", "identity", {"op": "conv", "kernel": 3}]}}},
            {"repeat": {"times": {"choose": [1, 2]}, "block": {"op": "conv", "kernel": {"choose": [1, 3]}}}},
            "classifier",
        ],
    }
)


@settings(max_examples=50, deadline=None)
@given(widths=st.lists(st.integers(1, 7), min_size=1, max_size=9), seed=st.integers(0, 2**32 - 1))
def test_tables_give_what_options_and_pairs_of_them_weigh(widths: list[int], seed: int) -> None:
    space = flat_space("t", {f"c{k}": [str(code) for code in range(width)] for k, width in enumerate(widths)})
    rng = np.random.default_rng(seed)
    single, double = rng.standard_normal(sum(widths)), rng.standard_normal(num_pairwise(space))
    lookup = Lookup.of(space, 1.5, [*one_hot_terms(space, single), *pairwise_terms(space, pairs(space), double)])
    rows = sample(space, 40, rng)
    expected = 1.5 + one_hot(space, rows).astype(float) @ single + pairwise(space, rows).astype(float) @ double
    assert lookup.apply(rows) == pytest.approx(expected, abs=1e-9)


def test_terms_of_the_same_columns_are_added_and_those_of_three_are_looked_up_too() -> None:
    rng = np.random.default_rng(0)
    table, triple = rng.standard_normal((5, 5)), rng.standard_normal((5, 5, 5))
    terms = [
        Term(columns=(1, 3), table=table),
        Term(columns=(1, 3), table=table),
        Term(columns=(0, 2, 4), table=triple),
    ]
    lookup = Lookup.of(FLAT, 0.0, terms)
    assert len(lookup.terms) == 2
    row = np.array([[3, 1, -1, 2, 0]], dtype=np.int16)
    assert lookup.apply(row)[0] == pytest.approx(2 * table[1, 2] + triple[3, -1, 0])


@pytest.mark.parametrize("space", [FLAT, CELLS], ids=["flat", "cells"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("regressor", REGRESSORS)
def test_every_regressor_finds_a_sum_over_options_and_folds_it(
    space: SearchSpace, encoding: str, regressor: str
) -> None:
    encoder = Encoder(space=space)
    if encoding not in encoder.encodings:
        assert encoding == "paths"
        return
    if not suits(regressor, ENCODINGS[encoding], 400):
        return
    rng = np.random.default_rng(0)
    rows, fresh = sample(space, 400, rng), sample(space, 200, rng)
    weights = rng.uniform(1, 3, one_hot(space, rows).shape[1])
    lookup = REGRESSORS[regressor](encoder, ENCODINGS[encoding], rows, one_hot(space, rows) @ weights)
    true = one_hot(space, fresh) @ weights
    assert (
        np.abs(lookup.apply(fresh) - true).mean() < (0.1 if regressor == "boosted trees" else 0.01) * np.std(true) * 3
    )


def test_pairs_are_found_where_options_alone_do_not_tell() -> None:
    encoder = Encoder(space=FLAT)
    rng = np.random.default_rng(0)
    rows, fresh = sample(FLAT, 600, rng), sample(FLAT, 200, rng)
    target = lambda p: ((p[:, 0] == 1) & (p[:, 1] == 2)) * 4.0 + (p[:, 3] == 0)  # noqa: E731
    for regressor, parts in (("ridge", "pairwise"), ("Gaussian process", "pairwise"), ("boosted trees", "one-hot")):
        lookup = REGRESSORS[regressor](encoder, ENCODINGS[parts], rows, target(rows))
        assert np.abs(lookup.apply(fresh) - target(fresh)).mean() < 0.1
    alone = REGRESSORS["ridge"](encoder, ENCODINGS["one-hot"], rows, target(rows))
    assert np.abs(alone.apply(fresh) - target(fresh)).mean() > 0.3


def test_a_flat_space_has_no_paths_and_a_wide_one_no_pairs() -> None:
    assert Encoder(space=FLAT).encodings == ("one-hot", "operator counts", "pairwise")
    wide = flat_space("wide", {f"c{k}": [str(code) for code in range(9)] for k in range(22)})
    assert Encoder(space=wide).encodings == ("one-hot", "operator counts")
    assert "paths" in Encoder(space=CELLS).encodings


def test_folds_are_disjoint_complete_and_the_same_each_time() -> None:
    folds = interleaved_folds(23, 5)
    assert sorted(np.concatenate(folds).tolist()) == list(range(23))
    assert all(np.array_equal(a, b) for a, b in zip(folds, interleaved_folds(23, 5), strict=True))


def test_a_million_rows_take_less_than_a_second_even_with_every_pair_of_twenty_two_choices() -> None:
    space = flat_space("t", {f"c{k}": [str(code) for code in range(9)] for k in range(22)})
    rng = np.random.default_rng(0)
    lookup = Lookup.of(space, 0.0, pairwise_terms(space, pairs(space), rng.standard_normal(num_pairwise(space))))
    rows = sample(space, 1_000_000, rng)
    lookup.apply(rows[:1])

    def seconds() -> float:
        started = time.process_time()
        lookup.apply(rows)
        return time.process_time() - started

    assert min(seconds() for _ in range(3)) < 1.0
