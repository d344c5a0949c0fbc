"""What is said of a retraining: the gain at equal epochs, and how sure it is."""

from __future__ import annotations

from dataclasses import replace

from nas.commands.retrain_export import Outcome
from nas.commands.retrain_table import gain_text

OUTCOME = Outcome(
    digest="9c41d2aa",
    trial=3,
    fields={"learning_rate": 0.05},
    path={},
    validation=0.95,
    test=0.93,
    untuned_validation=0.91,
    untuned_test=0.92,
    trials=8,
    complete=3,
    failed=0,
    seconds=60.0,
)


def test_the_gain_is_that_on_the_test_split_and_its_doubt_is_told() -> None:
    text = gain_text(OUTCOME, 200)
    assert text.startswith("9c41d2 retrained: 93.0 % on the test split (95.0 % validation) by learning_rate 0.05")
    assert "tuning brought +1.0 on the test split, within its 95 % interval of 200 images" in text
    assert "beyond its 95 % interval" in gain_text(replace(OUTCOME, test=0.99), 200)


def test_a_loss_on_the_test_split_is_told_as_one() -> None:
    assert "tuning brought -2.0" in gain_text(replace(OUTCOME, test=0.90), 200)


def test_an_untuned_recipe_that_won_or_failed_is_told() -> None:
    won = replace(OUTCOME, trial=0, fields={}, test=0.92, validation=0.91)
    assert "no tuned trial of 8 was better than the recipe as it was" in gain_text(won, 200)
    failed = replace(OUTCOME, untuned_validation=None, untuned_test=None)
    assert gain_text(failed, 200).endswith("the untuned recipe failed")
