"""Targets that ship ONNX files and need nothing installed: onnxruntime and TensorRT."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nas.deploy.graph_checks import integer_kinds, is_symmetric
from nas.deploy.options import DeployOptions
from nas.deploy.quantise import quantise
from nas.deploy.targets.onnx_files import write_onnx
from nas.deploy.targets.onnxruntime import OnnxRuntime
from nas.deploy.targets.target import Source, gate
from nas.deploy.targets.tensorrt import TensorRt
from nas.errors import UserError

UNSIGNED = DeployOptions(activations="unsigned")


def with_int8(source: Source, path: Path, sign: str) -> Source:
    quantise(source.files["float32"], path, source.samples.calibration, activations=sign)  # type: ignore[arg-type]
    return dataclasses.replace(source, files={**source.files, "int8": path})


def with_operator(path: Path, operator: str) -> Path:
    """A file that onnxruntime runs, with an operator between input and output."""
    shape = ["batch", 1, 12, 12]
    graph = helper.make_graph(
        [
            helper.make_node(operator, ["input"], ["x"], name=f"/s0_odd/{operator}"),
            helper.make_node("Flatten", ["x"], ["logits"], name="/s1_flat/Flatten"),
        ],
        "odd",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def test_a_file_of_the_model_folder_is_taken_over_as_it_is(sources: Mapping[str, Source], tmp_path: Path) -> None:
    source = with_int8(sources["plain"], tmp_path / "folder.onnx", "unsigned")
    (tmp_path / "out").mkdir()
    artifact = OnnxRuntime().export(source, tmp_path / "out", "int8")
    assert artifact.path.name == "model.int8.onnx"
    assert artifact.path.read_bytes() == source.files["int8"].read_bytes()


def test_hard_swishes_and_gates_run_in_floats_between_8_bit_convolutions(sources: Mapping[str, Source]) -> None:
    found = OnnxRuntime(options=UNSIGNED).fallbacks(sources["depthwise"].files["float32"], "int8")
    assert {finding.operator for finding in found} == {"HardSigmoid"}
    assert {finding.effect for finding in found} == {"float"}
    places = {finding.node.split("/")[1] for finding in found}
    # The first block has a gate, the second hard-swishes; the stem has neither.
    assert places == {"s1_inverted_residual", "s2_inverted_residual"}
    assert not OnnxRuntime(options=UNSIGNED).fallbacks(sources["plain"].files["float32"], "int8")


def test_a_file_for_another_image_is_refused(sources: Mapping[str, Source], tmp_path: Path) -> None:
    source = sources["plain"]
    artifact = OnnxRuntime().export(source, tmp_path, "float32")
    model = onnx.load(artifact.path)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 16
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 16
    onnx.save(model, artifact.path)
    with pytest.raises(UserError, match="takes images 1 x 16 x 16, the samples are 1 x 12 x 12"):
        OnnxRuntime().verify(artifact, source)


def test_samples_of_another_shape_or_none_make_no_source(sources: Mapping[str, Source]) -> None:
    source = sources["plain"]
    with pytest.raises(UserError, match=r"data\.test: must be images 3 x 12 x 12 as the model takes them"):
        dataclasses.replace(source, input_shape=(3, 12, 12))
    nothing = dataclasses.replace(source.samples, test=np.zeros((0, 1, 12, 12), np.float32))
    with pytest.raises(UserError, match=r"data\.test: must hold at least one sample"):
        dataclasses.replace(source, samples=nothing)
    with pytest.raises(UserError, match=r"data\.test: must have one label and one row of logits an image"):
        dataclasses.replace(source, reference=source.reference[:-1])


def test_a_file_under_its_gate_says_why(sources: Mapping[str, Source], tmp_path: Path) -> None:
    source = sources["plain"]
    artifact = OnnxRuntime().export(source, tmp_path, "float32")
    model = onnx.load(artifact.path)
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    values = onnx.numpy_helper.to_array(weight) * 1.01
    weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), weight.name))
    onnx.save(model, artifact.path)
    found = OnnxRuntime().verify(artifact, source)
    assert not found.accepted
    assert "of the logits' range, must be at most 0.0001" in found.reason
    assert found.judgement is not None
    assert gate(found.judgement, "int8", UNSIGNED) == ""
    worse = dataclasses.replace(found.judgement, agreement=0.89)
    assert gate(worse, "int8", UNSIGNED).startswith("gives torch's class for 89.0% of the test samples")
    assert gate(worse, "int4", DeployOptions(min_agreement=0.85)) == ""
    assert gate(worse, "float32", DeployOptions(min_agreement=0.85)) != ""
    nan = dataclasses.replace(found.judgement, agreement=float("nan"))
    assert gate(nan, "int8", UNSIGNED) != ""


def test_a_chip_without_floats_gets_a_file_without_floats(sources: Mapping[str, Source], tmp_path: Path) -> None:
    source, folder_file = sources["plain"], tmp_path / "folder.onnx"
    left = next(node.name for node in onnx.load(source.files["float32"]).graph.node if node.op_type == "Conv")
    quantise(
        source.files["float32"], folder_file, source.samples.calibration, activations="unsigned", keep_float=[left]
    )
    source = dataclasses.replace(source, files={**source.files, "int8": folder_file})

    def convolutions_in_floats(**wanted: bool) -> list[str]:
        path = tmp_path / "made.onnx"
        write_onnx(source, "int8", path, UNSIGNED, activations="unsigned", **wanted)
        nodes = onnx.load(path).graph.node
        integers = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
        return [node.name for node in nodes if node.op_type == "Conv" and node.input[0] not in integers]

    assert convolutions_in_floats() == [left]
    assert convolutions_in_floats(whole=True) == []


@pytest.mark.parametrize("folder_sign", ["unsigned", "signed"])
def test_tensorrt_gets_symmetric_numbers_and_one_image_whatever_the_folder_holds(
    sources: Mapping[str, Source], tmp_path: Path, folder_sign: str
) -> None:
    source = with_int8(sources["depthwise"], tmp_path / "folder.onnx", folder_sign)
    (tmp_path / "out").mkdir()
    artifact = TensorRt(options=UNSIGNED).export(source, tmp_path / "out", "int8")
    model = onnx.load(artifact.path)
    assert is_symmetric(model)
    assert set(integer_kinds(model)) == {"INT8"}
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [1, 1, 12, 12]


def test_tensorrt_refuses_an_operator_that_it_lacks_and_leaves_nothing(
    sources: Mapping[str, Source], tmp_path: Path
) -> None:
    path = with_operator(tmp_path / "odd.onnx", "Det")
    (finding,) = TensorRt().fallbacks(path, "float32")
    assert (finding.operator, finding.effect, finding.node) == ("Det", "refused", "/s0_odd/Det")
    odd = dataclasses.replace(sources["plain"], files={"float32": path})
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"target tensorrt: cannot take the model, Det \(/s0_odd/Det\)"):
        TensorRt().export(odd, tmp_path / "out", "float32")
    assert list((tmp_path / "out").iterdir()) == []


def test_tensorrt_does_not_accept_a_file_with_zero_points(sources: Mapping[str, Source], tmp_path: Path) -> None:
    target, source = TensorRt(options=UNSIGNED), sources["plain"]
    artifact = target.export(source, tmp_path, "int8")
    quantise(source.files["float32"], artifact.path, source.samples.calibration, activations="unsigned")
    found = target.verify(artifact, source)
    assert not found.accepted
    assert found.judgement is not None
    assert found.judgement.agreement > 0.97, "its answers are right, TensorRT would refuse it all the same"


def test_a_script_that_bash_refuses_is_no_script(sources: Mapping[str, Source], tmp_path: Path) -> None:
    target, source = TensorRt(), sources["plain"]
    artifact = target.export(source, tmp_path, "float32")
    script = next(extra for extra in artifact.extras if extra.suffix == ".sh")
    script.write_text(script.read_text() + "\nif then\n")
    assert "is no valid script" in target.verify(artifact, source).reason


FAKE = """#!/usr/bin/env bash
# Stands for trtexec: answers what the file OUTPUT holds.
echo "$@" >> calls.txt
for argument in "$@"; do
    case "$argument" in
        --help) echo "  --stronglyTyped  Create a strongly typed network" ;;
        --saveEngine=*) touch "${argument#*=}" ;;
        --exportOutput=*) cp OUTPUT "${argument#*=}" ;;
    esac
done
echo "Latency: min = 1 ms"
"""


@pytest.mark.parametrize(("shift", "code"), [(0.0, 0), (100.0, 1)])
def test_the_script_builds_checks_the_answer_and_times(
    sources: Mapping[str, Source], tmp_path: Path, shift: float, code: int
) -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    artifact = TensorRt().export(sources["plain"], tmp_path, "int8")
    script = next(extra for extra in artifact.extras if extra.suffix == ".sh")
    logits = json.loads((tmp_path / "model.int8.logits.json").read_text())
    answer = [{"name": "logits", "dimensions": "1x10", "values": [logits[0] + shift, *logits[1:]]}]
    (tmp_path / "OUTPUT").write_text(json.dumps(answer))
    fake = tmp_path / "trtexec"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    done = subprocess.run([script], env={"PATH": "/usr/bin:/bin", "TRTEXEC": str(fake)}, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    calls = (tmp_path / "calls.txt").read_text()
    assert "--onnx=model.int8.onnx" in calls
    assert "--stronglyTyped" in calls
    raw = np.frombuffer((tmp_path / "model.int8.input.bin").read_bytes(), "<f4")
    assert np.array_equal(raw, sources["plain"].samples.test[:1].ravel())


def test_the_script_says_what_is_missing(sources: Mapping[str, Source], tmp_path: Path) -> None:
    artifact = TensorRt().export(sources["plain"], tmp_path, "float32")
    script = next(extra for extra in artifact.extras if extra.suffix == ".sh")
    done = subprocess.run([script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode == 2
    assert "trtexec is not found" in done.stderr
