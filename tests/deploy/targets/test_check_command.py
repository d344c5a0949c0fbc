"""`nas check` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from nas.cli.check import run_check
from nas.commands.check_subjects import draw_covering
from nas.commands.locate_space import find_space
from nas.errors import UserError
from nas.space import SearchSpace

SPACE: dict[str, Any] = {
    "name": "small",
    "network": [
        {"op": "conv", "channels": 8, "activation": "relu"},
        {
            "op": "inverted_residual",
            "channels": 8,
            "expansion": 2,
            "activation": {"choose": ["relu", "hardswish"], "name": "activation"},
            "kernel": {"choose": [3, 5], "name": "kernel"},
        },
        {"op": "classifier"},
    ],
}


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    return path


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A file with an operator that TensorRT lacks."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Det", ["input"], ["logits"], name="/s0_odd/Det")],
        "odd",
        [value("input", TensorProto.FLOAT, ["batch", 1, 4, 4])],
        [value("logits", TensorProto.FLOAT, ["batch", 1])],
    )
    path = tmp_path / "odd.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_choice_that_brings_an_operator_in_is_named(space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"space={space}", "samples=4", "input=1x8x8", "classes=10", "precisions=[int8]"]
    assert run_check([*arguments, "deploy.activations=unsigned", "--json"]) == 0, "running in floats is no failure"
    result = events(capsys)[-1]
    (checked,) = result["targets"]
    (finding,) = checked["findings"]
    assert (checked["target"], checked["precision"], checked["models"]) == ("onnxruntime", "int8", 4)
    assert (finding["operator"], finding["effect"], finding["models"]) == ("HardSigmoid", "float", 2)
    (cause,) = finding["causes"]
    assert cause["conditions"] == {"activation": "hardswish"}
    assert cause["choices"] == ["1.activation"]
    assert cause["always"]


def test_the_table_reads_as_sentences(space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"space={space}", "samples=4", "input=1x8x8", "classes=10", "precisions=[int8]"]
    assert run_check([*arguments, "target=[onnxruntime,tensorrt]", "deploy.activations=unsigned"]) == 0
    out = capsys.readouterr().out
    assert "small  4 of 4 architectures on 1x8x8, 4 of 4 options seen" in out
    assert "inverted_residual with activation hardswish, chosen by 1.activation" in out
    assert "tensorrt  int8  every operator of 4 models runs as it should" in out


def test_an_operator_that_is_refused_fails_the_check(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_check([f"run={odd}", "target=tensorrt", "precisions=[float32]"]) == 1
    out = capsys.readouterr().out
    assert "Det  refused, in 1 of 1 model: has" not in out
    assert "Det  refused, in 1 of 1 model" in out
    assert "e.g. /s0_odd/Det" in out
    assert "not run here" in out


def test_a_target_that_cannot_be_asked_costs_its_own_lines_only(
    space: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "nas.deploy.targets.extras.Extra.missing",
        lambda extra: f"{extra.name} is gone; pip install 'nas[{extra.name}]'",
    )
    arguments = [f"space={space}", "samples=1", "input=1x8x8", "classes=10", "precisions=[int8]"]
    assert run_check([*arguments, "target=[openvino,tensorrt]"]) == 1
    out = capsys.readouterr().out
    assert "openvino  int8  not checked: openvino is gone; pip install 'nas[openvino]'" in out
    assert "tensorrt  int8  every operator of 1 model runs as it should" in out
    with pytest.raises(UserError, match="openvino is gone"):
        run_check([*arguments, "target=openvino"])


def test_few_samples_say_what_they_do_not_show(space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"space={space}", "samples=1", "input=1x8x8", "classes=10", "precisions=[float32]"]
    assert run_check(arguments) == 0
    out = capsys.readouterr().out
    assert "2 of 4 options seen" in out
    assert "2 options are in none of the architectures" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["target=openvin"], "no target named 'openvin'; did you mean openvino"),
        (["target=[]"], "target: must name at least one target"),
        (["target=qnn", "precisions=[float32]"], "no precision of target qnn named 'float32'"),
        (["samples=0"], "samples: must be a whole number of at least 1"),
        (["input=3x32x32"], "input: must be given together with classes"),
        (["input=3x32", "classes=10"], "input: must be channels x height x width"),
        (["spcae=x"], "no field named 'spcae'; did you mean space"),
        (["run=nowhere"], "run: nowhere must be a run folder with models, a model folder or an ONNX file"),
        (["run=pyproject.toml"], "pyproject.toml: must be an ONNX file, it is none"),
        (["--dry-run"], "no option named '--dry-run'"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], text: str) -> None:
    with pytest.raises(UserError, match=text.replace("(", r"\(")) as caught:
        run_check(arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mobilenet-tiny", "nasbench201", "resnet-tiny"])
def test_a_few_architectures_show_every_option_of_a_shipped_space(name: str) -> None:
    rows, hidden = draw_covering(find_space(name), 12, np.random.default_rng(0))
    assert len(rows) == 12
    assert hidden == 0
    assert len(np.unique(rows, axis=0)) == 12


def test_a_small_space_is_drawn_whole() -> None:
    rows, hidden = draw_covering(SearchSpace.from_template(SPACE), 16, np.random.default_rng(0))
    assert (len(rows), hidden) == (4, 0)
