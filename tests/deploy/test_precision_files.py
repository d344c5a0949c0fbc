from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_transformer import trained_transformer

from nas.deploy.export import export_onnx
from nas.deploy.files import torch_logits
from nas.deploy.graph_checks import asymmetries, integer_kinds, is_symmetric, zero_points
from nas.deploy.judge import FileJudgement, judge_file
from nas.deploy.load import verify_model_folder
from nas.deploy.manifest import SCHEMA, read_manifest
from nas.deploy.model_folder import export_model
from nas.deploy.options import PRECISIONS, DeployOptions
from nas.deploy.precision.makers import make_file
from nas.deploy.quantise import quantise
from nas.deploy.records import Samples, TrainedNetwork, Training
from nas.errors import UserError
from nas.train.task import ImageClassification

UNSIGNED, SIGNED = DeployOptions(activations="unsigned"), DeployOptions(activations="signed")


class Case:
    """A float file, images, and what torch answers to them."""

    def __init__(self, path: Path, calibration: np.ndarray, test: np.ndarray, labels: np.ndarray, logits: np.ndarray):
        self.path, self.calibration = path, calibration
        self._known = (test, labels, logits)
        self.accuracy = float((logits.argmax(axis=1) == labels).mean())

    def judge(self, path: Path) -> FileJudgement:
        return judge_file(path, *self._known)


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory: pytest.TempPathFactory, trained: TrainedNetwork, samples: Samples) -> Case:
    path = tmp_path_factory.mktemp("convolutional") / "model.onnx"
    export_onnx(trained.module, (1, 12, 12), path)
    logits = torch_logits(trained.module.eval(), samples.test)
    return Case(path, samples.calibration, np.asarray(samples.test[:]), samples.test_labels, logits)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory, task: ImageClassification) -> Case:
    module = trained_transformer(task, epochs=9)
    path = tmp_path_factory.mktemp("transformer") / "model.onnx"
    export_onnx(module, (1, 8, 8), path)
    images = {
        part: task.normalise(task.pixels(part, (8, 8))).contiguous().numpy() for part in ("train", "validation", "test")
    }
    test = np.concatenate([images["validation"], images["test"]])
    labels = np.concatenate([task.labels("validation").numpy(), task.labels("test").numpy()])
    return Case(path, images["train"][:128], test, labels, torch_logits(module, test))


def made(
    case: Case, precision: str, path: Path, options: DeployOptions = UNSIGNED, **more: object
) -> dict[str, object]:
    record = make_file(precision, case.path, path, case.calibration, options, **more)  # type: ignore[arg-type]
    return record or {}


@pytest.mark.parametrize("options", [UNSIGNED, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize("precision", ["float16", "int8", "int8-dynamic", "int4"])
@pytest.mark.parametrize("kind", ["convolutional", "transformer"])
def test_a_file_of_each_precision_agrees_with_torch(
    kind: str, precision: str, options: DeployOptions, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    case: Case = request.getfixturevalue(kind)
    made(case, precision, tmp_path / "file.onnx", options)
    judged = case.judge(tmp_path / "file.onnx")
    assert case.accuracy > 0.85  # else agreement means nothing
    assert judged.agreement >= (0.995 if precision == "float16" else 0.95)
    assert judged.accuracy >= case.accuracy - 0.02
    assert judged.max_abs_error > 0


def test_int4_weights_with_an_int8_mix_make_the_transformer_five_times_smaller(
    transformer: Case, tmp_path: Path
) -> None:
    path = tmp_path / "int4.onnx"
    record = made(transformer, "int4", path)
    assert transformer.path.stat().st_size >= 5 * path.stat().st_size
    assert transformer.judge(path).accuracy > transformer.accuracy - 0.01
    assert record["operators"]["int4"] == 5  # type: ignore[index]  # qkv, proj, up, down and the head
    assert record["block"] == 32
    assert integer_kinds(onnx.load(path))["INT4"] == 5


def test_only_matrix_products_have_four_bits_and_the_rest_is_int8_or_float_as_asked(
    transformer: Case, tmp_path: Path
) -> None:
    made(transformer, "int4", tmp_path / "int8.onnx")
    made(transformer, "int4", tmp_path / "float.onnx", DeployOptions(int4_rest="float32"))
    assert "INT8" in integer_kinds(onnx.load(tmp_path / "int8.onnx"))
    assert set(integer_kinds(onnx.load(tmp_path / "float.onnx"))) == {"INT4"}


def test_a_float_rest_needs_no_calibration_images_and_an_int8_rest_asks_for_them(
    transformer: Case, tmp_path: Path
) -> None:
    options = DeployOptions(int4_rest="float32")
    record = make_file("int4", transformer.path, tmp_path / "a.onnx", None, options)
    assert record is not None
    assert (record["num_calibration_samples"], record["calibration_sha256"]) == (0, None)
    assert make_file("int8-dynamic", transformer.path, tmp_path / "b.onnx", None, options)
    with pytest.raises(UserError, match=r"calibration: must be images to find ranges on.*int8-dynamic"):
        make_file("int8", transformer.path, tmp_path / "c.onnx", None, options)
    assert not (tmp_path / "c.onnx").exists()


@pytest.mark.parametrize("kind", ["convolutional", "transformer"])
def test_the_signed_profile_has_zero_points_of_zero_and_no_integer_bias(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    case: Case = request.getfixturevalue(kind)
    made(case, "int8", tmp_path / "signed.onnx", SIGNED)
    made(case, "int8", tmp_path / "unsigned.onnx", UNSIGNED)
    signed, unsigned = onnx.load(tmp_path / "signed.onnx"), onnx.load(tmp_path / "unsigned.onnx")
    assert is_symmetric(signed)
    assert asymmetries(signed) == ()
    assert not any(points.any() for points in zero_points(signed).values())
    assert set(integer_kinds(signed)) == {"INT8"}
    assert not is_symmetric(unsigned)
    assert any("is a bias in 32 bit integers" in line for line in asymmetries(unsigned))
    assert any("has a zero point of" in line for line in asymmetries(unsigned))
    assert not is_symmetric(onnx.load(case.path))  # nothing to run in integers


def test_the_maker_and_quantise_write_the_same_int8_file(convolutional: Case, tmp_path: Path) -> None:
    record = made(convolutional, "int8", tmp_path / "a.onnx")
    quantise(convolutional.path, tmp_path / "b.onnx", convolutional.calibration, activations="unsigned")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert record["method"] == "minmax"
    assert record["num_calibration_samples"] == len(convolutional.calibration)
    assert "reverted" not in record


@pytest.mark.parametrize("precision", ["float16", "int8", "int8-dynamic", "int4"])
def test_equal_orders_give_equal_bytes(precision: str, transformer: Case, tmp_path: Path) -> None:
    made(transformer, precision, tmp_path / "a.onnx")
    made(transformer, precision, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def weights_of(path: Path, module: str) -> set[int]:
    """Types of the constants of two or more dimensions that a module's convolution or product reads."""
    graph = onnx.load(path).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    found = set()
    for node in graph.node:
        if node.name.startswith(f"/{module}/") and node.op_type in ("Conv", "MatMul", "MatMulInteger", "ConvInteger"):
            maker = made_by.get(node.input[1])
            name = maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else node.input[1]
            found |= {kinds[name]} if name in kinds else set()
    return found


STAGES = {"blocks/blocks.0/up": "float32", "blocks/blocks.0/down": "int8", "blocks/blocks.0/qkv": "int8-dynamic"}


def test_stages_have_the_precisions_that_they_were_given(transformer: Case, tmp_path: Path) -> None:
    path = tmp_path / "mixed.onnx"
    record = made(transformer, "int4", path, stages=STAGES)
    assert weights_of(path, "blocks/blocks.0/up") == {TensorProto.FLOAT}
    assert weights_of(path, "blocks/blocks.0/down") == {TensorProto.INT8}
    assert weights_of(path, "blocks/blocks.0/proj") == {TensorProto.INT4}
    assert "MatMulInteger" in {node.op_type for node in onnx.load(path).graph.node}
    assert record["stages"] == STAGES
    assert transformer.judge(path).agreement >= 0.97


def test_operators_that_are_kept_in_float_stay_there(convolutional: Case, tmp_path: Path) -> None:
    names = [node.name for node in onnx.load(convolutional.path).graph.node if node.op_type == "Conv"]
    made(convolutional, "int8", tmp_path / "kept.onnx", keep_float=[names[0]])
    graph = onnx.load(tmp_path / "kept.onnx").graph
    floats = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    in_float = {node.name for node in graph.node if node.op_type == "Conv" and node.input[1] in floats}
    assert in_float == {names[0]}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"stages": {"s9_conv": "float32"}}, r"stages: no stage named 's9_conv'.*Known: .*s0_conv"),
        ({"stages": {"s0_conv": "int2"}}, r"precision: no precision named 'int2'"),
        ({"keep_float": ["/s0_conv/Cov"]}, r"keep_float: no operator named"),
        ({"stages": {"s0_conv": "float16", "s1_inverted_residual": "int8-dynamic"}}, r"stages: must not mix float16"),
    ],
)
def test_what_cannot_be_asked_for_is_one_clear_line(
    more: dict[str, object], message: str, convolutional: Case, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        made(convolutional, "int8", tmp_path / "never.onnx", **more)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_unknown_precision_lists_the_known_ones(convolutional: Case, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no precision named 'int2'.*int8-dynamic"):
        made(convolutional, "int2", tmp_path / "never.onnx")


def test_a_network_without_anything_to_quantise_says_what_it_has(tmp_path: Path) -> None:
    shape = ["batch", 1, 4, 4]
    graph = helper.make_graph(
        [helper.make_node("Erf", ["input"], ["logits"])],
        "graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.zeros(1, np.float32), "unused")],
    )
    path = tmp_path / "erf.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    images = np.zeros((4, 1, 4, 4), np.float32)
    for precision in ("int8", "int8-dynamic", "int4"):
        with pytest.raises(UserError, match=r"erf\.onnx: has no operator that can be quantised, it has Erf"):
            make_file(precision, path, tmp_path / "never.onnx", images, UNSIGNED)


def test_a_model_folder_holds_a_judged_file_of_every_precision(
    trained: TrainedNetwork, samples: Samples, tmp_path: Path
) -> None:
    options = DeployOptions(precisions=PRECISIONS, activations="unsigned")
    exported = export_model(tmp_path, trained, samples, Training(epochs=1, seed=0, seconds=1.0), options)
    assert [file.precision for file in exported.files] == list(PRECISIONS)
    assert not exported.failed
    assert all(file.accepted for file in exported.files)
    manifest = read_manifest(exported.folder)
    jsonschema.validate(manifest, json.loads(SCHEMA.read_text()))
    made_as = {entry["precision"]: entry["quantisation"] for entry in manifest["files"]}
    assert made_as["float32"] is None
    assert made_as["int8-dynamic"]["num_calibration_samples"] == 0
    assert "INT4" in integer_kinds(onnx.load(exported.folder / "model.int4.onnx"))
    assert len(verify_model_folder(exported.folder)) == 1 + len(PRECISIONS)


def test_images_of_another_normalisation_cost_the_calibrated_files_and_nothing_else(
    trained: TrainedNetwork, samples: Samples, tmp_path: Path
) -> None:
    raw = dataclasses.replace(samples, calibration=samples.calibration * samples.std[0] + samples.mean[0])
    options = DeployOptions(precisions=("float32", "float16", "int8"), activations="unsigned")
    exported = export_model(tmp_path, trained, raw, Training(epochs=1, seed=0, seconds=1.0), options)
    assert [file.precision for file in exported.files] == ["float32", "float16"]
    assert exported.failed["int8"].startswith("calibration: must be normalised as the model's inputs")
