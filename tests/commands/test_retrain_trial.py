"""A trial of a retraining: stopped and gone on with as if it never was, taken over, gone wrong, chosen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.commands.retrain_trial import Retraining, TrialRecord, best_of, read_record
from nas.problem.evaluation import Candidate, Fidelity
from nas.run.tuning import Assignment, Rung
from nas.space.space import SearchSpace
from nas.train.compression.options import CompressOptions
from nas.train.data.digits import Digits
from nas.train.evaluate import TrainingEvaluate
from nas.train.recipe import Recipe
from nas.train.task import image_classification

TEMPLATE = {
    "name": "tiny",
    "network": [
        {"op": "conv", "channels": {"choose": [4, 8], "name": "width"}, "stride": 2},
        {"op": "classifier"},
    ],
}
EPOCHS = 4


@pytest.fixture(scope="module")
def evaluate() -> TrainingEvaluate:
    task = image_classification(Digits().load())
    return TrainingEvaluate(space=SearchSpace.from_template(TEMPLATE), task=task, recipe=Recipe(warmup_epochs=0.5))


def retraining(evaluate: TrainingEvaluate, folder: Path, *milestones: int, takes_over: bool = False) -> Retraining:
    candidate = Candidate(
        index=0,
        architecture=evaluate.space.architecture(np.array([1], dtype=np.int16)),
        fidelity=Fidelity(epochs=EPOCHS, data_share=0.2),
        seed=5,
    )
    return Retraining(
        evaluate=evaluate,
        candidate=candidate,
        compress=CompressOptions(),
        folder=folder,
        milestones=(*milestones, EPOCHS),
        takes_over=takes_over,
    )


def record_of(work: Retraining, place: int = 0) -> TrialRecord:
    record = read_record(work.folder / f"{place}.json")
    assert record is not None
    return record


def weights(work: Retraining, record: TrialRecord) -> dict[str, torch.Tensor]:
    return work.finished(record).module.state_dict()


SETTINGS = {"learning_rate": 0.05, "cutout": 0.2}


def test_a_trial_that_is_looked_at_on_the_way_is_the_training_in_one_go(
    evaluate: TrainingEvaluate, tmp_path: Path
) -> None:
    whole, parts = retraining(evaluate, tmp_path / "whole"), retraining(evaluate, tmp_path / "parts", 1, 3)
    assert [rung.epoch for rung in whole(Assignment(place=0, fields=SETTINGS, token="0"))] == [EPOCHS]
    looks = parts(Assignment(place=0, fields=SETTINGS, token="0"))
    assert next(looks).epoch == 1
    del looks  # its worker is gone
    assert [rung.epoch for rung in parts(Assignment(place=0, fields=SETTINGS, token="0"))] == [1, 3, EPOCHS]
    one, other = record_of(whole), record_of(parts)
    assert one.accuracy == other.accuracy
    assert one.loss == other.loss
    before, after = weights(whole, one), weights(parts, other)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_finished_trial_is_told_again_but_not_trained_again(evaluate: TrainingEvaluate, tmp_path: Path) -> None:
    work = retraining(evaluate, tmp_path)
    first = list(work(Assignment(place=2, fields={}, token="0")))
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert list(work(Assignment(place=2, fields={}, token="0"))) == first
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept


def taken(rung: Rung, folder: Path) -> Path:
    """The files of a rung, as Ray Tune keeps them."""
    folder.mkdir()
    for name, file in rung.files.items():
        shutil.copyfile(file, folder / name)
    return folder


def test_a_state_that_is_taken_over_is_gone_on_with_under_other_settings(
    evaluate: TrainingEvaluate, tmp_path: Path
) -> None:
    work = retraining(evaluate, tmp_path / "trials", 1, 2, takes_over=True)
    donor = list(work(Assignment(place=1, fields={"learning_rate": 0.2}, token="0")))
    list(work(Assignment(place=2, fields={"learning_rate": 0.001}, token="0")))
    # From the donor's second look on; what the taker has found by itself is of no more account.
    halfway = retraining(evaluate, tmp_path / "donor", 1, 2, takes_over=True)
    looks = halfway(Assignment(place=1, fields={"learning_rate": 0.2}, token="0"))
    next(looks)
    start = taken(next(looks), tmp_path / "start")
    other = Assignment(place=2, fields={"learning_rate": 0.1}, token="f00d", start=start)
    assert [rung.epoch for rung in work(other)] == [EPOCHS]
    record = record_of(work, 2)
    assert record.path == {0: {"learning_rate": 0.2}, 2: {"learning_rate": 0.1}}
    assert record.scores[2] == donor[1].score
    assert record.status == "complete"
    assert work.finished(record).fit.metrics["accuracy"] == record.accuracy
    assert not (tmp_path / "trials" / "2-0.safetensors").exists()


def test_a_training_that_goes_wrong_ends_its_trial_and_nothing_else(evaluate: TrainingEvaluate, tmp_path: Path) -> None:
    wild = replace(evaluate, recipe=replace(evaluate.recipe, clip_norm=None, divergence_factor=1.0001))
    work = retraining(wild, tmp_path, 1)
    rungs = list(work(Assignment(place=3, fields={"learning_rate": 100.0}, token="0")))
    assert [(rung.epoch, rung.score) for rung in rungs][-1] == (EPOCHS, 0.0)
    record = record_of(work, 3)
    assert record.status == "failed"
    assert record.error
    assert best_of([record]) is None


def test_a_torn_record_is_none(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    for text in ("", "{", "[]", '{"place": 0}', json.dumps({"place": 0, "scores": 3, "path": {}})):
        path.write_text(text)
        assert read_record(path) is None


def trial(place: int, accuracy: float, loss: float = 0.5, status: str = "complete") -> TrialRecord:
    return TrialRecord(place=place, scores={EPOCHS: accuracy}, loss=loss, status=status)


def test_the_best_on_validation_is_chosen_and_a_tie_goes_to_the_untuned_recipe() -> None:
    assert best_of([trial(0, 0.9), trial(1, 0.95), trial(2, 0.99, status="running")]) == trial(1, 0.95)
    assert best_of([trial(1, 0.9, 0.1), trial(0, 0.9, 0.7)]) == trial(0, 0.9, 0.7)
    assert best_of([trial(0, 0.8), trial(1, 0.9, 0.4), trial(2, 0.9, 0.3)]) == trial(2, 0.9, 0.3)
