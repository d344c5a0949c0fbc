"""A small network, really trained on digits, and its model folder; made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nas.deploy.model_folder import export_model
from nas.deploy.options import DeployOptions
from nas.deploy.records import ExportedModel, Samples, TrainedNetwork, Training
from nas.deploy.samples import samples_of
from nas.model.build import build
from nas.model.costs import network_costs
from nas.problem.evaluation import Fidelity
from nas.space import SearchSpace
from nas.train.data.digits import Digits
from nas.train.fit import fit
from nas.train.recipe import Recipe
from nas.train.task import ImageClassification, image_classification

BLOCK = {
    "op": "inverted_residual",
    "channels": 16,
    "kernel": 3,
    "expansion": 3,
    "activation": {"choose": ["relu", "hardswish"]},
    "squeeze_excite": True,
}
TEMPLATE = {
    "name": "tests",
    "input": {"resolution": {"choose": [8, 12], "name": "resolution"}},
    "network": [
        {"op": "conv", "channels": 16, "kernel": 3, "activation": "relu"},
        BLOCK,
        {**BLOCK, "channels": 24, "stride": 2, "kernel": 5, "squeeze_excite": False},
        {"op": "classifier"},
    ],
}


@pytest.fixture(scope="session")
def task() -> ImageClassification:
    return image_classification(Digits().load())


@pytest.fixture(scope="session")
def trained(task: ImageClassification) -> TrainedNetwork:
    """About 95 % on digits; takes images of 12x12 pixels, so that the data is resized for it."""
    space = SearchSpace.from_template(TEMPLATE)
    row = space.row({"resolution": 12, "1.activation": "relu", "2.activation": "hardswish"})
    network = space.network(row)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(network, input_shape=task.input_shape, num_classes=task.num_classes)
    fit(module, task, Recipe(), fidelity=Fidelity(epochs=4), seed=0, input_size=(12, 12))
    costs = network_costs(network, input_shape=task.input_shape, num_classes=task.num_classes)
    return TrainedNetwork(
        module=module,
        network=network,
        architecture=space.architecture(row),
        space=space.name,
        space_digest=space.digest,
        macs=costs.macs,
        parameters=costs.parameters,
    )


@pytest.fixture(scope="session")
def samples(task: ImageClassification, trained: TrainedNetwork) -> Samples:
    return samples_of(task, trained.network, num_calibration=128)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, trained: TrainedNetwork, samples: Samples) -> ExportedModel:
    models: Path = tmp_path_factory.mktemp("run") / "models"
    training = Training(epochs=4, seed=0, seconds=2.5, validation_accuracy=0.95, recipe={"rate": 0.1})
    # Signed activations would be meant for another processor: the suite is to pass on any.
    options = DeployOptions(activations="unsigned")
    return export_model(models, trained, samples, training, options, command="nas search", licence="Apache-2.0")
