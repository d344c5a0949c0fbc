"""Modules survive export, and fusion says what onnxruntime makes of them."""

from __future__ import annotations

import io
import platform
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from nas.model.build import build
from nas.model.costs import network_costs
from nas.model.fusion import fuse
from nas.model.shapes import InputShape, input_shape_of
from nas.model.trace import trace
from nas.space.load import load_space
from nas.space.moves import sample

SPACES = Path(__file__).parents[2] / "search_spaces"
RUNTIME_OVERHEAD = {"ReorderInput", "ReorderOutput", "Flatten"}


def built(name: str, seed: int, data: InputShape) -> tuple[nn.Module, InputShape]:
    """A random network of a space with lively statistics, in inference mode, and the shape that it takes."""
    space = load_space(SPACES / f"{name}.yaml")
    network = space.network(sample(space, 1, np.random.default_rng(seed))[0])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build(network, input_shape=data, num_classes=10).eval()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(std=0.1)
                part.running_var.uniform_(0.5, 2)
    return module, input_shape_of(network, data)


def exported(module: nn.Module, shape: InputShape) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter calls itself deprecated
        torch.onnx.export(
            module,
            (torch.zeros(2, *shape),),
            file,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["scores"],
            dynamic_axes={"x": {0: "n"}, "scores": {0: "n"}},
        )
    return file.getvalue()


def session(model: bytes, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", ["mobilenet-tiny", "nasbench-macro", "nasbench201", "resnet-tiny"])
@pytest.mark.parametrize("data", [(3, 16, 16), (1, 9, 9)], ids=["even", "odd"])
def test_an_exported_network_gives_what_torch_gives_for_any_batch(name: str, data: InputShape) -> None:
    module, shape = built(name, 11, data)
    run = session(exported(module, shape))
    for batch in (1, 3):
        x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            expected = module(x).numpy()
        np.testing.assert_allclose(run.run(None, {"x": x.numpy()})[0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="fusion is modelled on onnxruntime for x86")
@pytest.mark.parametrize("seed", range(4))
def test_kernels_are_those_of_the_optimised_graph(seed: int, tmp_path: Path) -> None:
    module, shape = built("mobilenet-tiny", seed, (3, 32, 32))
    session(exported(module, shape), tmp_path / "optimised.onnx")
    nodes = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    kinds = Counter(kernel.row.kind for kernel in fuse(trace(module, shape))[0])
    assert sum(count for op, count in nodes.items() if op not in RUNTIME_OVERHEAD) == sum(kinds.values())
    assert nodes["Conv"] == kinds["conv"] + kinds["pointwise"] + kinds["depthwise"]
    assert nodes["Mul"] == kinds["scale"]
    assert nodes["GlobalAveragePool"] == kinds["global_pool"]


@pytest.mark.parametrize("name", ["mobilenet-tiny", "nasbench201", "resnet-tiny"])
def test_the_estimated_size_is_near_that_of_the_exported_file(name: str) -> None:
    space = load_space(SPACES / f"{name}.yaml")
    row = sample(space, 1, np.random.default_rng(4))[0]
    costs = network_costs(space.network(row), input_shape=(3, 32, 32), num_classes=10)
    module, shape = built(name, 4, (3, 32, 32))
    assert len(exported(module, shape)) == pytest.approx(costs.size_bytes["float32"], rel=0.1)
