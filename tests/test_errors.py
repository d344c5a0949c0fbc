from __future__ import annotations

import pickle

import pytest

from nas.errors import UserError, in_file, unknown_name


def test_the_message_is_one_line_of_where_problem_and_advice() -> None:
    error = UserError("budget.latency", "must be a time, got '12 MB'", "give it like '12 ms'")
    assert str(error) == "budget.latency: must be a time, got '12 MB'; give it like '12 ms'"
    assert (error.where, error.problem, error.advice) == (
        "budget.latency",
        "must be a time, got '12 MB'",
        "give it like '12 ms'",
    )


def test_without_advice_the_message_ends_with_the_problem() -> None:
    assert str(UserError("data", "is empty")) == "data: is empty"


def test_a_user_error_is_a_value_error_and_survives_the_way_from_a_worker() -> None:
    copy = pickle.loads(pickle.dumps(UserError("data", "is empty", "add images")))
    assert isinstance(copy, ValueError)
    assert type(copy) is UserError
    assert (copy.where, copy.problem, copy.advice) == ("data", "is empty", "add images")


def test_an_unknown_name_suggests_the_nearest_and_lists_the_known_in_order() -> None:
    error = unknown_name("space", "space", "mobilnet-tiny", ["resnet-tiny", "mobilenet-tiny"], also="or a path")
    assert str(error) == (
        "space: no space named 'mobilnet-tiny'; did you mean mobilenet-tiny? "
        "Known: mobilenet-tiny, resnet-tiny, or a path"
    )


def test_a_name_that_resembles_nothing_gets_no_suggestion() -> None:
    error = unknown_name("device", "device", "zzz", ["pixel-3"])
    assert error.advice == "Known: pixel-3"


def test_with_nothing_known_it_says_none() -> None:
    assert unknown_name("device", "device", 3, []).advice == "Known: none"


@pytest.mark.parametrize(("key", "expected"), [("network[2].kernel", "a.yaml: network[2].kernel"), ("", "a.yaml")])
def test_a_key_in_a_file_is_shown_behind_the_file(key: str, expected: str) -> None:
    assert in_file("a.yaml", key) == expected
