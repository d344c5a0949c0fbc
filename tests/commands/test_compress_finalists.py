"""Members of the front with a teacher, fine-tuned zeros and channels, and INT8 files that were trained for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from torch import nn

import nas
from nas.commands.compress_finish import absolute_teacher, train_taught
from nas.deploy import qat_finalist
from nas.deploy.deployed import DeployedEvaluate, FileJudging
from nas.deploy.finalist import FinalistWork
from nas.deploy.load import verify_model_folder
from nas.deploy.manifest import SCHEMA, read_manifest
from nas.deploy.options import DeployOptions
from nas.deploy.shrunk import Shares
from nas.errors import UserError
from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.space.space import SearchSpace
from nas.train.compression.options import CompressOptions
from nas.train.data.digits import Digits
from nas.train.evaluate import TrainingEvaluate
from nas.train.recipe import Recipe
from nas.train.task import ImageClassification, image_classification

TEMPLATE: dict[str, Any] = {
    "name": "shipped",
    "network": [
        {"name": "stem", "op": "conv", "channels": {"choose": [16, 32], "name": "width"}, "stride": 2},
        {"name": "body", "op": "conv", "channels": 24},
        {"name": "last", "op": "classifier"},
    ],
    "deploy": {
        "precision": {"choose": ["float32", "int8"]},
        "width": {"choose": [0.5, 1.0]},
        "sparsity": {"choose": [0.0, "2:4"]},
    },
}
SPACE = SearchSpace.from_template(TEMPLATE)


@pytest.fixture(scope="module")
def task() -> ImageClassification:
    return image_classification(Digits(limit=300, validation_share=0.3).load())


def candidate(epochs: int = 3, **chosen: object) -> Candidate:
    names = {"stem.width": 32, "deploy.precision": "float32", "deploy.width": 1.0, "deploy.sparsity": 0.0, **chosen}
    architecture = SPACE.architecture(SPACE.row(names))
    return Candidate(index=0, architecture=architecture, fidelity=Fidelity(epochs=epochs), seed=1)


def work(task: ImageClassification, models: Path, *, wide: float = 0.0, **options: object) -> FinalistWork:
    training = TrainingEvaluate(space=SPACE, task=task, recipe=Recipe())
    judging = FileJudging(shares=Shares(wide=wide))
    compress = CompressOptions(**options)  # type: ignore[arg-type]
    evaluate = DeployedEvaluate(training=training, judging=judging, compress=compress)
    deploy = DeployOptions(calibration_images=64)
    return FinalistWork(evaluate=evaluate, options=deploy, models=models, compress=compress)


def test_the_int8_file_of_a_finalist_is_the_one_that_was_trained(task: ImageClassification, tmp_path: Path) -> None:
    asked = candidate(**{"deploy.precision": "int8"})
    plain = work(task, tmp_path / "plain")(asked)
    found = work(task, tmp_path / "aware", qat_epochs=2)(asked)
    folder = tmp_path / "aware" / asked.architecture.digest
    record = read_manifest(folder)
    (before,) = (entry for entry in read_manifest(tmp_path / "plain" / folder.name)["files"] if entry["quantisation"])
    (entry,) = (entry for entry in record["files"] if entry["precision"] == "int8")
    made = entry["quantisation"]
    assert (made["method"], made["num_calibration_samples"]) == (None, 0)
    assert entry["sha256"] != before["sha256"]
    qat = made.pop("qat")
    assert qat["epochs"] == 2
    assert qat["parity"] >= 0.97
    assert qat["calibrated_accuracy"] == before["accuracy"]
    assert qat["gain"] == pytest.approx(entry["accuracy"] - qat["control"]["calibrated_accuracy"])
    assert qat["cost"] == pytest.approx(qat["control"]["accuracy"] - entry["accuracy"])
    assert found.metrics["accuracy"] == found.metrics["accuracy.int8"] == entry["accuracy"]
    assert found.metrics["accuracy.float32"] == plain.metrics["accuracy.float32"]
    jsonschema.validate(record, json.loads(SCHEMA.read_text()))
    assert len(verify_model_folder(folder)) == 3
    assert [path.name for path in (tmp_path / "aware").iterdir()] == [folder.name]


def test_a_network_that_cannot_learn_to_round_keeps_its_calibrated_file(
    task: ImageClassification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UserError("network", "cannot be traced")

    monkeypatch.setattr(qat_finalist, "train_aware", refuse)
    asked = candidate(epochs=1, **{"deploy.precision": "int8"})
    assert work(task, tmp_path, qat_epochs=1)(asked).status == "complete"
    (entry,) = (e for e in read_manifest(tmp_path / asked.architecture.digest)["files"] if e["precision"] == "int8")
    assert entry["quantisation"]["qat"] == {"reason": "network: cannot be traced"}
    assert entry["quantisation"]["num_calibration_samples"] == 64


def test_a_finalist_in_float32_is_not_trained_with_rounding(task: ImageClassification, tmp_path: Path) -> None:
    asked = candidate(epochs=1)
    work(task, tmp_path, qat_epochs=1)(asked)
    assert [e["precision"] for e in read_manifest(tmp_path / asked.architecture.digest)["files"]] == ["float32"]


def test_channels_and_zeros_go_after_the_final_training_and_are_tuned(
    task: ImageClassification, tmp_path: Path
) -> None:
    asked = candidate(epochs=4, **{"deploy.width": 0.5, "deploy.sparsity": "2:4"})
    own = work(task, tmp_path, wide=0.5, fine_tune_share=0.5)
    trained = own._trained(asked, None, 0.0)
    assert trained.fit.epochs == 4 + 2
    convolutions = [part for part in trained.module.modules() if isinstance(part, nn.Conv2d)]
    assert convolutions[0].out_channels == 16
    weight = convolutions[1].weight.detach()
    zeros = (weight.movedim(1, -1).reshape(-1, 4) == 0).sum(dim=1)
    assert (zeros >= 2).all()
    narrow = replace(own, evaluate=work(task, tmp_path, fine_tune_share=0.5).evaluate)._trained(asked, None, 0.0)
    assert narrow.fit.epochs == 4 + 2
    assert not torch.equal(narrow.module.state_dict()["s0_conv.conv.weight"], convolutions[0].weight)


def test_a_plain_finalist_is_trained_as_the_search_trains(task: ImageClassification, tmp_path: Path) -> None:
    own = work(task, tmp_path)
    asked = candidate(epochs=1)
    first, second = own._trained(asked, None, 0.0), own.evaluate.train(asked)
    assert first.fit.train_losses == second.fit.train_losses


def test_the_largest_network_teaches_the_others(task: ImageClassification, tmp_path: Path) -> None:
    large, small = candidate(epochs=2), candidate(epochs=2, **{"stem.width": 16})
    alone, taught = work(task, tmp_path / "alone"), work(task, tmp_path, distil="largest")
    alone(small)
    taught(large)
    replace(taught, largest=tmp_path / large.architecture.digest)(small)
    records = [read_manifest(folder / small.architecture.digest) for folder in (tmp_path / "alone", tmp_path)]
    weights = [record["contents"][1]["sha256"] for record in records]
    assert weights[0] != weights[1]
    assert "compress" not in records[0]["training"]["recipe"]
    assert records[1]["training"]["recipe"]["compress"]["distil"] == "largest"
    assert alone.made(tmp_path / "alone" / small.architecture.digest)
    assert not alone.made(tmp_path / small.architecture.digest)


class Notes:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def say(self, topic: str, text: str) -> None:
        self.told.append(f"{topic}: {text}")

    def note(self, text: str) -> None:
        self.told.append(text)

    def progress(self, topic: str, done: int, total: int, *, text: str = "", each: bool = False) -> None: ...
    def result(self, table: str, figures: object) -> None: ...


@pytest.mark.parametrize("fails", [False, True])
def test_the_teacher_is_trained_first_and_nobody_waits_for_one_that_failed(
    task: ImageClassification, tmp_path: Path, *, fails: bool
) -> None:
    chosen = [
        replace(candidate(epochs=1, **{"stem.width": width}), index=width, predicted={"macs": float(width)})
        for width in (16, 32)
    ]
    calls: list[tuple[list[int], Path | None]] = []

    def train(work: FinalistWork, candidates: Sequence[Candidate]) -> list[Evaluation]:
        calls.append(([each.index for each in candidates], work.largest))
        return [Evaluation(candidate=chosen[1], status="failed", error="no")] if fails and len(calls) == 1 else []

    notes = Notes()
    failed = train_taught(work(task, tmp_path, distil="largest"), chosen, train, notes)
    digest = chosen[1].architecture.digest
    assert calls[0] == ([32], None)
    assert calls[1] == (([16], None) if fails else ([16, 32], tmp_path / digest))
    assert len(failed) == int(fails)
    assert any("could not be trained" in text if fails else digest[:6] in text for text in notes.told)


def test_a_teacher_is_asked_for_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"compress.distil: must name a file, there is no nowhere.onnx"):
        nas.search(data=Digits(limit=200), compress=CompressOptions(distil="nowhere.onnx"))
    assert not list(tmp_path.iterdir())
    path = absolute_teacher(CompressOptions(distil="big.onnx")).distil
    assert Path(path) == tmp_path / "big.onnx"


def test_the_time_limit_has_room_for_every_step() -> None:
    assert CompressOptions(fine_tune_share=0).time_factor(10) == 1
    tuned = CompressOptions(fine_tune_share=0.5).time_factor(10)
    aware = CompressOptions(fine_tune_share=0.5, qat_epochs=5).time_factor(10)
    taught = CompressOptions(fine_tune_share=0.5, qat_epochs=5, distil="largest").time_factor(10)
    assert np.all(np.diff([1, tuned, aware, taught]) > 0)
    assert aware == pytest.approx(1.5 + 0.5 * 4)
