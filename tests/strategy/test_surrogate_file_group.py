"""What the surrogate sees of spaces whose rows say what becomes of a network."""

from __future__ import annotations

import numpy as np

from nas.space.moves import sample
from nas.space.space import SearchSpace
from nas.strategy.surrogate.features import Features, Scaling, features_of, row_features
from nas.strategy.surrogate.process import fit_process

NETWORK = [
    {"op": "conv", "channels": {"choose": [8, 16, 32], "name": "width"}, "kernel": {"choose": [1, 3, 5]}},
    {"op": "conv", "activation": {"choose": ["relu", "silu", "gelu"], "name": "kind"}},
    {"op": "classifier"},
]
PRECISION = {"precision": {"choose": ["float32", "int8"]}}
PLAIN = SearchSpace.from_template({"network": NETWORK})
SPACE = SearchSpace.from_template({"network": NETWORK, "deploy": {**PRECISION, "width": {"choose": [0.5, 1.0]}}})


def test_the_choices_of_the_file_are_a_group_of_their_own() -> None:
    rows = sample(SPACE, 40, np.random.default_rng(0))
    groups, plain = row_features(SPACE, rows), row_features(PLAIN, rows[:, : PLAIN.num_choices])
    assert "file" not in plain
    np.testing.assert_array_equal(groups["options"], plain["options"])
    assert groups["levels"].shape[1] == plain["levels"].shape[1] + 1  # the width belongs to what is built
    # Two rows that differ in precision alone are at a distance of 1.
    other = rows.copy()
    other[:, -1] = 1 - other[:, -1]
    np.testing.assert_allclose(np.square(groups["file"] - row_features(SPACE, other)["file"]).sum(axis=1), 1.0)


def test_figures_of_files_are_no_features_where_rows_choose_them() -> None:
    rows = sample(SPACE, 10, np.random.default_rng(0))
    figures = {name: np.arange(1.0, 11.0) for name in ("macs", "parameters", "size_bytes", "latency_ms.here")}
    assert features_of(SPACE, rows, figures).groups["figures"].shape == (10, 2)
    assert features_of(PLAIN, rows[:, : PLAIN.num_choices], figures).groups["figures"].shape == (10, 4)


def test_a_loss_that_depends_on_the_network_and_its_precision_is_learned() -> None:
    """INT8 costs nothing with one activation and much with another: neither choice tells that alone."""
    rng = np.random.default_rng(0)
    rows = sample(SPACE, 400, rng)
    names = [choice.name for choice in SPACE.choices]
    lost = np.where((rows[:, names.index("1.kind")] == 2) & (rows[:, -1] == 1), 0.3, 0.0)
    accuracy = 0.6 + 0.05 * rows[:, 0] - lost + 0.005 * rng.standard_normal(len(rows))
    features = Features(groups=row_features(SPACE, rows))
    groups = Scaling.of(features)(features)
    process = fit_process([group[:60] for group in groups], accuracy[:60])
    found = process.posterior([group[60:] for group in groups]).mean
    assert np.corrcoef(found, accuracy[60:])[0, 1] > 0.97
