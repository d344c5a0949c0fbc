from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from nas.deploy.graph import lean, shorten_names, write_model

INPUTS = np.random.default_rng(0).normal(size=(3, 2, 4, 5)).astype(np.float32)


def model_of(nodes: list[NodeProto], constants: dict[str, np.ndarray], *, out_rank: int = 4) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 2, 4, 5])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None] * out_rank)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
        doc_string="made by a test",
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_version="1.2")


def run(model: ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": INPUTS})[0])


def copied_constant() -> ModelProto:
    nodes = [
        helper.make_node("Identity", ["c"], ["copy"]),
        helper.make_node("Add", ["input", "copy"], ["sum"], name="add"),
        helper.make_node("Mul", ["sum", "c"], ["logits"], name="mul"),
    ]
    return model_of(nodes, {"c": np.float32([2.0]), "unused": np.zeros(1000, np.float32)})


def test_a_lean_graph_computes_the_same_without_copies_leftovers_and_metadata() -> None:
    expected = run(copied_constant())
    model = lean(copied_constant())
    np.testing.assert_array_equal(run(model), expected)
    assert [node.name for node in model.graph.node] == ["add", "mul"]
    assert [tensor.name for tensor in model.graph.initializer] == ["c"]
    assert [entry.domain for entry in model.opset_import] == [""]
    assert (model.graph.doc_string, model.producer_version) == ("", "")


def test_leaning_twice_changes_nothing_more() -> None:
    once = lean(copied_constant()).SerializeToString(deterministic=True)
    assert lean(ModelProto.FromString(once)).SerializeToString(deterministic=True) == once


def test_a_copy_that_is_the_output_stays() -> None:
    model = lean(model_of([helper.make_node("Identity", ["c"], ["logits"])], {"c": np.ones((1, 1, 1, 1), np.float32)}))
    assert run(model) == 1


@pytest.mark.parametrize(
    ("axes", "keepdims", "pooled"), [([2, 3], 1, True), ([-1, -2], 1, True), ([2, 3], 0, False), ([1, 2], 1, False)]
)
def test_exactly_the_mean_over_height_and_width_becomes_a_pool(axes: list[int], keepdims: int, pooled: bool) -> None:
    def mean() -> ModelProto:
        node = helper.make_node("ReduceMean", ["input", "axes"], ["logits"], keepdims=keepdims)
        return model_of([node], {"axes": np.array(axes)}, out_rank=4 if keepdims else 2)

    model = lean(mean())
    assert (model.graph.node[0].op_type == "GlobalAveragePool") == pooled
    np.testing.assert_allclose(run(model), run(mean()), atol=1e-6)


def test_short_names_change_no_result_and_spare_what_is_to_be_kept() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "a/very/long/scale", "a/very/long/zero"], ["q0"], name="long"),
        helper.make_node("DequantizeLinear", ["q0", "a/very/long/scale", "a/very/long/zero"], ["back"], name="longer"),
        helper.make_node("Relu", ["back"], ["logits"], name="layer/relu"),
    ]
    constants = {"a/very/long/scale": np.float32(0.1), "a/very/long/zero": np.uint8(128)}
    expected = run(model_of(nodes, constants))
    model = shorten_names(model_of(nodes, constants), {"q0"})
    np.testing.assert_array_equal(run(model), expected)
    assert [node.name for node in model.graph.node] == ["", "", "layer/relu"]
    assert model.graph.node[0].output[0] == "q0"
    assert all(len(tensor.name) <= 3 for tensor in model.graph.initializer)
    names = [tensor.name for tensor in model.graph.initializer] + [n for node in model.graph.node for n in node.output]
    assert len(set(names)) == len(names) == 5


def test_a_graph_that_breaks_a_rule_is_not_written(tmp_path: Path) -> None:
    broken = model_of([helper.make_node("Relu", ["nowhere"], ["logits"])], {})
    (tmp_path / "f.onnx").write_bytes(b"old")
    with pytest.raises(onnx.checker.ValidationError):
        write_model(broken, tmp_path / "f.onnx")
    assert (tmp_path / "f.onnx").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f.onnx"]
