"""Checking a space before a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nas.errors import UserError
from nas.model.check import check_space
from nas.space.load import load_space
from nas.space.space import SearchSpace

SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))


def check(*stages: Any, shape: tuple[int, int, int] = (3, 8, 8), **options: Any) -> None:
    template = {"name": "s", "network": [*stages, {"op": "classifier"}]}
    check_space(SearchSpace.from_template(template, source="mine.yaml"), input_shape=shape, num_classes=10, **options)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_shipped_spaces_are_right(path: Path) -> None:
    check_space(load_space(path), input_shape=(1, 8, 8), num_classes=10)


def test_a_wrong_option_deep_in_a_conditional_part_is_found() -> None:
    inner = {"op": "conv", "kernel": {"choose": [3, 5, 0]}}
    nested = {"choose": ["identity", {"sequence": [{"choose": ["identity", inner]}]}]}
    with pytest.raises(UserError, match=r"^mine\.yaml: network\[0\].*\.kernel: must be a whole number .* got 0"):
        check(nested)


def test_a_wrong_operator_on_an_edge_that_reaches_no_output_is_found() -> None:
    cell = {"cell": {"nodes": 3, "edges": {"choose": ["none", "identity", {"op": "avgpool"}]}}}
    with pytest.raises(UserError, match=r"mine\.yaml: .*\.op: no operator named 'avgpool'; did you mean avg_pool\?"):
        check(cell)


def test_a_wrong_parameter_of_the_third_repetition_is_found() -> None:
    block = {"op": "conv", "width": 3}
    with pytest.raises(UserError, match=r"mine\.yaml: .*\.width: no parameter of conv named 'width'"):
        check({"repeat": {"times": {"choose": [0, 3]}, "block": block}})


def test_a_space_of_which_nothing_fits_the_data_is_refused() -> None:
    pool = {"op": "max_pool", "kernel": 2, "stride": {"choose": [1, 2]}}
    with pytest.raises(UserError, match=r"mine\.yaml: network\[1\]\.kernel: cannot take an input of 3x1x1"):
        check(pool, pool, shape=(3, 2, 2))
    check(pool, pool, shape=(3, 4, 4))


def test_a_network_without_classifier_is_refused() -> None:
    space = SearchSpace.from_template({"name": "s", "network": [{"op": "conv", "channels": 4}]}, source="mine.yaml")
    with pytest.raises(UserError, match=r"^mine\.yaml: network.*must end in 10 scores"):
        check_space(space, input_shape=(3, 8, 8), num_classes=10)


def test_a_custom_operator_is_called_before_anything_is_spent() -> None:
    layer = {"op": "torch.nn.Conv2d", "out_channels": 4, "kernel_size": 3}
    check(layer, allow=["torch"])
    with pytest.raises(UserError, match=r"mine\.yaml: network\[0\]\.op: .*unexpected keyword argument 'kernel'"):
        check({**layer, "kernel": 3}, allow=["torch"])
    with pytest.raises(UserError, match=r"must come from an allowed package \(none\), got 'torch\.nn\.Conv2d'"):
        check(layer)
