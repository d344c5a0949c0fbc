import itertools
import pickle

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from space_templates import templates

from nas.errors import UserError
from nas.space import Layer, SearchSpace, choose, use
from nas.space.encodings import one_hot, one_hot_names, ordinal, ordinal_names
from nas.space.moves import canonical, crossover, enumerate_rows, is_canonical, mutate, neighbours, sample
from nas.space.template import stages_at


def operators(stage):
    """What a folded stage does, as plain data; a cell that is a chain is the operators of the chain."""
    if isinstance(stage, Layer):
        return [(stage.op, sorted(stage.parameters.items()))]
    edges = [(edge.source, edge.target, *operators(edge.layer)) for edge in stage.edges]
    if [edge[:2] for edge in edges] == [(k, k + 1) for k in range(stage.num_nodes - 1)]:
        return [edge[2] for edge in edges]
    return [edges]


seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=200, deadline=None)

NESTED = SearchSpace.from_template(
    {
        "network": [
            {"repeat": {"name": "body", "times": choose(1, 2, 3), "block": {"op": "conv", "kernel": choose(3, 5, 7)}}},
            {"choose": ["identity", {"op": "conv", "channels": choose(8, 16)}], "name": "head"},
        ]
    }
)


@few
@given(templates(), seeds)
def test_sampled_rows_are_canonical(template, seed):
    space = SearchSpace.from_template(template)
    rows = sample(space, 20, np.random.default_rng(seed))
    assert rows.shape == (20, space.num_choices)
    assert rows.dtype == np.int16
    assert is_canonical(space, rows).all()


@few
@given(templates(), seeds, st.sampled_from([None, 0.01, 0.5, 1.0]))
def test_mutation_changes_an_active_choice_and_stays_canonical(template, seed, rate):
    space = SearchSpace.from_template(template)
    rng = np.random.default_rng(seed)
    rows = sample(space, 20, rng)
    changed = mutate(space, rows, rng, rate=rate)
    assert is_canonical(space, changed).all()
    counts = np.array([choice.num_options for choice in space.choices], dtype=int)
    free = ((rows >= 0) & (counts > 1)).any(axis=1)
    active_in_both = (rows >= 0) & (changed >= 0)
    assert np.array_equal(((rows != changed) & active_in_both).any(axis=1), free)


@few
@given(templates(), seeds)
def test_children_are_canonical_and_take_each_choice_from_a_parent(template, seed):
    space = SearchSpace.from_template(template)
    rng = np.random.default_rng(seed)
    a, b = sample(space, 20, rng), sample(space, 20, rng)
    children = crossover(space, a, b, rng)
    assert is_canonical(space, children).all()
    assert ((children == a) | (children == b) | (children == -1)).all()
    assert np.array_equal(crossover(space, a, a, rng), a)


@few
@given(templates(), seeds)
def test_neighbours_are_all_rows_at_one_decision(template, seed):
    space = SearchSpace.from_template(template)
    row = sample(space, 1, np.random.default_rng(seed))[0]
    near = neighbours(space, row)
    active = [choice for choice, option in zip(space.choices, row, strict=True) if option >= 0]
    assert near.shape == (sum(choice.num_options - 1 for choice in active), space.num_choices)
    assert is_canonical(space, near).all()
    assert len({tuple(other) for other in near} | {tuple(row)}) == len(near) + 1
    for other in near:
        differing = [k for k in np.flatnonzero(other != row) if other[k] >= 0 and row[k] >= 0]
        assert len(differing) == 1


@few
@given(templates())
def test_the_size_is_the_number_of_distinct_rows(template):
    space = SearchSpace.from_template(template)
    assume(space.size <= 5000)
    rows = enumerate_rows(space, limit=5000)
    assert len({tuple(row) for row in rows}) == len(rows) == space.size
    assert is_canonical(space, rows).all()
    assert [tuple(row) for row in rows] == sorted(tuple(row) for row in rows)


@few
@given(templates(), seeds)
def test_readable_choices_lead_back_to_the_row(template, seed):
    space = SearchSpace.from_template(template)
    for row in sample(space, 5, np.random.default_rng(seed)):
        architecture = space.architecture(row)
        assert architecture.row == tuple(row)
        assert np.array_equal(space.row(architecture.choices), row)


@few
@given(templates(), seeds)
def test_slots_together_are_the_network(template, seed):
    space = SearchSpace.from_template(template)
    rng = np.random.default_rng(seed)
    for row in sample(space, 5, rng):
        resolved = tuple(stage for slot in space.slots if (stage := slot.resolve(row)) is not None)
        network = space.network(row)
        assert resolved == network.stages
        assert space.input_resolution.resolve(row) == network.resolution


@few
@given(templates(), seeds)
def test_a_slot_looks_at_its_own_choices_only(template, seed):
    space = SearchSpace.from_template(template)
    rng = np.random.default_rng(seed)
    row = sample(space, 1, rng)[0]
    for slot in space.slots:
        noise = np.full_like(row, 9999)
        noise[list(slot.choices)] = row[list(slot.choices)]
        assert slot.resolve(noise) == slot.resolve(row)


@few
@given(templates(), seeds)
def test_inactive_choices_never_influence_the_network(template, seed):
    space = SearchSpace.from_template(template)
    rng = np.random.default_rng(seed)
    row = sample(space, 1, rng)[0]
    noise = np.where(row < 0, 9999, row)  # an option that nothing has: looking at it raises
    assert tuple(stages_at(space._stages, noise)) == space.network(row, fold=False).stages


@few
@given(templates(), seeds)
def test_digests_are_equal_exactly_where_folded_networks_are(template, seed):
    space = SearchSpace.from_template(template)
    networks = [space.network(row) for row in sample(space, 12, np.random.default_rng(seed))]
    forms = [str([network.resolution, *itertools.chain(*map(operators, network.stages))]) for network in networks]
    for one, form in zip(networks, forms, strict=True):
        for other, other_form in zip(networks, forms, strict=True):
            assert (one.digest == other.digest) == (form == other_form)


@few
@given(templates(), seeds)
def test_canonical_undoes_what_was_written_into_inactive_choices(template, seed):
    space = SearchSpace.from_template(template)
    rng = np.random.default_rng(seed)
    rows = sample(space, 10, rng)
    assert np.array_equal(canonical(space, rows), rows)
    noise = np.where(rows < 0, 0, rows)
    assert np.array_equal(canonical(space, noise), rows)
    assert np.array_equal(is_canonical(space, noise), (noise == rows).all(axis=1))


@few
@given(templates(), seeds)
def test_one_hot_has_a_one_for_each_active_choice(template, seed):
    space = SearchSpace.from_template(template)
    rows = sample(space, 10, np.random.default_rng(seed))
    encoded = one_hot(space, rows)
    assert encoded.dtype == np.float32
    assert encoded.shape[1] == len(one_hot_names(space)) == len(set(one_hot_names(space)))
    assert np.array_equal(encoded.sum(axis=1), (rows >= 0).sum(axis=1))
    decoded = [{name for name, on in zip(one_hot_names(space), line, strict=True) if on} for line in encoded]
    for names, row in zip(decoded, rows, strict=True):
        assert names == {f"{name}={label}" for name, label in space.architecture(row).choices.items()}
    scaled = ordinal(space, rows)
    assert scaled.dtype == np.float32
    assert scaled.shape == (10, len(ordinal_names(space)))
    assert ((scaled >= 0) & (scaled <= 1)).all()


@few
@given(templates())
def test_a_space_survives_pickling_and_is_read_the_same_twice(template):
    space = SearchSpace.from_template(template)
    copy = pickle.loads(pickle.dumps(space))
    assert copy == space == SearchSpace.from_template(template)
    row = sample(space, 1, np.random.default_rng(0))[0]
    assert copy.network(row) == space.network(row)


def test_each_active_choice_is_drawn_uniformly():
    rows = sample(NESTED, 30_000, np.random.default_rng(5))
    for column, choice in enumerate(NESTED.choices):
        values = rows[:, column][rows[:, column] >= 0]
        share = np.bincount(values, minlength=choice.num_options) / len(values)
        # five standard deviations of a binomial share
        assert np.allclose(share, 1 / choice.num_options, atol=5 * 0.5 / np.sqrt(len(values)))


def test_one_choice_changes_on_average_where_no_rate_is_given():
    rows = sample(NESTED, 20_000, np.random.default_rng(5))
    changed = mutate(NESTED, rows, np.random.default_rng(6))
    flips = ((rows != changed) & (rows >= 0) & (changed >= 0)).sum(axis=1)
    # P(no flip) = (1 - 1/k)^k, and such a row gets one: about 1.3 flips, less those that an ancestor switched off
    assert 1.1 < flips.mean() < 1.5


def test_a_rate_of_one_changes_every_choice_that_stays():
    space = SearchSpace.from_template({"network": [{"op": "conv", "kernel": choose(3, 5), "stride": choose(1, 2, 3)}]})
    rows = sample(space, 100, np.random.default_rng(0))
    assert (mutate(space, rows, np.random.default_rng(1), rate=1.0) != rows).all()


def test_a_neighbour_with_more_repetitions_gets_first_options_there():
    row = NESTED.row({"body.times": 1, "body.0.kernel": 7, "head": "identity"})
    longer = [other for other in neighbours(NESTED, row) if other[0] == 2]
    assert [NESTED.architecture(other).choices for other in longer] == [
        {"body.times": "3", "body.0.kernel": "7", "body.1.kernel": "3", "body.2.kernel": "3", "head": "identity"}
    ]


def test_the_size_of_a_nested_space_is_counted_by_hand():
    assert NESTED.size == (3 + 9 + 27) * (1 + 2)


def test_huge_spaces_are_counted_exactly_and_refuse_to_be_listed():
    block = {"op": "conv", "kernel": choose(3, 5, 7)}
    space = SearchSpace.from_template({"network": [{"repeat": {"times": 200, "block": block}}]})
    assert space.size == 3**200
    with pytest.raises(UserError, match="at most 1 000 architectures to be listed"):
        enumerate_rows(space, limit=1000)


def test_the_same_seed_gives_the_same_moves():
    def moves(seed):
        rng = np.random.default_rng(seed)
        rows = sample(NESTED, 50, rng)
        return [rows, mutate(NESTED, rows, rng), crossover(NESTED, rows, rows[::-1], rng)]

    assert all(np.array_equal(a, b) for a, b in zip(moves(3), moves(3), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(moves(3), moves(4), strict=True))


def test_a_space_without_choices_has_one_row():
    space = SearchSpace.from_template({"network": ["identity"]})
    assert space.size == 1
    assert enumerate_rows(space).shape == (1, 0)
    assert neighbours(space, enumerate_rows(space)[0]).shape == (0, 0)
    assert mutate(space, enumerate_rows(space), np.random.default_rng(0)).shape == (1, 0)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4)])
def test_a_population_of_the_wrong_shape_is_refused(shape):
    with pytest.raises(UserError, match=r"must be option indices of shape \(n, 6\)"):
        canonical(NESTED, np.zeros(shape, dtype=int))


def test_an_option_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match=r"must have -1 to 2 for 'body.times', got 3 to 3"):
        canonical(NESTED, np.full((1, 6), 3))


def test_a_definition_is_one_choice_for_all_its_uses():
    space = SearchSpace.from_template(
        {
            "define": {"activation": choose("relu", "silu")},
            "network": [{"repeat": {"times": 3, "block": {"op": "conv", "activation": use("activation")}}}],
        }
    )
    assert [choice.name for choice in space.choices] == ["activation"]
    for row in enumerate_rows(space):
        activations = {layer.parameters["activation"] for layer in space.network(row).stages}
        assert len(activations) == 1
