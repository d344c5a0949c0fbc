"""Candidates that are trained: what is recorded of good and of bad ones."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import cloudpickle
import numpy as np
import pytest
import torch
from torch import nn

from nas.errors import UserError
from nas.model.costs import network_costs
from nas.problem.evaluation import Candidate, Fidelity
from nas.space.space import SearchSpace
from nas.train.evaluate import TrainingEvaluate
from nas.train.recipe import Recipe
from nas.train.weights import load_weights

TEMPLATE = {
    "name": "tiny",
    "input": {"resolution": {"choose": [8, 6]}},
    "network": [
        {"op": "conv", "channels": {"choose": [8, 16], "name": "width"}, "kernel": 3, "activation": "relu"},
        {"op": "conv", "channels": 16, "kernel": 3, "stride": 2, "activation": "relu"},
        {"op": "classifier"},
    ],
}


class Raising(nn.Module):
    """A custom operator that fails when it is used on real tensors of a training."""

    def __init__(self, in_channels: int, message: str = "no more\nof this") -> None:
        super().__init__()
        self.message = message

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise RuntimeError(self.message)
        return x


class Interrupting(Raising):
    """A custom operator during which the user interrupts."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise KeyboardInterrupt
        return x


class Exploding(Raising):
    """A custom operator that gives NaN."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * float("nan")


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SearchSpace.from_template(TEMPLATE)


@pytest.fixture
def evaluate(space, few_digits) -> TrainingEvaluate:
    return TrainingEvaluate(space=space, task=few_digits, recipe=Recipe())


def candidate(space: SearchSpace, row=(0, 0), *, epochs: int = 2, seed: int = 5) -> Candidate:
    return Candidate(
        index=0,
        architecture=space.architecture(np.array(row[: space.num_choices])),
        fidelity=Fidelity(epochs=epochs),
        seed=seed,
        predicted={"latency_ms.here": 0.25},
    )


def with_operator(few_digits, name: str) -> tuple[TrainingEvaluate, Candidate]:
    operator = {"op": f"{__name__}.{name}"}
    template = {"name": "odd", "network": [TEMPLATE["network"][1], operator, {"op": "classifier"}]}
    space = SearchSpace.from_template(template)
    evaluate = TrainingEvaluate(space=space, task=few_digits, recipe=Recipe(), allow=(__name__,))
    return evaluate, candidate(space, ())


def test_a_complete_evaluation_holds_what_was_judged_and_counted(evaluate, space, few_digits):
    asked = candidate(space)
    got = evaluate(asked)
    assert (got.status, got.error, got.candidate) == ("complete", "", asked)
    network = space.network(asked.architecture.row)
    costs = network_costs(network, input_shape=few_digits.input_shape, num_classes=10)
    assert got.metrics["macs"] == costs.macs
    assert got.metrics["parameters"] == costs.parameters
    assert got.metrics["size_bytes"] == costs.size_bytes["float32"]
    assert got.metrics["peak_activation_bytes"] == costs.peak_activation_bytes
    assert 0 < got.metrics["accuracy"] <= 1
    assert "latency_ms.here" not in got.metrics
    assert all(type(value) is float for value in got.metrics.values())


def test_a_complete_evaluation_says_where_and_when(evaluate, space):
    before = datetime.now(UTC)
    got = evaluate(candidate(space))
    assert got.worker.endswith(f":{os.getpid()}")
    finished = datetime.fromisoformat(got.finished)
    assert finished.tzinfo is not None
    assert (finished - before).total_seconds() >= got.seconds - 0.01 > 0


def test_the_seed_of_the_candidate_decides_all(evaluate, space):
    torch.manual_seed(0)
    first = evaluate(candidate(space))
    torch.manual_seed(1)
    again, other = evaluate(candidate(space)), evaluate(candidate(space, seed=6))
    assert first.metrics == again.metrics
    assert first.metrics["loss"] != other.metrics["loss"]


def test_a_network_that_does_not_fit_is_infeasible(few_digits):
    space = SearchSpace.from_template({"name": "headless", "network": [TEMPLATE["network"][1]]})
    got = TrainingEvaluate(space=space, task=few_digits, recipe=Recipe())(candidate(space, ()))
    assert got.status == "infeasible"
    assert got.error.startswith("DoesNotFit: ")
    assert got.metrics == {}


def test_a_candidate_that_raises_is_failed_with_one_line(few_digits):
    evaluate, asked = with_operator(few_digits, "Raising")
    got = evaluate(asked)
    assert (got.status, got.error) == ("failed", "RuntimeError: no more")


def test_a_candidate_that_diverges_is_failed_with_the_reason(few_digits):
    evaluate, asked = with_operator(few_digits, "Exploding")
    got = evaluate(asked)
    assert got.status == "failed"
    assert got.error == "DivergenceError: the loss is nan at step 1 of epoch 1"


def test_an_operator_that_is_not_allowed_or_not_there_is_failed(few_digits):
    evaluate, asked = with_operator(few_digits, "Raising")
    assert replace(evaluate, allow=())(asked).status == "failed"
    evaluate, asked = with_operator(few_digits, "Gone")
    got = evaluate(asked)
    assert got.status == "failed"
    assert "Gone" in got.error


def test_an_interrupt_passes(few_digits):
    evaluate, asked = with_operator(few_digits, "Interrupting")
    with pytest.raises(KeyboardInterrupt):
        evaluate(asked)


def test_a_training_past_its_time_is_a_timeout(evaluate, space):
    got = replace(evaluate, time_limit_seconds=0.2)(candidate(space, epochs=5000))
    assert got.status == "timeout"
    assert "of 5000, after 0." in got.error
    assert "of 0.2 s" in got.error
    assert 0.2 <= got.seconds < 5


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), "10 s"])
def test_a_time_limit_that_is_none_is_refused(evaluate, limit):
    with pytest.raises(UserError, match="time_limit_seconds: must be a number above 0"):
        replace(evaluate, time_limit_seconds=limit)


def test_the_same_architecture_goes_on_from_a_lower_fidelity(evaluate, space, tmp_path):
    saving = replace(evaluate, checkpoints=tmp_path)
    saving(candidate(space, epochs=2))
    files = list(tmp_path.iterdir())
    assert len(files) == 1
    limited = replace(saving, recipe=evaluate.recipe)(candidate(space, epochs=3))
    assert limited.status == "complete"
    assert list(tmp_path.iterdir()) == files
    assert limited.metrics["loss"] != evaluate(candidate(space, epochs=3)).metrics["loss"]


def test_weights_are_left_where_asked_and_give_the_judged_accuracy(evaluate, space, few_digits, tmp_path):
    from nas.model.shapes import input_shape_of
    from nas.train.judge import judge

    asked = candidate(space, (1, 0))
    got = replace(evaluate, weights=tmp_path, judge_on="test")(asked)
    network = space.network(asked.architecture.row)
    module = evaluate.build(network, seed=0)
    load_weights(module, tmp_path / f"{asked.architecture.digest}.safetensors")
    size = input_shape_of(network, few_digits.input_shape)[1:]
    assert size == (6, 6)
    assert judge(module, few_digits, "test", input_size=size)["accuracy"] == got.metrics["accuracy"]


def test_a_fresh_process_evaluates_to_the_same_metrics(evaluate, space, tmp_path):
    asked = candidate(space)
    job = tmp_path / "job"
    job.write_bytes(cloudpickle.dumps((evaluate, asked)))
    code = "import pickle, sys; work, c = pickle.load(open(sys.argv[1], 'rb')); print(dict(work(c).metrics))"
    done = subprocess.run([sys.executable, "-c", code, str(job)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(dict(evaluate(asked).metrics))
    assert done.stderr == ""
