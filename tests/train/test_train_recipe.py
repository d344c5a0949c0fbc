"""Recipes, their files, and the learning rate over time."""

from __future__ import annotations

import importlib
import math
from dataclasses import fields, replace

import pytest
import yaml
from torch import nn

from nas.errors import UserError
from nas.locate import resource_folder
from nas.train.optimiser import learning_rate, make_optimiser
from nas.train.recipe import Recipe


def target(path):
    record = yaml.safe_load(path.read_text())
    module, name = record.pop("_target_").rsplit(".", 1)
    return getattr(importlib.import_module(module), name), record


@pytest.mark.parametrize("group", ["data", "recipe"])
def test_every_file_of_the_group_names_all_fields_of_a_record_that_accepts_them(group):
    paths = sorted((resource_folder("conf") / group).glob("*.yaml"))
    assert paths
    for path in paths:
        kind, record = target(path)
        assert set(record) == {field.name for field in fields(kind)}, path
        kind(**record)


def test_the_default_recipe_is_the_default_of_the_record():
    kind, record = target(resource_folder("conf") / "recipe" / "default.yaml")
    assert kind(**record) == Recipe()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimiser", "sdg"),
        ("schedule", "linear"),
        ("precision", "int8"),
        ("learning_rate", 0),
        ("learning_rate", "fast"),
        ("momentum", 1.0),
        ("batch_size", 1),
        ("batch_size", 64.0),
        ("weight_decay", -1e-4),
        ("warmup_epochs", float("inf")),
        ("label_smoothing", 1.0),
        ("shift", 4),
        ("cutout", -0.1),
        ("mixup", float("nan")),
        ("ema_decay", 1.0),
        ("clip_norm", 0.0),
        ("divergence_factor", 1.0),
        ("flip", "yes"),
    ],
)
def test_a_field_out_of_its_range_is_refused_by_name(field, value):
    with pytest.raises(UserError, match=rf"^recipe\.{field}: "):
        Recipe(**{field: value})


def test_the_nearest_optimiser_is_suggested():
    with pytest.raises(UserError, match="did you mean adamw"):
        Recipe(optimiser="adam")


def test_digests_tell_recipes_apart():
    assert Recipe().digest == Recipe().digest
    for field, value in (("flip", True), ("learning_rate", 0.2), ("clip_norm", None)):
        assert replace(Recipe(), **{field: value}).digest != Recipe().digest


def rates(recipe: Recipe, *, steps_per_epoch: int = 10, epochs: int = 6) -> list[float]:
    total = steps_per_epoch * epochs
    return [learning_rate(recipe, step=k, steps_per_epoch=steps_per_epoch, epochs=epochs) for k in range(total)]


def test_the_rate_rises_linearly_then_falls_as_half_a_cosine():
    got = rates(Recipe(learning_rate=0.2, warmup_epochs=1.0))
    assert got[:10] == pytest.approx([0.2 * (k + 1) / 10 for k in range(10)])
    assert got[10:] == pytest.approx([0.1 * (1 + math.cos(math.pi * k / 50)) for k in range(50)])


def test_the_rate_ends_at_its_final_share_or_stays():
    end = learning_rate(Recipe(final_share=0.1), step=60, steps_per_epoch=10, epochs=6)
    assert end == pytest.approx(0.01)
    assert rates(Recipe(schedule="constant"))[10:] == [0.1] * 50


def test_warm_up_takes_at_most_half_of_the_training():
    got = rates(Recipe(warmup_epochs=5.0), epochs=1)
    assert max(got) == got[4] == 0.1
    assert rates(Recipe(warmup_epochs=0.0))[0] == 0.1


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_biases_and_normalisation_do_not_decay(name):
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    optimiser = make_optimiser(module, Recipe(optimiser=name, weight_decay=0.3))
    decay = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert {key: decay[id(p)] for key, p in module.named_parameters()} == {
        "0.weight": 0.3,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "2.weight": 0.3,
        "2.bias": 0.0,
    }
