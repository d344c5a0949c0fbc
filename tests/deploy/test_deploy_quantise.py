from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.deploy import quantise as module_under_test
from nas.deploy.export import export_onnx
from nas.deploy.files import torch_logits
from nas.deploy.judge import judge_file
from nas.deploy.precision import calibration
from nas.deploy.quantise import host_activations, quantise
from nas.deploy.records import Samples, TrainedNetwork
from nas.errors import UserError


@pytest.fixture(scope="module")
def path_float32(tmp_path_factory: pytest.TempPathFactory, trained: TrainedNetwork) -> Path:
    path = tmp_path_factory.mktemp("float32") / "model.onnx"
    export_onnx(trained.module, (1, 12, 12), path)
    return path


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
@pytest.mark.parametrize("activations", ["unsigned", "signed"])
def test_accuracy_stays_within_three_points_of_torch(
    tmp_path: Path, path_float32: Path, trained: TrainedNetwork, samples: Samples, activations: str, method: str
) -> None:
    path = tmp_path / "int8.onnx"
    quantise(path_float32, path, samples.calibration, activations=activations, method=method)
    reference = torch_logits(trained.module.eval(), samples.test)
    accuracy = (reference.argmax(axis=1) == samples.test_labels).mean()
    judgement = judge_file(path, samples.test, samples.test_labels, reference)
    assert accuracy > 0.85  # else the comparison below means nothing
    assert judgement.accuracy >= accuracy - 0.03
    assert judgement.agreement >= 0.95
    assert judgement.max_abs_error > 0  # it is quantised, and not the float network again


def constants(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


@pytest.mark.parametrize(("activations", "kind"), [("signed", np.int8), ("unsigned", np.uint8)])
def test_signed_activations_have_zero_points_of_zero_and_unsigned_ones_do_not(
    tmp_path: Path, path_float32: Path, samples: Samples, activations: str, kind: type
) -> None:
    path = tmp_path / "int8.onnx"
    quantise(path_float32, path, samples.calibration, activations=activations)
    values = constants(path)
    quantisers = [node for node in onnx.load(path).graph.node if node.op_type == "QuantizeLinear"]
    points = [values[node.input[2]] for node in quantisers]
    assert {point.dtype for point in points} == {np.dtype(kind)}
    assert any(point != 0 for point in points) == (activations == "unsigned")


def test_convolution_weights_are_int8_with_a_scale_an_output_channel(
    tmp_path: Path, path_float32: Path, samples: Samples
) -> None:
    path = tmp_path / "int8.onnx"
    quantise(path_float32, path, samples.calibration)
    values = constants(path)
    nodes = onnx.load(path).graph.node
    made_by = {node.output[0]: node for node in nodes}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert len(convolutions) == 9  # stem, three of each block, two of the squeeze-excite
    for node in convolutions:
        weight, scale = (values[name] for name in made_by[node.input[1]].input[:2])
        assert weight.dtype == np.int8
        assert scale.shape == (len(weight),)


def test_the_file_is_much_smaller_than_float32(tmp_path: Path, path_float32: Path, samples: Samples) -> None:
    quantise(path_float32, tmp_path / "int8.onnx", samples.calibration)
    assert (tmp_path / "int8.onnx").stat().st_size < 0.75 * path_float32.stat().st_size


def test_ranges_are_those_of_all_images_in_whatever_order_and_batches(
    tmp_path: Path, path_float32: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = samples.calibration[:60]
    quantise(path_float32, tmp_path / "a.onnx", images)
    quantise(path_float32, tmp_path / "b.onnx", images[::-1])
    monkeypatch.setattr(calibration, "_MAX_BATCH", 1)
    quantise(path_float32, tmp_path / "c.onnx", images)
    quantise(path_float32, tmp_path / "d.onnx", images[:1])
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "c.onnx").read_bytes()
    assert (tmp_path / "a.onnx").read_bytes() != (tmp_path / "d.onnx").read_bytes()


@given(count=st.integers(1, 400))
def test_calibration_batches_are_equal_bounded_and_hold_every_image_once(count: int) -> None:
    reader = calibration.Reader(np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1), "input")
    batches = []
    while (feeds := reader.get_next()) is not None:
        batches.append(feeds["input"])
    assert {len(batch) for batch in batches} == {reader.batch}
    assert reader.batch <= 32
    np.testing.assert_array_equal(np.concatenate(batches).ravel(), np.arange(count))


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_nothing_is_printed_or_logged_and_no_file_or_handler_is_left(
    tmp_path: Path,
    path_float32: Path,
    samples: Samples,
    method: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary, target = tmp_path / "temporary", tmp_path / "target"
    temporary.mkdir()
    target.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    quantise(path_float32, target / "int8.onnx", samples.calibration[:32], method=method)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert (list(root.handlers), root.level) == (handlers, level)
    assert not list(temporary.iterdir())
    assert [path.name for path in target.iterdir()] == ["int8.onnx"]


def test_the_method_that_ruins_depthwise_networks_is_not_offered(path_float32: Path, samples: Samples) -> None:
    with pytest.raises(UserError, match=r"deploy\.method: .*distribution.*minmax"):
        quantise(path_float32, path_float32, samples.calibration, method="distribution")  # type: ignore[arg-type]


def test_an_unknown_sign_is_refused(path_float32: Path, samples: Samples) -> None:
    with pytest.raises(UserError, match=r"did you mean unsigned"):
        quantise(path_float32, path_float32, samples.calibration, activations="unsinged")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "rule"),
    [
        (np.zeros((0, 1, 12, 12), np.float32), "must hold at least one image, got none"),
        (np.zeros((4, 1, 8, 8), np.float32), r"must be images \(n, 1, 12, 12\), got \(4, 1, 8, 8\)"),
        (np.full((4, 1, 12, 12), np.nan, np.float32), "must be finite"),
    ],
)
def test_calibration_images_that_do_not_fit_are_refused(path_float32: Path, images: np.ndarray, rule: str) -> None:
    with pytest.raises(UserError, match=rule):
        quantise(path_float32, path_float32.with_name("never.onnx"), images)
    assert not path_float32.with_name("never.onnx").exists()


@pytest.mark.parametrize(("machine", "sign"), [("x86_64", "unsigned"), ("AMD64", "unsigned"), ("arm64", "signed")])
def test_the_sign_follows_the_processor(machine: str, sign: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test.platform, "machine", lambda: machine)
    assert host_activations() == sign
