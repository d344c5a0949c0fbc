from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper, save
from torch import Tensor, nn

from nas.deploy.export import export_onnx
from nas.deploy.memory import activation_memory, peak_activation_bytes
from nas.deploy.quantise import quantise
from nas.deploy.records import ExportedModel
from nas.errors import UserError

FLOAT = 4


def graph_file(path: Path, nodes: list[NodeProto], widths: dict[str, tuple[int, int]], sizes: tuple[int, int]) -> Path:
    """A graph on row vectors; ``widths`` are the shapes of its weights, ``sizes`` of its input and output."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), name) for name, s in widths.items()]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in zip(("input", "logits"), sizes, strict=True)
    ]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def matmul(source: str, weight: str, target: str) -> NodeProto:
    return helper.make_node("MatMul", [source, weight], [target], name=target)


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 300), min_size=2, max_size=7))
def test_a_chain_needs_the_two_largest_neighbours(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    names = ["input", *(f"v{k}" for k in range(len(sizes) - 2)), "logits"]
    steps = range(len(sizes) - 1)
    nodes = [matmul(names[k], f"w{k}", names[k + 1]) for k in steps]
    weights = {f"w{k}": (sizes[k], sizes[k + 1]) for k in steps}
    path = graph_file(tmp_path_factory.mktemp("chain") / "f.onnx", nodes, weights, (sizes[0], sizes[-1]))
    memory = activation_memory(path)
    assert memory.peak_bytes == FLOAT * max(sizes[k] + sizes[k + 1] for k in steps)
    assert memory.arena_bytes >= memory.peak_bytes
    assert memory.num_tensors == len(sizes)


def test_a_skip_connection_stays_alive_over_its_branch_and_the_sum_is_written_over_it(tmp_path: Path) -> None:
    nodes = [
        matmul("input", "w0", "a"),
        matmul("a", "w1", "b"),
        matmul("b", "w2", "c"),
        helper.make_node("Add", ["a", "c"], ["d"]),
        matmul("d", "w3", "logits"),
    ]
    weights = {"w0": (8, 100), "w1": (100, 300), "w2": (300, 100), "w3": (100, 5)}
    path = graph_file(tmp_path / "f.onnx", nodes, weights, (8, 5))
    assert peak_activation_bytes(path) == FLOAT * (100 + 300 + 100)  # a, b and c; not a, c and d


def test_an_elementwise_operator_has_no_memory_of_its_own_unless_its_input_is_read_again(tmp_path: Path) -> None:
    def network(last: NodeProto) -> list[NodeProto]:
        return [matmul("input", "w0", "a"), helper.make_node("Sigmoid", ["a"], ["b"]), last]

    weights = {"w0": (8, 50)}
    chain = graph_file(tmp_path / "chain.onnx", network(helper.make_node("Tanh", ["b"], ["logits"])), weights, (8, 50))
    assert peak_activation_bytes(chain) == FLOAT * (8 + 50)
    again = network(helper.make_node("Sub", ["b", "a"], ["logits"]))
    assert peak_activation_bytes(graph_file(tmp_path / "again.onnx", again, weights, (8, 50))) == FLOAT * (50 + 50)


def test_the_callers_input_is_never_written_over(tmp_path: Path) -> None:
    path = graph_file(tmp_path / "f.onnx", [helper.make_node("Tanh", ["input"], ["logits"])], {}, (40, 40))
    assert peak_activation_bytes(path) == FLOAT * (40 + 40)


class Residual(nn.Module):
    """16 channels -> 48 -> depthwise 48 -> 16, with a skip connection, all at 8x8."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(16, 48, 1), nn.ReLU(), nn.Conv2d(48, 48, 3, padding=1, groups=48), nn.ReLU(), nn.Conv2d(48, 16, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


def exported_file(path: Path, *parts: nn.Module, channels: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        export_onnx(nn.Sequential(*parts), (channels, 8, 8), path)
    return path


def test_activations_are_fused_into_convolutions_and_blocked_layouts_are_understood(tmp_path: Path) -> None:
    convolutions = [nn.Conv2d(16, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 16, 3, padding=1), nn.ReLU()]
    path = exported_file(tmp_path / "f.onnx", *convolutions, *head(16), channels=16)
    assert peak_activation_bytes(path) == FLOAT * (16 + 128) * 64


def test_an_inverted_residual_needs_its_input_beside_both_expanded_maps(tmp_path: Path) -> None:
    path = exported_file(tmp_path / "f.onnx", nn.Conv2d(1, 16, 3, padding=1), Residual(), *head(16), channels=1)
    assert peak_activation_bytes(path) == FLOAT * (16 + 48 + 48) * 64


def test_values_in_int8_count_a_byte_each(tmp_path: Path) -> None:
    convolutions = [nn.Conv2d(16, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 16, 3, padding=1), nn.ReLU()]
    path = exported_file(tmp_path / "f.onnx", *convolutions, *head(16), channels=16)
    images = np.random.default_rng(0).normal(size=(8, 16, 8, 8)).astype(np.float32)
    quantise(path, tmp_path / "int8.onnx", images)
    assert peak_activation_bytes(tmp_path / "int8.onnx") == (16 + 128) * 64


def test_it_is_what_the_runtimes_allocator_hands_out(exported: ExportedModel, tmp_path: Path) -> None:
    for file in exported.files:
        allocated = allocated_bytes(file.path, tmp_path)
        # The allocator does not see the caller's input, and keeps the odd small tensor longer.
        assert file.peak_activation_bytes == pytest.approx(allocated, rel=0.03)


def allocated_bytes(path: Path, folder: Path) -> int:
    """Most bytes in use at the end of an operator over those in use before the first, from onnxruntime's profile."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    options.enable_mem_pattern, options.intra_op_num_threads = False, 1
    running = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    running.run(None, {"input": np.zeros((1, 1, 12, 12), np.float32)})
    events = json.loads(Path(running.end_profiling()).read_text())
    steps = [event["args"] for event in events if event["name"].endswith("_kernel_time")]
    if "mem_bytes_requested_in_use" not in steps[0]:
        pytest.skip("this onnxruntime does not profile memory")
    in_use = [int(step["mem_bytes_requested_in_use"]) for step in steps]
    return max(in_use) - (in_use[0] - int(steps[0]["mem_requested_in_use_delta"]))


def test_the_figure_is_the_same_each_time(exported: ExportedModel) -> None:
    for file in exported.files:
        assert len({activation_memory(file.path) for _ in range(10)}) == 1


def test_a_corrupt_and_a_missing_file_are_users_errors(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"broken\.onnx: cannot be analysed"):
        activation_memory(tmp_path / "broken.onnx")
    with pytest.raises(UserError, match=r"gone\.onnx: must be an ONNX file"):
        activation_memory(tmp_path / "gone.onnx")
