"""What brings an operator in, from layers that have it and layers that do not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nas.deploy.targets.causes import Placed, causes

VALUES = {"activation": ["relu", "hardswish"], "squeeze_excite": [False, True], "kernel": [1, 3, 5]}


def layer(op: str = "block", *, affected: bool, choices: dict[str, str] | None = None, **parameters: object) -> Placed:
    return Placed(op=op, parameters=parameters, affected=affected, where="network[1]", choices=choices or {})  # type: ignore[arg-type]


def said(*layers: Placed) -> list[str]:
    return [str(cause) for cause in causes(layers)]


def test_an_operator_in_every_layer_is_the_layers_own() -> None:
    assert said(layer(affected=True, kernel=3), layer(affected=True, kernel=5)) == ["every block"]


def test_one_parameter_that_decides_is_named_with_the_choice_that_gave_it() -> None:
    found = causes(
        [
            layer(affected=True, activation="hardswish", kernel=3, choices={"a.activation": "hardswish"}),
            layer(affected=True, activation="hardswish", kernel=5, choices={"b.act": "hardswish", "depth": "3"}),
            layer(affected=False, activation="relu", kernel=3, choices={"a.activation": "relu"}),
            layer(affected=False, activation="relu", kernel=5, choices={"depth": "2"}),
        ]
    )
    assert [str(cause) for cause in found] == ["block with activation hardswish"]
    assert found[0].choices == ("a.activation",)
    assert found[0].where == ("network[1]",)


def test_either_of_two_parameters_gives_two_causes() -> None:
    layers = [
        layer(affected=gate or act == "hardswish", activation=act, squeeze_excite=gate)
        for act in ("relu", "hardswish")
        for gate in (False, True)
    ]
    assert sorted(said(*layers)) == ["block with activation hardswish", "block with squeeze_excite true"]


def test_two_parameters_that_decide_together_are_told_together() -> None:
    layers = [
        layer(affected=gate and act == "hardswish", activation=act, squeeze_excite=gate, kernel=kernel)
        for act in ("relu", "hardswish")
        for gate in (False, True)
        for kernel in (3, 5)
    ]
    (text,) = said(*layers)
    assert text in (
        "block with activation hardswish and squeeze_excite true",
        "block with squeeze_excite true and activation hardswish",
    )


def test_what_parameters_do_not_decide_is_told_as_that() -> None:
    assert said(layer(affected=True, kernel=3), layer(affected=False, kernel=3)) == ["some block"]


def test_a_flag_is_no_count() -> None:
    assert said(layer(affected=True, times=True), layer(affected=False, times=1)) == ["block with times true"]


def test_nothing_affected_has_no_cause() -> None:
    assert said(layer(affected=False, kernel=3)) == []


@given(
    st.lists(
        st.tuples(*(st.sampled_from(options) for options in VALUES.values()), st.booleans()), min_size=1, max_size=12
    )
)
def test_conditions_hold_for_affected_layers_only_and_all_affected_layers_are_explained(rows: list[tuple]) -> None:
    layers = [layer(affected=row[-1], **dict(zip(VALUES, row, strict=False))) for row in rows]
    found = causes(layers)
    assert bool(found) == any(one.affected for one in layers)
    explained = set()
    for cause in found:
        having = [one for one in layers if all(one.parameters[name] == value for name, value in cause.conditions)]
        if cause.always:
            assert all(one.affected for one in having)
        explained |= {id(one) for one in having}
    assert all(id(one) in explained for one in layers if one.affected)
