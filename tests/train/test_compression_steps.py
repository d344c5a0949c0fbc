"""Options of compression, and the trainings that they lead to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from nas.errors import UserError
from nas.locate import resource_folder
from nas.train.compression.distillation import Distillation, DistilOptions
from nas.train.compression.options import CompressOptions
from nas.train.compression.sparsity import sparsify
from nas.train.compression.steps import Setting, fine_tune_recipe, thin, train_aware
from nas.train.compression.teachers import TorchTeacher
from nas.train.recipe import Recipe

CONFIGS = sorted(resource_folder("conf").joinpath("compress").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_shipped_configuration_names_every_field_and_is_valid(path: Path):
    fields = yaml.safe_load(path.read_text())
    assert fields.pop("_target_") == "nas.train.compression.options.CompressOptions"
    assert set(fields) == set(CompressOptions.__dataclass_fields__)
    CompressOptions(**fields)


def test_the_default_configuration_is_the_default():
    fields = yaml.safe_load((resource_folder("conf") / "compress" / "default.yaml").read_text())
    fields.pop("_target_")
    assert CompressOptions(**fields) == CompressOptions()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("none", "none"), ("largest", "largest"), ("my.package:teacher", "function"), ("../nets/big.onnx", "onnx")],
)
def test_a_teacher_is_named_in_one_of_four_ways(name, kind):
    assert CompressOptions(distil=name).distil_kind == kind


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"distil": "biggest"}, r"compress.distil: must name a teacher, got 'biggest'; none, largest, package"),
        ({"distil": None}, r"compress.distil: must be a teacher's name, got None"),
        ({"feature_weight": 1.0}, r"compress.feature_weight: must be 0 without a teacher, got 1; set"),
        ({"distil": "a.onnx", "feature_weight": 1.0}, r"compress.feature_weight: must be 0 for a teacher in a file"),
        ({"qat_epochs": 1.5}, r"compress.qat_epochs: must be a whole number at least 0, got 1.5"),
        ({"fine_tune_rate": 0}, r"compress.fine_tune_rate: must be a number above 0 and at most 1, got 0"),
        ({"zeroing": "slow"}, r"compress.zeroing: no zeroing named 'slow'"),
        ({"temperature": 0}, r"compress.temperature"),
        ({"qat_control": "yes"}, r"compress.qat_control: must be true or false"),
    ],
)
def test_a_wrong_option_is_told_with_its_rule(fields, words):
    with pytest.raises(UserError, match=words):
        CompressOptions(**fields)


def test_fine_tuning_takes_a_share_of_the_epochs():
    assert [CompressOptions(fine_tune_share=share).fine_tune_epochs(30) for share in (0, 0.01, 0.5, 2)] == [
        0,
        1,
        15,
        60,
    ]
    recipe = fine_tune_recipe(Recipe(learning_rate=0.2, schedule="constant"), 0.1)
    assert (recipe.learning_rate, recipe.schedule) == (pytest.approx(0.02), "cosine")


def net(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10),
    )  # fmt: skip


def test_a_network_is_narrowed_thinned_and_rounded_one_after_the_other(digits):
    torch.manual_seed(0)
    wide, narrow = net(16), net(8)
    setting = Setting(task=digits, recipe=Recipe(), options=CompressOptions(), seed=0)
    setting.fit(wide, rate=1.0, epochs=3)
    before = {name: value.clone() for name, value in wide.state_dict().items()}
    thinned = thin(wide, narrow, setting, sparsity=0.5, epochs=2)
    assert thinned.module is narrow
    assert thinned.other_shortcuts == ()
    weights = torch.cat([part.weight.flatten() for part in narrow.modules() if isinstance(part, nn.Conv2d | nn.Linear)])
    assert int((weights == 0).sum()) == round(0.5 * len(weights))
    assert thinned.fit.metrics["accuracy"] > 0.5
    aware = train_aware(narrow, setting, profile="signed", epochs=1)
    layers = [part.layer for part in aware.module.modules() if hasattr(part, "folded")]
    assert sum(int((layer.weight == 0).sum()) for layer in layers) == int((weights == 0).sum())
    assert aware.control is not None
    assert not torch.equal(aware.control[0].weight, narrow[0].weight)
    assert torch.equal(aware.control[0].weight == 0, narrow[0].weight == 0)
    assert aware.control_fit.epochs == aware.fit.epochs == 1
    assert all(torch.equal(value, before[name]) for name, value in wide.state_dict().items())


def test_without_fine_tuning_the_cut_network_is_judged_as_it_is(few_digits):
    torch.manual_seed(0)
    wide = net(8)
    setting = Setting(task=few_digits, recipe=Recipe(), options=CompressOptions(), seed=0)
    setting.fit(wide, rate=1.0, epochs=2)
    thinned = thin(wide, None, setting, sparsity="2:4", epochs=0)
    expected = net(8)
    expected.load_state_dict(wide.state_dict())
    sparsify(expected, "2:4")
    assert torch.equal(thinned.module[3].weight, expected[3].weight)
    assert 0 <= thinned.fit.metrics["accuracy"] <= 1


def test_without_a_control_none_is_trained(few_digits):
    torch.manual_seed(0)
    setting = Setting(task=few_digits, recipe=Recipe(), options=CompressOptions(qat_control=False), seed=0)
    module = net(8)
    setting.fit(module, rate=1.0, epochs=1)
    aware = train_aware(module, setting, profile="unsigned", epochs=1)
    assert aware.control is None
    assert aware.control_fit is None


def test_a_teacher_takes_part_in_every_step(few_digits):
    torch.manual_seed(0)
    teacher = Distillation(teacher=TorchTeacher(net(16)), options=DistilOptions(feature_weight=1.0))
    with_teacher, without = (
        Setting(task=few_digits, recipe=Recipe(), options=CompressOptions(), seed=0, teacher=each)
        for each in (teacher, None)
    )
    wide = net(8)
    results = []
    for setting in (with_teacher, without):
        thinned = thin(wide, None, setting, sparsity=0.5, epochs=1)
        aware = train_aware(wide, setting, profile="signed", epochs=1)
        results.append((thinned.fit.train_losses, aware.fit.train_losses, aware.control_fit.train_losses))
    assert all(taught != alone for taught, alone in zip(*results, strict=True))
    assert all(torch.isfinite(torch.tensor(losses)).all() for losses in results[0])
