import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UserError
from nas.space.flat import FLAT_OPERATOR, flat_space
from nas.space.moves import enumerate_rows, is_canonical, mutate, neighbours, sample

LABELS = {"first": ["skip", "conv"], "second.kernel": ["3", "5", "7"], "third": ["skip", "conv"]}


def test_all_combinations_are_rows_and_each_has_a_digest_of_its_own() -> None:
    space = flat_space("table", LABELS)
    rows = enumerate_rows(space)
    assert space.size == len(rows) == 12
    assert len({space.network(row).digest for row in rows}) == 12
    assert space.architecture(rows[-1]).choices == {"first": "conv", "second.kernel": "7", "third": "conv"}


def test_each_choice_is_a_slot_that_resolves_to_its_label() -> None:
    space = flat_space("table", LABELS)
    assert [slot.choices for slot in space.slots] == [(0,), (1,), (2,)]
    layer = space.slots[1].resolve(np.array([0, 2, 0]))
    assert (layer.op, layer.parameters) == (FLAT_OPERATOR, {"choice": "second.kernel", "option": "7"})


def test_rows_go_through_labels_and_moves_like_those_of_any_space() -> None:
    space = flat_space("table", LABELS)
    rng = np.random.default_rng(0)
    rows = sample(space, 50, rng)
    assert is_canonical(space, mutate(space, rows, rng)).all()
    assert len(neighbours(space, rows[0])) == 1 + 2 + 1
    assert space.row({"first": "conv", "second.kernel": "3", "third": "skip"}).tolist() == [1, 0, 0]


@given(widths=st.lists(st.integers(1, 9), min_size=1, max_size=22))
def test_the_size_is_the_product_of_the_widths(widths: list[int]) -> None:
    space = flat_space("t", {f"c{k}": [str(code) for code in range(width)] for k, width in enumerate(widths)})
    assert space.size == np.prod([float(width) for width in widths])


def test_the_digest_tells_names_and_labels_apart_but_not_descriptions() -> None:
    space = flat_space("table", LABELS)
    assert flat_space("other", LABELS, description="same") == space
    assert flat_space("table", LABELS | {"third": ["conv", "skip"]}) != space
    assert flat_space("table", {"a": ["x"], "b": ["x"]}) != flat_space("table", {"a": ["x"], "c": ["x"]})


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({}, "at least one choice, got none"),
        ({"a": []}, "at least one label for 'a', got none"),
        ({"a": ["x", "y", "x"]}, "each label of 'a' once, got 'x' twice"),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_line(choices: dict[str, list[str]], reason: str) -> None:
    with pytest.raises(UserError, match=f"^space t: must have {reason}"):
        flat_space("t", choices)
