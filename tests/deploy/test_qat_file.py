"""INT8 files from trainings with rounding, and teachers in files."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from nas.deploy.export import export_onnx
from nas.deploy.judge import judge_file, run_file
from nas.deploy.qat import write_qat_file
from nas.deploy.teacher import OnnxTeacher, distillation_of
from nas.errors import UserError
from nas.problem.evaluation import Fidelity
from nas.train.compression.distillation import Distillation, DistilOptions
from nas.train.compression.fake_quantise import FakeQuantise, QuantisedLayer, quantised_weight
from nas.train.compression.options import CompressOptions
from nas.train.compression.qat import SettledRanges, prepare_qat
from nas.train.compression.teachers import TorchTeacher
from nas.train.fit import fit
from nas.train.judge import logits
from nas.train.recipe import Recipe

SHAPE = (1, 12, 12)


@pytest.fixture(scope="module")
def rounded(task, trained):
    """By profile: the network of the fixtures, trained on with rounding for an epoch."""
    images = task.images("train", (12, 12))[:128]
    made = {}
    for profile in ("unsigned", "signed"):
        made[profile] = prepare_qat(trained.module, images, profile=profile)
        fit(
            made[profile], task, Recipe(learning_rate=0.01), fidelity=Fidelity(epochs=1), seed=0,
            input_size=(12, 12), rules=[SettledRanges()],
        )  # fmt: skip
    return made


@pytest.mark.parametrize("profile", ["unsigned", "signed"])
def test_the_file_says_what_the_rounded_network_says(task, rounded, tmp_path, profile):
    path = tmp_path / "model.int8.onnx"
    assert write_qat_file(rounded[profile], SHAPE, path) == profile
    reference = logits(rounded[profile], task, "test", input_size=(12, 12)).numpy()
    images = task.images("test", (12, 12)).numpy()
    judged = judge_file(path, images, task.labels("test").numpy(), reference)
    assert judged.agreement >= 0.97
    assert judged.relative_error < 0.05
    again = tmp_path / "again.onnx"
    write_qat_file(rounded[profile], SHAPE, again)
    assert path.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("profile", ["unsigned", "signed"])
def test_scales_zero_points_and_weights_are_those_of_the_training(rounded, tmp_path, profile):
    path = tmp_path / "model.onnx"
    write_qat_file(rounded[profile], SHAPE, path)
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {
        (float(constants[node.input[1]]), int(constants[node.input[2]]))
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    }
    parts = list(rounded[profile].modules())
    settled = [part.scale_and_zero_point() for part in parts if isinstance(part, FakeQuantise)]
    assert found == {(float(scale), int(zero)) for scale, zero in settled}
    weights = [value for value in constants.values() if value.dtype == np.int8 and value.ndim > 1]
    layers = [part for part in parts if isinstance(part, QuantisedLayer)]
    assert sorted(value.shape for value in weights) == sorted(tuple(part.layer.weight.shape) for part in layers)
    first = next(part for part in layers if isinstance(part.layer, nn.Conv2d))
    restore = next(
        n for n in graph.node if n.op_type == "DequantizeLinear" and constants.get(n.input[0], np.zeros(0)).ndim == 4
    )
    integers, scale = constants[restore.input[0]], constants[restore.input[1]]
    expected = quantised_weight(first.folded()[0]).detach().numpy()
    np.testing.assert_allclose(integers * scale.reshape(-1, 1, 1, 1), expected, rtol=1e-6)


def test_a_signed_file_has_no_zero_point_and_no_rounded_bias(rounded, tmp_path):
    path = tmp_path / "model.onnx"
    write_qat_file(rounded["signed"], SHAPE, path)
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not np.any(constants[node.input[2]])
            assert constants[node.input[2]].dtype == np.int8
    assert not any(value.dtype == np.int32 for value in constants.values())


def test_an_unsigned_file_runs_in_the_runtimes_8_bit_kernels(rounded, tmp_path):
    path, seen = tmp_path / "model.onnx", tmp_path / "optimised.onnx"
    write_qat_file(rounded["unsigned"], SHAPE, path)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(seen)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(seen).graph.node)
    before = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert kinds["QLinearConv"] == before["Conv"] > 5
    assert kinds["QGemm"] == 1
    assert kinds["Conv"] == kinds["Gemm"] == kinds["Relu"] == kinds["Add"] == 0


class Products(nn.Module):
    """Matrix products of three dimensions, whose weights exporters transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 24)
        self.scores = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = nn.functional.gelu(self.mix(x.squeeze(1)))
        return self.scores(rows.mean(dim=1))


def test_matrix_products_keep_integer_weights(tmp_path):
    torch.manual_seed(0)
    images = torch.randn(64, 1, 8, 8)
    module = prepare_qat(Products().eval(), images).eval()
    path = tmp_path / "model.onnx"
    write_qat_file(module, (1, 8, 8), path)
    with torch.no_grad():
        expected = module(images).numpy()
    np.testing.assert_allclose(run_file(path, images.numpy()), expected, atol=0.05 * np.ptp(expected))
    graph = onnx.load(path).graph
    stored = [numpy_helper.to_array(tensor) for tensor in graph.initializer]
    assert {(8, 24), (10, 24)} == {value.shape for value in stored if value.dtype == np.int8 and value.ndim == 2}
    assert not any(value.dtype == np.float32 and value.ndim > 1 for value in stored)
    assert not any(node.op_type == "Transpose" for node in graph.node)


def test_a_network_without_rounding_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match="network: must round its values to be written as INT8"):
        write_qat_file(trained.module, SHAPE, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.fixture(scope="module")
def teacher_file(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.onnx"
    export_onnx(trained.module, SHAPE, path)
    return path


def test_a_teacher_in_a_file_says_what_it_says_in_torch_at_its_own_size(task, trained, teacher_file):
    teacher = OnnxTeacher(teacher_file, channels=1, num_classes=10)
    images = task.images("validation", (12, 12))[:37]
    with torch.no_grad():
        expected = trained.module(images)
    torch.testing.assert_close(teacher(images).logits, expected, rtol=1e-4, atol=1e-4)
    assert teacher(torch.zeros(3, 1, 20, 20)).logits.shape == (3, 10)
    assert teacher.map_shapes(images) == {}


def test_a_file_that_fixes_its_batch_teaches_batches_of_any_size(trained, teacher_file, tmp_path):
    model = onnx.load(teacher_file)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
        value.type.tensor_type.shape.dim[0].dim_value = 4
    fixed = tmp_path / "fixed.onnx"
    onnx.save(model, fixed)
    images = torch.randn(6, *SHAPE)
    both = [OnnxTeacher(path, channels=1, num_classes=10)(images).logits for path in (teacher_file, fixed)]
    torch.testing.assert_close(both[0], both[1], rtol=1e-4, atol=1e-4)


def test_a_file_teaches_a_training(task, teacher_file):
    pupil = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    distillation = Distillation(
        teacher=OnnxTeacher(teacher_file, channels=1, num_classes=10), options=DistilOptions(weight=1.0)
    )
    result = fit(pupil, task, Recipe(learning_rate=0.05), fidelity=Fidelity(epochs=2), seed=0, teacher=distillation)
    assert result.metrics["accuracy"] > 0.7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((3, 10), "must take 3 channels as the data has, it takes 1"),
        ((1, 7), r"must give 7 scores an image, got an output \(2, 10\)"),
    ],
)
def test_a_file_for_other_images_or_classes_is_refused(teacher_file, options, words):
    channels, num_classes = options
    with pytest.raises(UserError, match=f"compress.distil: teacher.onnx {words}"):
        OnnxTeacher(teacher_file, channels=channels, num_classes=num_classes)(torch.zeros(2, *SHAPE))


def test_a_configuration_names_a_teacher(trained, teacher_file, tmp_path, monkeypatch):
    (tmp_path / "their_nets.py").write_text(
        "from torch import nn\ndef big(): return nn.Sequential(nn.Flatten(), nn.Linear(144, 10))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    task = {"input_shape": SHAPE, "num_classes": 10}
    largest = TorchTeacher(trained.module)
    made = {
        name: distillation_of(
            CompressOptions(distil=name, temperature=2.0), **task, allow=("their_nets",), largest=largest
        )
        for name in ("none", "largest", "their_nets:big", str(teacher_file))
    }
    assert made.pop("none") is None
    assert made["largest"].teacher is largest
    assert [type(entry.teacher).__name__ for entry in made.values()] == ["TorchTeacher", "TorchTeacher", "OnnxTeacher"]
    assert all(entry.options.temperature == 2.0 for entry in made.values())
    assert distillation_of(CompressOptions(distil="largest"), **task) is None
    with pytest.raises(UserError, match=r"their_nets:big\(\) cannot take images \(1, 8, 8\)"):
        distillation_of(
            CompressOptions(distil="their_nets:big"), input_shape=(1, 8, 8), num_classes=10, allow=("their_nets",)
        )


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"compress\.distil: must name a file, there is no .*no.onnx"):
        OnnxTeacher(tmp_path / "no.onnx", channels=1, num_classes=10)
