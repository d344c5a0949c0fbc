from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from nas.deploy.judge import judge_file, run_file, session
from nas.errors import UserError


def linear_file(path: Path, weight: np.ndarray) -> Path:
    """A file whose logits are ``input (n, k) @ weight (k, classes)``."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "w"], ["logits"])],
        "graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", weight.shape[0]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", weight.shape[1]])],
        [numpy_helper.from_array(weight.astype(np.float32), "w")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def test_accuracy_agreement_and_errors_are_those_of_hand_made_logits(tmp_path: Path) -> None:
    inputs = np.array([[4, 0], [0, 2], [3, 1], [1, 2]], np.float32)  # logits, as the file is the identity
    reference = np.array([[4, 0], [0, 2], [1, 3.5], [1, 2]], np.float32)
    judged = judge_file(linear_file(tmp_path / "f.onnx", np.eye(2)), inputs, np.array([0, 0, 0, 1]), reference, batch=3)
    assert judged.num_samples == 4
    assert judged.accuracy == 3 / 4
    assert judged.agreement == 3 / 4
    assert judged.max_abs_error == 2.5
    assert judged.relative_error == 2.5 / 4


def test_a_logit_that_is_not_finite_is_wrong_whatever_the_label(tmp_path: Path) -> None:
    path = linear_file(tmp_path / "f.onnx", np.array([[np.nan, np.nan]]))
    judged = judge_file(path, np.ones((2, 1), np.float32), np.array([0, 1]), np.array([[1.0, 0.0]] * 2))
    assert (judged.accuracy, judged.agreement, judged.max_abs_error) == (0, 0, np.inf)


def test_the_size_of_batches_makes_no_difference(tmp_path: Path) -> None:
    path = linear_file(tmp_path / "f.onnx", np.arange(6.0).reshape(2, 3))
    inputs = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    np.testing.assert_array_equal(run_file(path, inputs, batch=2), run_file(path, inputs, batch=7))


def test_no_samples_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one sample"):
        judge_file(tmp_path / "f.onnx", np.zeros((0, 1, 8, 8), np.float32), np.zeros(0, int), np.zeros((0, 2)))


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(100)])
def test_a_corrupt_file_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.onnx: cannot be loaded by onnxruntime") as caught:
        session(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.onnx: must be an ONNX file"):
        session(tmp_path / "gone.onnx")


def test_inputs_of_another_shape_are_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be run"):
        run_file(linear_file(tmp_path / "f.onnx", np.eye(2)), np.zeros((1, 3), np.float32))


def test_another_number_of_classes_is_a_users_error(tmp_path: Path) -> None:
    path = linear_file(tmp_path / "f.onnx", np.eye(2))
    with pytest.raises(UserError, match=r"must give \(1, 3\) logits"):
        judge_file(path, np.zeros((1, 2), np.float32), np.zeros(1, int), np.zeros((1, 3)))
