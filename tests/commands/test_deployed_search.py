"""Candidates that choose how they are shipped: judged by their files, predicted and exported in their precision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from nas.commands.by_precision import MIXED_FACTOR, MIXED_SPREAD, ByPrecision, Memories, OfBuilt
from nas.commands.search import search
from nas.commands.settings import RunOptions
from nas.deploy import deployed_file
from nas.deploy.deployed import DeployedEvaluate, FileJudging, file_accuracy, judged_images
from nas.deploy.deployed_file import precisions_of_modules, write_deployed
from nas.deploy.judge import FileJudgement, run_file
from nas.deploy.load import load_model, verify_model_folder
from nas.deploy.options import DeployOptions
from nas.deploy.samples import samples_of
from nas.deploy.shrunk import Shares
from nas.errors import UserError
from nas.model.deployed_costs import DeployedCosts
from nas.model.population_costs import PopulationCosts
from nas.problem.evaluation import Candidate, Fidelity
from nas.run.folder import RunFolder
from nas.run.front import read_front_csv
from nas.run.serial import SerialRunner
from nas.space.deployed_rows import DeployedRows
from nas.space.moves import Population, sample
from nas.space.space import SearchSpace
from nas.strategy.random_search import RandomSearch
from nas.train.data.digits import Digits
from nas.train.evaluate import TrainingEvaluate
from nas.train.recipe import Recipe
from nas.train.task import ImageClassification, image_classification

HOLE = {"choose": ["float32", "int8"]}
DEPLOY = {"precision": HOLE, "width": {"choose": [0.5, 1.0]}, "sparsity": {"choose": [0.0, 0.5]}}
TEMPLATE: dict[str, Any] = {
    "name": "shipped",
    "network": [
        {"name": "stem", "op": "conv", "channels": {"choose": [16, 32], "name": "width"}, "stride": 2},
        {"name": "body", "op": "inverted_residual", "expansion": 2, "squeeze_excite": True},
        {"name": "last", "op": "classifier"},
    ],
    "deploy": DEPLOY,
}
SPACE = SearchSpace.from_template(TEMPLATE)
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def task() -> ImageClassification:
    return image_classification(Digits(limit=300, validation_share=0.3).load())


@pytest.fixture(scope="module")
def evaluate(task: ImageClassification) -> DeployedEvaluate:
    judging = FileJudging(shares=Shares(wide=0.5))
    return DeployedEvaluate(training=TrainingEvaluate(space=SPACE, task=task, recipe=Recipe()), judging=judging)


def candidate(epochs: int = 2, space: SearchSpace = SPACE, **chosen: object) -> Candidate:
    plain = {"stem.width": 32, "deploy.precision": "float32", "deploy.width": 1.0, "deploy.sparsity": 0.0}
    known = {choice.name for choice in space.choices}
    names = {name: value for name, value in {**plain, **chosen}.items() if name in known}
    architecture = space.architecture(space.row(names))
    return Candidate(index=0, architecture=architecture, fidelity=Fidelity(epochs=epochs), seed=1)


def test_a_dense_float_candidate_of_full_width_is_evaluated_by_training_alone(evaluate: DeployedEvaluate) -> None:
    asked = candidate()
    by_file, by_training = evaluate(asked), evaluate.training(asked)
    assert by_file.metrics == by_training.metrics
    assert (by_file.status, by_file.curve) == (by_training.status, by_training.curve)


def test_a_candidate_in_int8_has_the_accuracy_of_its_file(evaluate: DeployedEvaluate, tmp_path: Path) -> None:
    asked = candidate(**{"deploy.precision": "int8"})
    found = evaluate(asked)
    assert found.status == "complete", found.error
    trained = evaluate.train(asked)
    task, network = evaluate.task, trained.network
    images = samples_of(task, network, num_calibration=evaluate.judging.calibration_images).calibration
    path = write_deployed(trained.module.eval(), network, tmp_path, calibration=images, options=DeployOptions())
    logits = run_file(path, task.images("validation").contiguous().numpy())
    right = logits.argmax(axis=1) == task.labels("validation").numpy()
    assert found.metrics["accuracy"] == pytest.approx(right.mean())
    assert found.metrics["accuracy_float"] == trained.fit.metrics["accuracy"]
    assert 0.5 < found.metrics["agreement"] <= 1
    assert found.metrics["size_bytes"] == path.stat().st_size
    assert found.metrics["file_seconds"] > 0
    assert "int8" in path.name


def test_few_images_correct_the_accuracy_on_all_of_them(evaluate: DeployedEvaluate) -> None:
    asked = candidate(**{"deploy.precision": "int8"})
    few = replace(evaluate, judging=FileJudging(images=30, shares=Shares(wide=0.5)))(asked).metrics
    every = evaluate(asked).metrics
    assert few["accuracy_float"] == every["accuracy_float"]
    assert abs(few["accuracy"] - every["accuracy"]) <= abs(1 - few["agreement"]) + abs(1 - every["agreement"])
    judgement = FileJudgement(accuracy=0.7, num_samples=10, agreement=0.9, max_abs_error=0, relative_error=0)
    assert file_accuracy(0.85, 0.8, judgement) == pytest.approx(0.75)
    assert file_accuracy(0.05, 0.8, judgement) == 0


def test_the_images_that_files_are_judged_on_hold_all_classes_in_proportion() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    chosen = judged_images(labels, 20)
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_allclose(np.bincount(labels[chosen]), [12, 6, 2], atol=1)
    np.testing.assert_array_equal(judged_images(labels, 200), np.arange(100))
    np.testing.assert_array_equal(chosen, judged_images(labels, 20))


def test_a_narrow_candidate_is_trained_wide_first_and_has_the_figures_of_the_narrow_one(
    evaluate: DeployedEvaluate,
) -> None:
    asked = candidate(epochs=6, **{"deploy.width": 0.5})
    trained = evaluate.train(asked)
    wide, narrow = SPACE.trained_network(asked.architecture.row), trained.network
    assert [stage.parameters.get("channels") for stage in wide.stages] == [32, None, None]  # type: ignore[union-attr]
    first = next(part for part in trained.module.modules() if isinstance(part, nn.Conv2d))
    assert first.out_channels == 16
    assert narrow.trained == wide.digest
    assert trained.fit.epochs == 6
    assert len(trained.fit.curve) == 6
    found = evaluate(asked)
    assert found.metrics["parameters"] == sum(parameter.numel() for parameter in trained.module.parameters())
    assert found.metrics["accuracy"] == trained.fit.metrics["accuracy"]
    alone = replace(evaluate, judging=FileJudging(shares=Shares(wide=0.0))).train(asked)
    assert alone.network == narrow
    assert len(alone.fit.curve) == 6
    assert alone.fit.train_losses != trained.fit.train_losses


def test_a_sparse_candidate_has_its_zeros_and_a_smaller_packed_file(evaluate: DeployedEvaluate) -> None:
    asked = candidate(**{"deploy.sparsity": 0.5})
    weights = [part.weight for part in evaluate.train(asked).module.modules() if isinstance(part, nn.Conv2d)]
    dense = [weight for weight in weights if weight.shape[1] > 1]
    zeros = sum(int((weight == 0).sum()) for weight in dense) / sum(weight.numel() for weight in dense)
    assert zeros > 0.4
    found = evaluate(asked).metrics
    assert found["compressed_bytes"] < 0.8 * found["size_bytes"]
    assert found["accuracy"] == found["accuracy_float"]
    assert found["agreement"] == 1


def test_width_zeros_and_precision_go_together(evaluate: DeployedEvaluate) -> None:
    found = evaluate(candidate(**{"deploy.width": 0.5, "deploy.sparsity": 0.5, "deploy.precision": "int8"}))
    assert found.status == "complete", found.error
    assert found.metrics["compressed_bytes"] < found.metrics["size_bytes"]


@pytest.mark.parametrize(("epochs", "parts"), [(2, (1, 1)), (3, (2, 1)), (8, (4, 4))])
def test_epochs_are_divided_and_none_is_added(epochs: int, parts: tuple[int, int]) -> None:
    first, second = Shares(wide=0.5).of(Fidelity(epochs=epochs))
    assert (first.epochs, second.epochs) == parts
    wide, narrow = Shares(wide=0.25).of(Fidelity(epochs=1, data_share=0.8))
    assert wide.cost + narrow.cost == pytest.approx(0.8)
    assert wide.data_share == pytest.approx(0.2)


def test_a_file_that_cannot_be_made_is_a_failure_on_one_line(
    evaluate: DeployedEvaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UserError("model.fp32.onnx", "cannot be quantised", "ship float32")

    monkeypatch.setattr(deployed_file, "make_file", refuse)
    found = evaluate(candidate(**{"deploy.precision": "int8"}))
    assert (found.status, found.error) == ("failed", "UserError: model.fp32.onnx: cannot be quantised; ship float32")


def test_a_hopeless_or_late_candidate_is_recorded_as_such(evaluate: DeployedEvaluate) -> None:
    asked = candidate(epochs=4, **{"deploy.width": 0.5})
    stopped = evaluate(replace(asked, stop_below=(0.0, 0.0, 1.1)))
    assert (stopped.status, len(stopped.curve)) == ("stopped", 1)  # the first one of the narrow network
    late = replace(evaluate, training=replace(evaluate.training, time_limit_seconds=1e-6))
    assert late(asked).status == "timeout"


def test_the_evaluation_can_be_sent_to_workers(evaluate: DeployedEvaluate) -> None:
    sent = cloudpickle.loads(cloudpickle.dumps(evaluate))
    asked = candidate(epochs=1, **{"deploy.precision": "int8", "deploy.width": 0.5})
    here, there = evaluate(asked), sent(asked)
    times = {"file_seconds"}
    assert {k: v for k, v in here.metrics.items() if k not in times} == {
        k: v for k, v in there.metrics.items() if k not in times
    }


def test_stages_that_stay_in_float_are_named_as_their_modules() -> None:
    precision = {"default": "int8", "stem": "float32"}
    space = SearchSpace.from_template({**TEMPLATE, "deploy": {"precision": precision}})
    assert precisions_of_modules(space.network([0])) == {"s0_conv": "float32"}
    precision = {"body": "int8"}
    space = SearchSpace.from_template({**TEMPLATE, "deploy": {"precision": precision}})
    assert precisions_of_modules(space.network([0])) == {"s0_conv": "float32", "s2_classifier": "float32"}
    assert precisions_of_modules(SPACE.network([0, 0, 1, 0])) == {}


def test_a_mixed_candidate_is_judged_by_a_mixed_file(task: ImageClassification) -> None:
    precision = {"default": HOLE, "last": "float32"}
    space = SearchSpace.from_template({**TEMPLATE, "deploy": {"precision": precision}})
    evaluate = DeployedEvaluate(training=TrainingEvaluate(space=space, task=task, recipe=Recipe()))
    whole = DeployedEvaluate(training=TrainingEvaluate(space=SPACE, task=task, recipe=Recipe()))
    mixed = evaluate(candidate(space=space, **{"deploy.precision": "int8"}))
    int8 = whole(candidate(**{"deploy.precision": "int8"}))
    assert mixed.status == "complete", mixed.error
    assert mixed.metrics["accuracy_float"] == int8.metrics["accuracy_float"]
    assert mixed.metrics["size_bytes"] != int8.metrics["size_bytes"]


@dataclass(frozen=True)
class Constant:
    """A predictor of so many ms for every row, with a bound of as many more."""

    ms: float

    def predict_ms(self, population: Population) -> NDArray[np.float64]:
        return np.full(len(population), self.ms)

    def upper_ms(self, population: Population, confidence: float) -> NDArray[np.float64]:
        return np.full(len(population), self.ms * (1 + confidence))


def by_precision(space: SearchSpace, **ms: float) -> ByPrecision:
    costs = PopulationCosts(space.undeployed, input_shape=SHAPE, num_classes=10)
    return ByPrecision(
        rows=DeployedRows(space), costs=costs, predictors={name: Constant(value) for name, value in ms.items()}
    )


def test_each_row_is_predicted_in_its_own_precision() -> None:
    rows = sample(SPACE, 50, np.random.default_rng(0))
    predictor = by_precision(SPACE, float32=3.0, int8=1.0)
    names = [SPACE.network(row).deployment.precision for row in rows]
    np.testing.assert_array_equal(predictor.predict_ms(rows), [3.0 if name == "float32" else 1.0 for name in names])
    np.testing.assert_allclose(predictor.upper_ms(rows, 0.9), 1.9 * predictor.predict_ms(rows))
    assert len(set(names)) == 2


def test_a_mixed_row_takes_each_stage_from_its_model_and_has_a_wider_bound() -> None:
    space = SearchSpace.from_template({**TEMPLATE, "deploy": {"precision": {"default": HOLE, "body": HOLE}}})
    rows = sample(space, 80, np.random.default_rng(0))
    predictor = by_precision(space, float32=3.0, int8=1.0)
    found, upper = predictor.predict_ms(rows), predictor.upper_ms(rows, 0.9)
    for row, value, bound in zip(rows, found, upper, strict=True):
        precisions = set(space.network(row).precisions)
        if len(precisions) == 1:
            assert value == pytest.approx(3.0 if precisions == {"float32"} else 1.0)
        else:
            assert MIXED_FACTOR < value < 3.0 * MIXED_FACTOR
            assert bound == pytest.approx(value / MIXED_FACTOR * MIXED_SPREAD * 1.9)
    # Equal models: how the stages are divided does not matter.
    equal = by_precision(space, float32=2.0, int8=2.0).predict_ms(rows)
    assert set(equal.round(9)) == {2.0, 2.0 * MIXED_FACTOR}


def test_predictors_of_what_is_built_and_memories_take_whole_rows() -> None:
    rows = sample(SPACE, 20, np.random.default_rng(0))
    costs = PopulationCosts(SPACE.undeployed, input_shape=SHAPE, num_classes=10)
    assert OfBuilt(rows=DeployedRows(SPACE), predictor=Constant(2.0)).predict_ms(rows).tolist() == [2.0] * 20
    found = Memories(deployed=DeployedCosts(space=SPACE, built=costs), devices=("board",)).costs(rows)
    np.testing.assert_array_equal(found["ram_bytes.board"], found["peak_activation_bytes"])
    np.testing.assert_array_equal(found["flash_bytes.board"], found["size_bytes"])


def run_search(folder: Path, resume: bool = False, **run: Any) -> Any:
    name = {"resume": str(folder / "run")} if resume else {"name": "run"}
    return search(
        space=SPACE,
        data=Digits(limit=300),
        device="raspberry-pi-5",
        strategy=RandomSearch(),
        runner=SerialRunner(),
        objectives=("accuracy", "compressed"),
        budget={"latency": "5 ms"},
        run=RunOptions(folder=str(folder), epochs=1, final_epochs=2, front=3, **name, **run),
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of four candidates, gone on with to six."""
    folder = tmp_path_factory.mktemp("deployed")
    run_search(folder, candidates=4)
    run_search(folder, resume=True, candidates=6)
    return folder / "run"


def records(folder: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def test_a_search_over_files_goes_on_where_it_stopped(searched: Path) -> None:
    found = records(searched)
    assert [record["index"] for record in found] == list(range(6))
    assert all(record["status"] == "complete" for record in found), [record["error"] for record in found]
    assert len({record["digest"] for record in found}) == 6
    for record in found:
        assert record["predicted"]["compressed_bytes"] < record["predicted"]["size_bytes"]
        assert "latency_ms.raspberry-pi-5" in record["upper"]


def test_finalists_are_shipped_as_they_chose_with_float_as_reference(searched: Path) -> None:
    front = read_front_csv(RunFolder(path=searched).front_file)
    assert len(front)
    for digest, rows in front.groupby("digest"):
        chosen = rows["deploy.precision"].iloc[0]
        assert set(rows["precision"]) == {"float32", chosen}
        reference = rows[rows["precision"] != chosen]
        assert not reference["accepted"].any()
        assert not reference["non_dominated"].any()
        assert all("reference of a network that ships as" in reason for reason in reference["reason"])
        model = load_model(searched / "models" / str(digest))
        network = model.architecture.network
        assert (network.digest, network.deployment.precision) == (digest, chosen)
        assert verify_model_folder(searched / "models" / str(digest))
    assert front["non_dominated"].any()


def test_the_architecture_file_holds_how_a_network_is_shipped(searched: Path) -> None:
    texts = [path.read_text() for path in sorted(searched.glob("models/*/architecture.yaml"))]
    assert any("deployment:" in text for text in texts)


def test_the_report_of_such_a_search_names_the_choices(searched: Path) -> None:
    page = (searched / "report.html").read_text()
    for text in ("deploy.precision", "deploy.width", "reference of a network that ships as"):
        assert text in page
