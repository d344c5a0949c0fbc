import datetime
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from space_templates import random_template

from nas.errors import UserError
from nas.space import Cell, SearchSpace, choose, use

CONV = {"op": "conv", "kernel": choose(3, 5)}


def space_of(*stages, **top):
    return SearchSpace.from_template({"network": list(stages), **top})


def names_of(*stages, **top):
    return [choice.name for choice in space_of(*stages, **top).choices]


def complaint(*stages, **top):
    with pytest.raises(UserError) as caught:
        space_of(*stages, **top)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_choice_is_named_after_where_it_stands():
    assert names_of("identity", CONV) == ["1.kernel"]
    assert names_of({"name": "stem", **CONV}) == ["stem.kernel"]
    assert names_of([CONV, CONV]) == ["0.0.kernel", "0.1.kernel"]
    assert names_of({"sequence": [CONV], "name": "trunk"}) == ["trunk.0.kernel"]
    assert names_of({"repeat": {"name": "body", "times": 2, "block": CONV}}) == ["body.0.kernel", "body.1.kernel"]
    assert names_of({"cell": {"name": "cell", "nodes": 2, "edges": CONV}}) == ["cell.0>1.kernel"]
    assert names_of({"use": "part"}, define={"part": CONV}) == ["part.kernel"]
    assert names_of(input={"resolution": choose(8, 16)}) == ["resolution"]
    assert names_of({"op": "conv", "dilation": [choose(1, 2), 3]}) == ["0.dilation.0"]


def test_an_explicit_name_takes_the_place_of_a_key_or_an_index():
    assert names_of({"op": "conv", "kernel": choose(3, 5, name="size")}) == ["0.size"]
    assert names_of(choose("identity", "conv", name="head")) == ["head"]
    repeat = {"repeat": {"name": "body", "times": choose(1, 2, name="depth"), "block": choose("conv", name="kind")}}
    assert names_of(repeat) == ["body.depth", "body.0.kind", "body.1.kind"]


def test_choices_in_an_option_carry_its_label_and_are_active_only_there():
    space = space_of(choose("identity", {"label": "wide one", **CONV}, {"label": "thin", **CONV, "stride": 2}))
    assert [choice.name for choice in space.choices] == ["0", "0.option1.kernel", "0.thin.kernel"]
    assert [(choice.parent, choice.when) for choice in space.choices] == [
        (None, frozenset()),
        (0, frozenset({1})),
        (0, frozenset({2})),
    ]
    assert space.size == 1 + 2 + 2


def test_repetitions_are_active_where_they_are_asked_for():
    space = space_of({"repeat": {"times": choose(3, 0, 1), "block": CONV}})
    assert [sorted(choice.when) for choice in space.choices] == [[], [0, 2], [0], [0]]
    assert space.size == 8 + 1 + 2


def test_repetitions_that_always_stand_hang_on_nothing():
    space = space_of({"repeat": {"times": choose(1, 2), "block": CONV}})
    assert [choice.parent for choice in space.choices] == [None, None, 0]


def test_first_sets_parameters_of_the_first_repetition_once_for_all_options():
    block = choose({"op": "conv", "stride": choose(1, 2)}, {"op": "depthwise"})
    first = {"stride": choose(2, 4), "channels": 8}
    space = space_of({"repeat": {"name": "body", "times": 2, "block": block, "first": first}})
    assert [choice.name for choice in space.choices] == ["body.stride", "body.0", "body.1", "body.1.conv.stride"]
    chosen = {"body.stride": 4, "body.0": "conv", "body.1": "conv", "body.1.conv.stride": 1}
    stages = space.network(space.row(chosen)).stages
    assert [stage.parameters for stage in stages] == [{"stride": 4, "channels": 8}, {"stride": 1}]


def test_a_definition_that_counts_repetitions_inside_an_option_keeps_one_parent():
    repeat = {"repeat": {"times": use("depth"), "block": CONV}}
    space = space_of(
        choose("identity", repeat),
        use("depth_again"),
        define={
            "depth": choose(1, 2),
            "depth_again": {"repeat": {"times": use("depth"), "block": CONV}},
        },
    )
    conditions = {choice.name: (choice.parent, sorted(choice.when)) for choice in space.choices}
    assert conditions["0.repeat.1.kernel"] == (0, [1])
    assert conditions["depth_again.1.kernel"] == (1, [1])


def test_options_keep_their_values_and_get_labels():
    space = space_of(
        {"op": "conv", "a": choose(3, 5), "b": choose(True, 1.5, "x"), "c": choose(use("v"), [1, 2])},
        define={"v": choose(1, 2)},
    )
    by_name = {choice.name: choice for choice in space.choices}
    assert (by_name["0.a"].options, by_name["0.a"].labels, by_name["0.a"].ordered) == ((3, 5), ("3", "5"), True)
    assert (by_name["0.b"].options, by_name["0.b"].labels) == ((True, 1.5, "x"), ("true", "1.5", "x"))
    assert not by_name["0.b"].ordered
    assert (by_name["0.c"].options, by_name["0.c"].labels) == (("v", (1, 2)), ("v", "[1,2]"))


def test_operators_of_one_kind_are_told_apart_by_their_parameters():
    space = space_of(choose("identity", {"op": "conv", "kernel": 1}, {"op": "conv", "kernel": 3}))
    assert space.choices[0].labels == ("identity", "conv(kernel=1)", "conv(kernel=3)")


def test_values_may_carry_labels():
    space = space_of({"op": "conv", "channels": choose({"label": "thin", "value": 8}, {"label": "wide", "value": 64})})
    assert (space.choices[0].options, space.choices[0].labels) == ((8, 64), ("thin", "wide"))
    assert space.network(space.row({"0.channels": 64})).stages[0].parameters == {"channels": 64}


def test_edges_come_by_target_then_source_and_unlisted_pairs_are_absent():
    space = space_of({"cell": {"nodes": 3, "edges": {"1>2": "conv", "0>1": "conv"}}})
    (cell,) = space.network([], fold=False).stages
    assert isinstance(cell, Cell)
    assert [(edge.source, edge.target) for edge in cell.edges] == [(0, 1), (1, 2)]
    assert names_of({"cell": {"nodes": 3, "edges": CONV}}) == ["0.0>1.kernel", "0.0>2.kernel", "0.1>2.kernel"]


def test_a_whole_network_may_be_a_hole():
    space = SearchSpace.from_template({"network": choose(["conv"], ["conv", CONV])})
    assert [choice.name for choice in space.choices] == ["network", "network.option1.1.kernel"]
    assert space.size == 3


def test_numpy_numbers_and_tuples_are_plain_values():
    space = space_of({"op": "conv", "kernel": choose(*np.array([3, 5])), "dilation": (np.int64(1), 2)})
    assert space.choices[0].options == (3, 5)
    assert type(space.choices[0].options[0]) is int
    assert space.network([0]).stages[0].parameters["dilation"] == (1, 2)


def test_the_digest_is_that_of_the_template_not_of_its_names_and_spelling():
    plain = space_of("conv", CONV)
    assert plain.digest == space_of({"op": "conv"}, CONV, name="other", description="text").digest
    assert plain.digest != space_of("conv", {"op": "conv", "kernel": choose(5, 3)}).digest
    assert plain.digest != space_of("conv", CONV, "identity").digest
    assert plain == space_of("conv", CONV)
    assert len({plain, space_of("conv", CONV)}) == 1


def test_a_row_is_read_from_labels_values_and_table_cells():
    space = space_of(choose("identity", CONV, name="head"), {"op": "se", "on": choose(False, True), "e": choose(1, 6)})
    row = space.row({"head": "conv", "head.conv.kernel": 5.0, "1.on": True, "1.e": "6"})
    assert row.tolist() == [1, 1, 1, 1]
    assert space.row({"head": "identity", "head.conv.kernel": float("nan"), "1.on": "false", "1.e": 1}).tolist() == [
        0, -1, 0, 0,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"haed": "conv"}, "no choice named 'haed'; did you mean head?"),
        ({"head": "conw"}, "no option named 'conw'; did you mean conv?"),
        ({"head": "conv"}, "must have a value for 'head.conv.kernel', got none; one of 3, 5"),
        ({"head": "conv", "head.conv.kernel": True}, "no option named 'True'"),
        ({"head": "identity", "head.conv.kernel": 3}, "which 'head' switches off, got 3"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(choices, message):
    space = space_of(choose("identity", CONV, name="head"))
    with pytest.raises(UserError) as caught:
        space.row(choices)
    assert message in str(caught.value)


@pytest.mark.parametrize("row", [[0, 0], [1, -1], [2, 0], [0], [0.0, -1.0]])
def test_a_row_that_is_not_canonical_is_refused(row):
    space = space_of(choose("identity", CONV, name="head"))
    with pytest.raises(UserError, match=r"^row of unnamed: "):
        space.network(row)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"choose": []}, "network[0].choose: must have 1 to 1000 options, got 0"),
        ({"choose": "conv"}, "network[0].choose: must be a list of options, got 'conv'"),
        (choose("conv", "conv"), "network[0].choose[1]: must differ from the other options, got option 0 again"),
        (choose({"op": "a", "k": 1}, {"k": 1, "op": "a"}), "choose[1]: must differ"),
        (choose({"label": "x", "op": "a"}, {"label": "x", "op": "b"}), "must have a label of its own, got 'x' again"),
        ({"choose": ["conv"], "kernel": 3}, "network[0]: has no key 'kernel'; Known: choose, name"),
        ({"chose": ["conv"]}, "did you mean choose?"),
        ({"op": "conv", "choose": []}, "network[0]: must be one kind of stage, got the keys op and choose"),
        ({"op": 3}, "network[0].op: must be the name of an operator or an import path"),
        ({"op": "my module"}, "must be the name of an operator"),
        ({"op": "conv", 3: 3}, "network[0]: must have names of parameters as keys, got 3"),
        ({"op": "conv", "kernel": None}, "network[0].kernel: must be a number, text, true, false, a list"),
        ({"op": "conv", "kernel": {"a": 1}}, "network[0].kernel: must be a value, {choose: [...]} or {use: name}"),
        ({"op": "conv", "kernel": float("nan")}, "network[0].kernel: must be finite, got nan"),
        ({"op": "conv", "kernel": 10**30}, "must be a whole number up to 2**53, got a very large number"),
        ({"op": "conv", "since": datetime.date(2020, 1, 1)}, "must be a number, text"),
        ({"op": "conv", "label": "x"}, "network[0].label: must not stand here"),
        ({"op": "conv", "name": "a b"}, "network[0].name: must be a name"),
        (None, "network[0]: must be an operator, a list of stages or a mapping with one of op, sequence"),
        (3, "got 3"),
        ("none", "must not be 'none', which only the edges of a cell can be; use 'identity'"),
        ({"op": choose("identity", "conv"), "kernel": 3}, "because 'identity' takes none, got kernel"),
        ({"repeat": 3}, "network[0].repeat: must be a mapping with times, block, name, first, got 3"),
        ({"repeat": {"times": 2}}, "network[0].repeat: must have the key 'block'"),
        ({"repeat": {"times": 2, "blok": "conv"}}, "has no key 'blok'; did you mean block?"),
        ({"repeat": {"times": 10**6, "block": "conv"}}, "repeat.times: must be a whole number from 0 to 200"),
        ({"repeat": {"times": True, "block": "conv"}}, "got True"),
        ({"repeat": {"times": choose(1, choose(2, 3)), "block": "conv"}}, "one {choose: [...]} of such"),
        ({"repeat": {"times": 0, "block": "conv"}}, "must be above 0 in one option at least"),
        ({"repeat": {"times": 2, "block": ["conv"], "first": {"a": 1}}}, "where 'first' sets parameters, got a list"),
        ({"repeat": {"times": 2, "block": "identity", "first": {"a": 1}}}, "because 'identity' takes none, got a"),
        ({"repeat": {"times": 2, "block": "conv", "first": {"op": "a"}}}, "repeat.first.op: must not stand here"),
        ({"repeat": {"times": 2, "block": "conv", "first": 3}}, "repeat.first: must be a mapping"),
        ({"cell": {"nodes": 1, "edges": "conv"}}, "cell.nodes: must be a whole number from 2 to 12, got 1"),
        ({"cell": {"nodes": 3, "edges": {"1>0": "conv"}}}, "from a lower to a higher node below 3, got '1>0'"),
        ({"cell": {"nodes": 3, "edges": {"0>3": "conv"}}}, "below 3, got '0>3'"),
        ({"cell": {"nodes": 3, "edges": {"0>1": ["conv"]}}}, "must be one operator (or a hole of operators), got a"),
        ({"cell": {"nodes": 3, "edges": {"00>1": "conv", "0>1": "conv"}}}, "must have each edge once"),
        ({"use": "part"}, "network[0].use: no definition named 'part'; Known: none"),
        ({"use": ["part"]}, "network[0].use: no definition named"),
    ],
)
def test_a_broken_rule_is_told_with_key_and_value(stage, message):
    text = complaint(stage)
    assert text.startswith("<python>: network[0]")
    assert message in text


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ({"define": {"a": "conv"}}, "define.a: must be used somewhere"),
        ({"define": ["a"]}, "define: must be a mapping from names to templates"),
        ({"define": {3: "a"}}, "define: must have names"),
        ({"input": {"resolution": "big"}}, "input.resolution: must be pixels"),
        ({"input": {"resolution": 0}}, "input.resolution: must be above 0 and at most 4096 pixels, got 0"),
        ({"input": {"resolution": choose(1.0, 17.0)}}, "at most 16 times the data's resolution, got 17.0"),
        ({"input": {"size": 3}}, "input: has no key 'size'"),
        ({"netwrok": []}, "<python>: has no key 'netwrok'; did you mean network?"),
        ({"name": "a b"}, "name: must be a name"),
        ({"description": 3}, "description: must be text, got 3"),
    ],
)
def test_a_broken_top_level_is_told_with_key_and_value(top, message):
    assert message in complaint("conv", **top)


def test_definitions_must_not_lead_back_to_themselves():
    assert "got a -> b -> a" in complaint(use("a"), define={"a": [use("b")], "b": [use("a")]})


def test_a_definition_is_of_one_kind():
    text = complaint(use("a"), {"op": use("a")}, define={"a": choose("conv", "depthwise")})
    assert "network[1].op.use: must use the definition 'a' as a stage everywhere, got it as a value" in text


def test_two_choices_of_one_name_are_refused():
    text = complaint({"name": "a", **CONV}, {"name": "a", **CONV})
    assert "network[1].kernel: must have a name of its own, but 'a.kernel' is also at network[0].kernel" in text


def test_absurd_sizes_are_refused_quickly():
    deep = "conv"
    for _ in range(500):
        deep = [deep]
    assert "must be nested at most 40 deep" in complaint(deep)
    wide = CONV
    for _ in range(3):
        wide = {"repeat": {"times": 200, "block": wide}}
    assert "must not be one of more than 2000 choices" in complaint(wide)
    bomb = ["conv"]
    for _ in range(30):
        bomb = [bomb, bomb]
    assert "must have at most 20000 parts" in complaint(bomb)
    doubling = {f"d{k}": [use(f"d{k + 1}")] * 8 for k in range(10)} | {"d10": "conv"}
    assert "must have at most 20000 parts" in complaint(use("d0"), define=doubling)
    late = {f"d{k}": [use(f"d{k + 1}")] for k in range(100)} | {"d100": "conv"}
    assert "nested at most 40 deep" in complaint(*(use(f"d{k}") for k in range(100, -1, -1)), define=late)
    loop = []
    loop.append(loop)
    assert "must be nested at most 40 deep" in complaint(loop)
    mapping = {"op": "conv"}
    mapping["kernel"] = choose(3, mapping)
    assert "network[0].kernel.choose[1]" in complaint(mapping)


WORDS = ["op", "network", "choose", "use", "define", "repeat", "times", "block", "first", "cell", "nodes", "edges"]
WORDS += ["sequence", "name", "label", "value", "input", "resolution", "conv", "identity", "none", "0>1", "a"]
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(WORDS)
    | st.dates()
    | st.binary(max_size=2)
    | st.integers(10**20, 10**21)
)
GARBAGE = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(WORDS) | st.integers() | st.none(), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(GARBAGE)
def test_garbage_never_gives_anything_but_a_user_error(garbage):
    for template in (garbage, {"network": garbage}, {"network": [{"op": "conv", "kernel": garbage}]}):
        assert "\n" not in outcome(template)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**40), st.randoms(use_true_random=False), ATOMS)
def test_a_damaged_template_never_gives_anything_but_a_user_error(seed, rng, atom):
    template = random_template(seed)
    places = list(_places(template))
    holder, key = rng.choice(places)
    if rng.random() < 0.5:
        holder[key] = atom
    elif isinstance(holder, dict):
        holder[str(rng.choice(WORDS))] = holder.pop(key)
    else:
        holder.insert(key, rng.choice(WORDS))
    assert "\n" not in outcome(template)


def outcome(template):
    try:
        SearchSpace.from_template(template)
    except UserError as error:
        return str(error)
    return ""


def _places(raw):
    for key, value in list(raw.items()) if isinstance(raw, dict) else list(enumerate(raw)):
        yield raw, key
        if isinstance(value, dict | list):
            yield from _places(value)


def test_a_template_is_left_as_it_was():
    template = random_template(12345)
    before = json.dumps(template)
    SearchSpace.from_template(template)
    assert json.dumps(template) == before
