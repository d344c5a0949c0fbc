"""Rounding in training: the places, the grids, and what it leaves as it was."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas.errors import UserError
from nas.problem.evaluation import Fidelity
from nas.train.compression.fake_quantise import FakeQuantise, QuantisedLayer, quantised_weight
from nas.train.compression.qat import SettledRanges, prepare_qat
from nas.train.fit import fit
from nas.train.judge import judge, logits
from nas.train.recipe import Recipe


def ranged(profile: str, low: float, high: float) -> FakeQuantise:
    part = FakeQuantise(profile).eval()
    part.observe(torch.tensor([low, high]), 1.0)
    return part


@settings(max_examples=40, deadline=None)
@given(
    low=st.floats(-50, 50, width=32),
    extent=st.floats(0.0, 50, width=32),
    profile=st.sampled_from(["unsigned", "signed"]),
)
def test_values_are_rounded_to_the_nearest_of_256_and_zero_is_exact(low, extent, profile):
    part = ranged(profile, low, low + extent)
    scale, zero = part.scale_and_zero_point()
    x = torch.linspace(low, low + extent, 999)
    rounded = part(x)
    assert len(rounded.unique()) <= 256
    assert float(part(torch.zeros(1))) == 0
    # Rounding of the zero point moves the ends of an unsigned range by up to half a step.
    assert float((rounded - x).abs().max()) <= float(scale) * 1.01 + 1e-6
    if profile == "signed":
        assert int(zero) == 0
        assert float((rounded - x).abs().max()) <= float(scale) * 0.501 + 1e-6


def test_the_range_is_a_moving_average_only_while_it_observes_in_training():
    part = FakeQuantise("unsigned", momentum=0.5)
    part.train()(torch.tensor([-2.0, 4.0]))
    assert (float(part.low), float(part.high)) == (-1.0, 2.0)
    part.eval()(torch.tensor([-9.0, 9.0]))
    part.train().observing = False
    part(torch.tensor([-9.0, 9.0]))
    assert (float(part.low), float(part.high)) == (-1.0, 2.0)


def test_gradients_pass_inside_the_range_and_nowhere_else():
    part = ranged("unsigned", -1.0, 1.0)
    x = torch.tensor([-3.0, -0.5, 0.2, 3.0], requires_grad=True)
    part(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]


def test_weights_have_a_scale_an_output_and_their_largest_is_kept():
    weight = torch.tensor([[1.0, -2.0, 0.3], [1e-3, 5e-4, -1e-3]])
    rounded = quantised_weight(weight)
    torch.testing.assert_close(rounded[:, 1:2].abs().max(), torch.tensor(2.0))
    torch.testing.assert_close(rounded[1, 0], torch.tensor(1e-3))
    assert float((rounded - weight)[1].abs().max()) <= 1e-3 / 254 * 1.01


def test_a_normalisation_is_folded_into_the_layer_before_it():
    conv, norm = nn.Conv2d(3, 5, 3, bias=True), nn.BatchNorm2d(5)
    for value in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(value)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    weight, bias = QuantisedLayer(conv, norm).folded()
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(nn.functional.conv2d(x, weight, bias), norm.eval()(conv(x)), rtol=1e-4, atol=1e-5)


class Branching(nn.Module):
    """A residual sum, a squeeze-excite product and a moved value, as networks have them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.gate = nn.Conv2d(8, 8, 1)
        self.pool = nn.MaxPool2d(2)
        self.scores = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = torch.relu(self.second(x) + x)
        x = self.pool(x * torch.sigmoid(self.gate(x.mean(dim=(2, 3), keepdim=True))))
        return self.scores(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def test_values_are_rounded_where_8_bit_kernels_read_and_write_and_scores_are_not():
    images = torch.rand(8, 1, 8, 8)
    graph = prepare_qat(Branching().eval(), images)
    kinds = [(node.op, str(node.target)) for node in graph.graph.nodes]
    text = " ".join(target for _, target in kinds)
    # One normalisation a convolution is gone; the activations stand before the rounding; the pooling shares its grid.
    assert "first.1" not in text
    assert text.index("first.2") < text.index("round_1")
    names = [target for _, target in kinds if target.startswith("round_")]
    assert len(names) == len(set(names)) + 2  # after the max pooling and after flatten the same grid again
    assert kinds[-2][1] == "scores"
    signed = prepare_qat(Branching().eval(), images, profile="signed")
    assert sum(isinstance(part, FakeQuantise) for part in signed.modules()) == len(set(names)) + 2


def test_before_any_training_the_rounded_network_says_nearly_what_the_float_one_says(digits, small_net):
    module = small_net()
    fit(module, digits, Recipe(), fidelity=Fidelity(epochs=3), seed=0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    images = digits.images("train")[:128]
    reference = logits(module, digits, "test")
    for profile in ("unsigned", "signed"):
        rounded = prepare_qat(module, images, profile=profile)
        said = logits(rounded, digits, "test")
        assert (said.argmax(1) == reference.argmax(1)).float().mean() > 0.97
        assert 0 < float((said - reference).abs().max()) < 0.1 * float(reference.max() - reference.min())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_training_with_rounding_learns_repeats_and_can_be_gone_on_with(few_digits, small_net, tmp_path):
    module = small_net()
    fit(module, few_digits, Recipe(), fidelity=Fidelity(epochs=6), seed=0)
    images = few_digits.images("train")[:64]
    recipe = Recipe(learning_rate=0.02, schedule="constant", warmup_epochs=0)
    rules = [SettledRanges(after=0.5)]
    path = tmp_path / "state.safetensors"

    def trained(epochs: int, **more: object) -> nn.Module:
        rounded = prepare_qat(module, images)
        fit(rounded, few_digits, recipe, fidelity=Fidelity(epochs=epochs), seed=0, rules=rules, **more)
        return rounded

    one, two = trained(4), trained(4)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    start = judge(prepare_qat(module, images), few_digits, "train")["loss"]
    assert judge(one, few_digits, "train")["loss"] < start
    whole = trained(2)
    resumed = prepare_qat(module, images)
    fit(resumed, few_digits, recipe, fidelity=Fidelity(epochs=2), seed=0, rules=rules, checkpoint=path)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    again = prepare_qat(module, images)
    result = fit(again, few_digits, recipe, fidelity=Fidelity(epochs=2), seed=0, rules=rules, checkpoint=path)
    assert result.resumed_epochs == 2
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


def test_ranges_settle_when_their_share_of_the_steps_is_over():
    part = FakeQuantise("unsigned")
    rule = SettledRanges(after=0.5).start(nn.Sequential(part), steps=10, done=0)
    observed = []
    for done in range(1, 10):
        rule.after_step(done)
        observed.append(part.observing)
    assert observed == [True] * 4 + [False] * 5
    SettledRanges(after=0.5).start(nn.Sequential(part), steps=10, done=3)
    assert part.observing


class Deciding(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


@pytest.mark.parametrize(
    ("module", "images", "options", "words"),
    [
        (Deciding(), torch.rand(2, 1, 4, 4), {}, "network: cannot be traced for quantisation-aware training"),
        (nn.Flatten(), torch.rand(0, 1, 4, 4), {}, r"calibration: must be images \(n, c, h, w\), got \(0, 1, 4, 4\)"),
        (nn.Flatten(), torch.rand(2, 1, 4, 4), {"profile": "both"}, "compress.activations: no profile named 'both'"),
    ],
)
def test_what_cannot_be_prepared_is_told_in_one_line(module, images, options, words):
    with pytest.raises(UserError, match=words):
        prepare_qat(module, images, **options)
