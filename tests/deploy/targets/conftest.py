"""Two trained networks as every target gets them: a depthwise one with gates and hard-swish, and a plain one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch

from nas.deploy.export import export_onnx
from nas.deploy.files import torch_logits
from nas.deploy.records import Samples, TrainedNetwork
from nas.deploy.samples import samples_of
from nas.deploy.targets.registry import open_target
from nas.deploy.targets.target import Artifact, Source, Target, Verification
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


@pytest.fixture(scope="session")
def opened() -> Callable[[str], Target]:
    """Name -> its target with default options, one object for all tests: some start a converter that takes seconds."""
    return cache(open_target)


@pytest.fixture(scope="session")
def available(opened: Callable[[str], Target]) -> Callable[[str], Target]:
    """As `opened`, but skips where the target's runtime is not installed."""

    def find(name: str) -> Target:
        target = opened(name)
        if missing := target.available():
            pytest.skip(f"target {name}: {missing}")
        return target

    return find


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A file as a target made and judged it."""

    folder: Path
    artifact: Artifact
    found: Verification

    def copied(self, place: Path) -> Artifact:
        """The artifact in a copy that a test may break."""
        shutil.copytree(self.folder, place)
        path = place / self.artifact.path.relative_to(self.folder)
        extras = tuple(place / extra.relative_to(self.folder) for extra in self.artifact.extras)
        return replace(self.artifact, path=path, extras=extras)


@pytest.fixture(scope="session")
def shipped(
    available: Callable[[str], Target], sources: Mapping[str, Source], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str, str], Shipped]:
    """Target, precision, network -> its file, made once for all tests; skips where the target is not available."""

    @cache
    def make(name: str, precision: str, network: str) -> Shipped:
        target, folder = available(name), tmp_path_factory.mktemp(f"{name}-{precision}-{network}")
        artifact = target.export(sources[network], folder, precision)
        return Shipped(folder=folder, artifact=artifact, found=target.verify(artifact, sources[network]))

    return make


@pytest.fixture(scope="session")
def source(sources: Mapping[str, Source]) -> Source:
    """The depthwise network; the same object for all tests, as converters keep what they made of it."""
    return sources["depthwise"]
