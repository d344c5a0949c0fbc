"""Zeros in weights: how many, where, and that they stay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas.errors import UserError
from nas.problem.evaluation import Fidelity
from nas.train.compression.sparse_rules import GradualSparsity, KeepZeros
from nas.train.compression.sparsity import masks_of, sparsify
from nas.train.fit import fit
from nas.train.recipe import Recipe


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 24, 1), nn.Flatten(), nn.Linear(24, 10)
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), share=st.floats(0, 0.94), scope=st.sampled_from(["global", "layer"]))
def test_the_smallest_weights_of_a_scope_go_and_exactly_so_many(seed, share, scope):
    module = network(seed)
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    masks = sparsify(module, share, scope=scope)
    assert set(masks.kept) == {"0.weight", "2.weight", "4.weight"}
    kept = {name: before[name][mask].abs() for name, mask in masks.kept.items()}
    gone = {name: before[name][~mask].abs() for name, mask in masks.kept.items()}
    for name, weight in module.named_parameters():
        expected = before[name] * masks.kept[name] if name in masks.kept else before[name]
        assert torch.equal(weight, expected)
        if name in gone and len(gone[name]):
            assert gone[name].max() <= kept[name].min()
            if scope == "layer":
                assert len(gone[name]) == round(share * weight.numel())
    if scope == "global":
        total = sum(mask.numel() for mask in masks.kept.values())
        assert sum(len(values) for values in gone.values()) == round(share * total)
    assert all(len(values) for values in kept.values())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99))
def test_two_of_four_keeps_the_two_largest_of_every_four_input_channels(seed):
    module = network(seed)
    before = module[2].weight.detach().clone()
    masks = sparsify(module, "2:4")
    assert set(masks.kept) == {"2.weight", "4.weight"}  # 3 and 1 input channels are no fours
    fours = module[2].weight.detach().reshape(24, 4, 4)
    assert ((fours != 0).sum(dim=2) == 2).all()
    assert torch.equal(fours.abs().sum(dim=2), before.reshape(24, 4, 4).abs().topk(2, dim=2).values.sum(dim=2))


def test_two_of_four_counts_input_channels_at_each_place_of_the_kernel():
    module = nn.Conv2d(8, 4, 3)
    sparsify(module, "2:4")
    by_place = module.weight.detach().permute(0, 2, 3, 1).reshape(-1, 4)
    assert ((by_place != 0).sum(dim=1) == 2).all()


def test_a_layer_of_small_weights_is_not_cut_out_by_a_global_threshold():
    module = network(0)
    with torch.no_grad():
        module[2].weight.mul_(1e-3)
    masks = masks_of(module, 0.5)
    assert masks.kept["2.weight"].sum() == round(0.05 * module[2].weight.numel())


def test_the_share_counts_all_weights_of_layers():
    module = network(0)
    weights = 3 * 16 * 9 + 16 * 9 + 16 * 24 + 24 * 10
    assert sparsify(module, 0.5, scope="layer").sparsity == (216 + 192 + 120) / weights


@pytest.mark.parametrize("wrong", [1.0, -0.1, "1:4", True, None])
def test_a_sparsity_that_is_none_is_refused(wrong):
    with pytest.raises(UserError, match="sparsity: must be"):
        sparsify(network(0), wrong)


def test_zeros_stay_through_a_training_with_averaged_weights(few_digits, small_net):
    module = small_net()
    masks = sparsify(module, 0.6)
    fit(module, few_digits, Recipe(ema_decay=0.9), fidelity=Fidelity(epochs=2), seed=0, rules=[KeepZeros()])
    for name, kept in masks.kept.items():
        weight = module.get_parameter(name)
        assert torch.equal(weight != 0, kept)


def test_without_the_rule_they_do_not(few_digits, small_net):
    module = small_net()
    masks = sparsify(module, 0.6)
    fit(module, few_digits, Recipe(), fidelity=Fidelity(epochs=1), seed=0)
    assert any(bool((module.get_parameter(name)[~kept] != 0).any()) for name, kept in masks.kept.items())


def test_the_schedule_is_cubic():
    rule = GradualSparsity(sparsity=0.8, begin=0.25, end=0.75)
    assert [rule.share(step, 80) for step in (0, 19, 20, 60, 80)] == [0.0, 0.0, 0.0, 0.8, 0.8]
    assert rule.share(40, 80) == pytest.approx(0.8 * (1 - 0.5**3))
    shares = [rule.share(step, 80) for step in range(81)]
    assert shares == sorted(shares)


@pytest.mark.parametrize("sparsity", [0.7, "2:4"])
def test_a_gradual_training_ends_at_its_sparsity(few_digits, small_net, sparsity):
    module = small_net()
    rule = GradualSparsity(sparsity=sparsity, begin=0.2, end=0.6, every=2)
    fit(module, few_digits, Recipe(), fidelity=Fidelity(epochs=2), seed=0, rules=[rule])
    masks = masks_of(module, sparsity)
    assert all(torch.equal(module.get_parameter(name) != 0, kept) for name, kept in masks.kept.items())
    # A convolution of one input channel an output is depthwise, whatever its outputs are; one input channel is no four.
    assert set(masks.kept) == ({"9.weight"} if sparsity == "2:4" else {"0.weight", "9.weight"})


def test_a_gradual_training_that_is_gone_on_with_gives_what_it_would_have_given(few_digits, small_net, tmp_path):
    rule = GradualSparsity(sparsity=0.7, end=0.75, every=3)
    recipe = Recipe(schedule="constant")
    whole, parted = small_net(), small_net()
    fit(whole, few_digits, recipe, fidelity=Fidelity(epochs=4), seed=0, rules=[rule])

    class StoppedError(Exception):
        pass

    class Stopping:
        digest = rule.digest

        def start(self, module, *, steps, done):
            active = rule.start(module, steps=steps, done=done)

            class Active:
                def after_step(self, count):
                    if count > steps / 2:
                        raise StoppedError
                    active.after_step(count)

                finish = active.finish

            return Active()

    path = tmp_path / "state.safetensors"
    with pytest.raises(StoppedError):
        fit(parted, few_digits, recipe, fidelity=Fidelity(epochs=4), seed=0, rules=[Stopping()], checkpoint=path)
    again = small_net(seed=5)
    result = fit(again, few_digits, recipe, fidelity=Fidelity(epochs=4), seed=0, rules=[rule], checkpoint=path)
    assert result.resumed_epochs == 2
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_checkpoint_of_other_rules_is_not_gone_on_from(few_digits, small_net, tmp_path):
    path = tmp_path / "state.safetensors"
    fit(small_net(), few_digits, Recipe(), fidelity=Fidelity(epochs=1), seed=0, checkpoint=path)
    rules = [GradualSparsity(sparsity=0.5)]
    result = fit(small_net(), few_digits, Recipe(), fidelity=Fidelity(epochs=2), seed=0, checkpoint=path, rules=rules)
    assert result.resumed_epochs == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sparsity": 2.0}, "prune.sparsity: must be"),
        ({"sparsity": 0.5, "begin": 0.6, "end": 0.5}, "prune.end: must not lie before prune.begin .0.6., got 0.5"),
        ({"sparsity": 0.5, "every": 0}, "prune.every: must be a whole number"),
        ({"sparsity": 0.5, "scope": "row"}, "prune.scope: no scope named 'row'"),
    ],
)
def test_a_wrong_schedule_is_refused(fields, words):
    with pytest.raises(UserError, match=words):
        GradualSparsity(**fields)
