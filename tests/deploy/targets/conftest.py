"""Two trained networks as every target gets them: a depthwise one with gates and hard-swish, and a plain one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from nas.deploy.export import export_onnx
from nas.deploy.files import torch_logits
from nas.deploy.records import Samples, TrainedNetwork
from nas.deploy.samples import samples_of
from nas.deploy.targets.target import Source
from nas.model.build import build
from nas.problem.evaluation import Fidelity
from nas.space import SearchSpace
from nas.train.fit import fit
from nas.train.recipe import Recipe
from nas.train.task import ImageClassification

CONV = {"op": "conv", "kernel": 3, "activation": "relu"}
PLAIN = {
    "name": "plain",
    "input": {"resolution": 12},
    "network": [
        {**CONV, "channels": 16},
        {**CONV, "channels": 32, "stride": 2},
        {**CONV, "channels": {"choose": [32, 48]}},
        {"op": "classifier"},
    ],
}
SHAPE = (1, 12, 12)


def _source(module: torch.nn.Module, samples: Samples, folder: Path) -> Source:
    folder.mkdir()
    path = folder / "model.fp32.onnx"
    export_onnx(module, SHAPE, path)
    module = module.cpu().eval()
    reference = torch_logits(module, samples.test)
    return Source(module=module, input_shape=SHAPE, samples=samples, reference=reference, files={"float32": path})


@pytest.fixture(scope="session")
def sources(
    tmp_path_factory: pytest.TempPathFactory, task: ImageClassification, trained: TrainedNetwork, samples: Samples
) -> Mapping[str, Source]:
    """Network's name -> what is exported; of both the float32 file only, so that targets make what they need."""
    folder = tmp_path_factory.mktemp("sources")
    space = SearchSpace.from_template(PLAIN)
    network = space.network(space.row({"2.channels": 32}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(network, input_shape=task.input_shape, num_classes=task.num_classes)
    fit(module, task, Recipe(), fidelity=Fidelity(epochs=4), seed=0, input_size=SHAPE[1:])
    plain = samples_of(task, network, num_calibration=128)
    return {
        "depthwise": _source(trained.module, samples, folder / "depthwise"),
        "plain": _source(module, plain, folder / "plain"),
    }
