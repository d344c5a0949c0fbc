"""The deploy section: its choices, its rules, and which rows ship the same file."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UserError
from nas.locate import resource_folder
from nas.space import SearchSpace, choose, load_space, use
from nas.space.deployed_rows import DeployedRows
from nas.space.deployment import PRECISIONS, Deployment
from nas.space.load import parse_yaml
from nas.space.moves import enumerate_rows, sample
from nas.space.narrowing import narrowed_channels

NETWORK = [
    {"name": "stem", "op": "conv", "channels": choose(16, 32, name="width")},
    {"repeat": {"name": "body", "times": choose(1, 2), "block": {"op": "basic_block"}, "first": {"channels": 48}}},
    choose("identity", {"op": "conv", "channels": 64, "kernel": 1}, name="head"),
    {"op": "classifier"},
]


def space_of(deploy=None, network=NETWORK, **top):
    return SearchSpace.from_template({"network": network, **({} if deploy is None else {"deploy": deploy}), **top})


def complaint(deploy, **top):
    with pytest.raises(UserError) as caught:
        space_of(deploy, **top)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def network(space, **chosen):
    return space.network(space.row({"stem.width": 16, "body.times": 1, "head": "identity"} | chosen))


def test_choices_of_the_section_stand_behind_the_others_and_are_named_after_it():
    precision = {"default": choose("float32", "int8"), "body": choose("float32", "int8")}
    space = space_of({"sparsity": choose(0.0, 0.5), "precision": precision, "width": choose(0.5, 1.0)})
    names = [choice.name for choice in space.choices]
    assert names[-4:] == ["deploy.width", "deploy.precision", "deploy.body.precision", "deploy.sparsity"]
    ordered = {choice.name: choice.ordered for choice in space.choices}
    assert ordered["deploy.width"]
    assert ordered["deploy.sparsity"]
    assert not ordered["deploy.precision"]
    assert space.size == space_of().size * 2**4
    assert space.precisions == ("float32", "int8")


def test_a_value_may_be_plain_or_defined_elsewhere():
    assert network(space_of({"precision": "int8", "width": 0.5})).deployment == Deployment(precision="int8", width=0.5)
    space = space_of({"precision": use("kind")}, define={"kind": choose("int8", "float16")})
    assert [choice.name for choice in space.choices][-1] == "kind"
    assert space.precisions == ("float16", "int8")


def test_a_space_without_the_section_has_the_digests_that_it_had():
    plain, deployed = space_of(), space_of({"precision": choose("float32", "int8"), "width": choose(0.5, 1.0)})
    assert plain.digest != deployed.digest
    chosen = {"stem.width": 32, "body.times": 2, "head": "identity"}
    as_trained = deployed.row(chosen | {"deploy.precision": "float32", "deploy.width": 1.0})
    assert deployed.network(as_trained).digest == plain.network(plain.row(chosen)).digest
    assert deployed.network(as_trained) == plain.network(plain.row(chosen))
    assert plain.undeployed is plain


def test_what_is_built_is_the_space_without_precision_and_sparsity():
    width = {"width": choose(0.5, 1.0)}
    space = space_of({**width, "precision": choose("float32", "int8"), "sparsity": choose(0.0, "2:4")})
    assert space.undeployed.digest == space_of(width).digest
    assert space.undeployed == space_of(width)
    assert space_of({"precision": "int8"}).undeployed.digest == space_of().digest
    rows = sample(space, 30, np.random.default_rng(0))
    built = DeployedRows(space).built(rows)
    for row, own in zip(rows, built, strict=True):
        assert space.undeployed.network(own).stages == space.network(row).stages
    assert space.file_columns == (space.num_choices - 2, space.num_choices - 1)


def test_the_width_scales_what_is_shipped_and_not_what_is_trained():
    space = space_of({"width": choose(0.5, 1.0)})
    row = space.row({"stem.width": 32, "body.times": 2, "head": "conv", "deploy.width": 0.5})
    shipped, trained = space.network(row), space.trained_network(row)
    assert [stage.parameters.get("channels") for stage in shipped.stages] == [16, 24, None, 32, None]
    assert [stage.parameters.get("channels") for stage in trained.stages] == [32, 48, None, 64, None]
    assert shipped.trained == trained.digest == space.network([1, 1, 1, 1]).digest
    assert shipped.digest not in (trained.digest, "")
    assert shipped.stage_names == ("stem", "body", "body", "head", "3")


def test_slots_resolve_to_what_is_shipped():
    space = load_space(resource_folder("search_spaces") / "mobilenet-tiny-joint.yaml")
    for row in sample(space, 40, np.random.default_rng(1)):
        found = tuple(stage for slot in space.slots if (stage := slot.resolve(row)) is not None)
        assert found == space.network(row).stages


@given(st.integers(1, 4096), st.floats(0.01, 1.0))
def test_narrower_layers_have_multiples_of_eight_channels_and_never_more_than_before(channels, width):
    kept = narrowed_channels(channels, width)
    assert 1 <= kept <= channels
    assert width == 1 or kept % 8 == 0 or kept == channels
    assert width == 1 or abs(kept - channels * width) <= 4 or kept in (8, channels)
    assert kept >= min(8, channels)


@pytest.mark.parametrize("width", [0.5, 0.75])
def test_multiples_of_sixteen_stay_apart_at_usual_widths(width):
    kept = [narrowed_channels(channels, width) for channels in range(16, 1024, 16)]
    assert len(set(kept)) == len(kept)


def test_cells_are_as_wide_as_their_network():
    cell = {"cell": {"nodes": 2, "edges": {"op": "conv", "channels": 32}}}
    space = space_of({"width": choose(0.25, 1.0)}, [cell, {"op": "classifier"}])
    assert [space.network([k]).stages[0].parameters["channels"] for k in (0, 1)] == [8, 32]


def test_rows_share_a_digest_exactly_where_they_ship_the_same_file():
    """Against the definition: the same stages from the same training, each in its precision, with as many zeros."""
    precision = {"default": choose("float32", "int8"), "head": choose("float32", "int8"), "3": "float32"}
    space = space_of({"precision": precision, "width": choose(0.5, 0.6, 1.0), "sparsity": choose(0, 0.5)})
    files = {}
    for row in enumerate_rows(space, limit=1000):
        shipped = space.network(row)
        trained = space.trained_network(row).stages if shipped.stages != space.trained_network(row).stages else ()
        file = repr((shipped.stages, trained, shipped.precisions, shipped.deployment.sparsity))
        files.setdefault(file, set()).add(shipped.digest)
    assert all(len(digests) == 1 for digests in files.values())
    assert len(set.union(*files.values())) == len(files) < space.size


def test_a_stage_that_is_not_there_and_a_width_that_changes_nothing_make_no_other_file():
    space = space_of({"precision": {"head": choose("float32", "int8")}, "width": choose(0.9, 1.0)})
    plain = network(space, **{"deploy.head.precision": "float32", "deploy.width": 1.0})
    for precision, width in product(("float32", "int8"), (0.9, 1.0)):
        same = network(space, **{"deploy.head.precision": precision, "deploy.width": width})
        assert (same.digest == plain.digest) == (same.stages == plain.stages)
    narrow = space_of({"width": choose(0.9, 1.0)}, [{"op": "conv", "channels": 8}, {"op": "classifier"}])
    assert narrow.network([0]) == narrow.network([1])


def test_the_precision_of_each_stage_is_known():
    space = space_of({"precision": {"default": "int8", "stem": "float32", "3": "float32"}})
    mixed = network(space)
    assert mixed.precisions == ("float32", "int8", "float32")
    assert (mixed.deployment.file_precision, mixed.deployment.is_mixed) == ("int8", True)
    assert space_of({"precision": {"body": "int8"}}).precisions == ("float32", "int8")


def test_populations_ask_for_what_their_rows_ask_for():
    precision = {"default": choose("float32", "int8"), "head": "float32", "body": choose("float32", "int8")}
    for deploy in ({"precision": precision, "sparsity": choose(0.0, 0.5, "2:4")}, {"precision": choose(*PRECISIONS)}):
        space = space_of(deploy)
        rows = sample(space, 60, np.random.default_rng(2))
        asked = DeployedRows(space)
        codes, zeros = asked.codes(rows), asked.zeros(rows)
        for row, own, share in zip(rows, codes, zeros, strict=True):
            shipped = space.network(row)
            assert share == shipped.deployment.zeros
            by_name = dict(zip(space.stage_names, np.broadcast_to(own, len(space.stage_names)), strict=True))
            assert shipped.precisions == tuple(PRECISIONS[by_name[name]] for name in shipped.stage_names)


@pytest.mark.parametrize(
    ("deploy", "message"),
    [
        ({"precision": "int16"}, "deploy.precision: no precision named 'int16'"),
        ({"precision": choose("int8", "flaot32")}, "did you mean float32?"),
        ({"width": 0}, "deploy.width: must be a share of the channels above 0 and at most 1, got 0"),
        ({"width": choose(0.5, True)}, "got True"),
        ({"width": 1.5}, "got 1.5"),
        ({"sparsity": 1.0}, 'deploy.sparsity: must be a share of the weights of at least 0 and below 1, or "2:4"'),
        ({"sparsity": "1:4"}, "got '1:4'"),
        ({"sparsity": 124}, "YAML reads 2:4 as the number 124"),
        ({"bits": 8}, "deploy: has no key 'bits'; Known: precision, width, sparsity"),
        ({"precision": {"default": "int8", "stage9": "float32"}}, "deploy.precision.stage9: no stage named 'stage9'"),
        ({"precision": {"default": "int8", "body": "float16"}}, "must be float32, or the one other precision"),
        ({"precision": {"default": choose("int8", "int4"), "body": "int8"}}, "got int4, int8"),
        ({"precision": [1, 2]}, "deploy.precision"),
        ("int8", "deploy: must be a mapping with precision, width, sparsity, got 'int8'"),
    ],
)
def test_a_wrong_value_is_one_line_with_place_rule_and_value(deploy, message):
    assert message in complaint(deploy)


def test_an_unquoted_two_of_four_is_what_yaml_makes_of_it():
    assert parse_yaml("sparsity: 2:4", source="x") == {"sparsity": 124}
    assert space_of(parse_yaml('sparsity: "2:4"', source="x")).network([0, 0, 0]).deployment.sparsity == "2:4"


def test_stages_have_no_names_where_the_network_is_no_list():
    hole = choose([{"op": "conv"}, {"op": "classifier"}], [{"op": "classifier"}])
    assert "no stage named 'stem'" in complaint({"precision": {"stem": "int8"}}, network=hole)
    space = space_of({"precision": choose("float32", "int8"), "width": 0.5}, hole)
    assert space.network([0, 1]).precisions == ("int8", "int8")


def test_the_section_of_the_readme_is_a_space():
    text = (Path(resource_folder("search_spaces")) / "README.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "deploy:" in block]
    assert blocks
    for block in blocks:
        assert SearchSpace.from_template(parse_yaml(block, source="README.md")).deploy is not None
