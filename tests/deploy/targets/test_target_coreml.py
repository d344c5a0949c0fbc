"""Core ML: packages are what was asked for, as far as that can be seen without Core ML."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nas.deploy.targets.coreml import COREML, TABLE, _left, _misfit
from nas.deploy.targets.coreml_operators import OPERATORS
from nas.deploy.targets.fallbacks import by_table
from nas.deploy.targets.target import Source, Target
from nas.errors import UserError

needs_coreml = pytest.mark.skipif(bool(COREML.missing()), reason=COREML.missing())
Ship = Callable[[str, str, str], Any]


@pytest.fixture(scope="module")
def target(opened: Callable[[str], Target]) -> Target:
    return opened("coreml")


def images(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 4])
def test_a_convolution_of_the_intermediate_language_is_torchs(stride: int, groups: int) -> None:
    layer = nn.Conv2d(4, 8, 3, stride=stride, padding=1, groups=groups)
    x = images(1, 4, 7, 7)
    given = OPERATORS["conv"](
        {
            "x": x,
            "weight": layer.weight.detach(),
            "bias": layer.bias.detach() if layer.bias is not None else None,
            "strides": np.array([stride, stride]),
            "pad_type": "custom",
            "pad": np.array([1, 1, 1, 1]),
            "dilations": np.array([1, 1]),
            "groups": np.int32(groups),
        }
    )
    torch.testing.assert_close(given, layer(x).detach())


@pytest.mark.parametrize(("size", "stride", "sides"), [(7, 2, (1, 1)), (8, 2, (0, 1)), (5, 1, (1, 1))])
def test_padding_same_puts_the_odd_pixel_behind(size: int, stride: int, sides: tuple[int, int]) -> None:
    x, kernel = images(1, 1, size, size), images(1, 1, 3, 3)
    given = OPERATORS["conv"]({"x": x, "weight": kernel, "strides": np.array([stride] * 2), "pad_type": "same"})
    wanted = functional.conv2d(functional.pad(x, (*sides, *sides)), kernel, stride=stride)
    torch.testing.assert_close(given, wanted)


def test_a_hard_swish_is_spelt_by_three_operators() -> None:
    x = images(1, 4, 3, 3) * 4
    kept = OPERATORS["thresholded_relu"]({"x": x, "alpha": np.float32(-3)})
    gate = OPERATORS["sigmoid_hard"]({"x": kept, "alpha": np.float32(1 / 6), "beta": np.float32(0.5)})
    torch.testing.assert_close(OPERATORS["mul"]({"x": kept, "y": gate}), functional.hardswish(x))


def test_values_that_are_quantised_and_back_are_off_by_half_a_step_and_clipped() -> None:
    x = torch.tensor([[-2.0, -0.126, 0.0, 0.3, 5.0]])
    steps = OPERATORS["quantize"]({"input": x, "scale": np.float32(0.01), "output_dtype": "int8"})
    assert steps.tolist() == [[-128.0, -13.0, 0.0, 30.0, 127.0]]
    back = OPERATORS["dequantize"]({"input": steps, "scale": np.float32(0.01)})
    torch.testing.assert_close(back[:, 1:4], x[:, 1:4], atol=0.005, rtol=0)


def test_norms_reductions_and_slices_are_torchs() -> None:
    x = images(2, 3, 8)
    layer = nn.LayerNorm(8)
    nn.init.normal_(layer.weight)
    inputs = {"x": x, "axes": np.array([-1]), "gamma": layer.weight.detach(), "beta": layer.bias.detach()}
    torch.testing.assert_close(OPERATORS["layer_norm"](inputs | {"epsilon": np.float32(1e-5)}), layer(x).detach())
    given = OPERATORS["reduce_mean"]({"x": x, "axes": np.array([1]), "keep_dims": np.bool_(True)})
    torch.testing.assert_close(given, x.mean(1, keepdim=True))
    parts = {"x": x, "begin": np.array([0, 1, 2]), "end": np.array([2, 2, 0])}
    masks = {"end_mask": np.array([False, False, True]), "squeeze_mask": np.array([False, True, False])}
    torch.testing.assert_close(OPERATORS["slice_by_index"](parts | masks), x[0:2, 1, 2:])


def test_weights_that_stayed_floats_are_named_in_compressed_packages_only() -> None:
    contents = {"floats": ["stem"]}
    assert _left(contents, "float16") == ()
    assert _left(contents, "int4") == ("these weights stay floats: stem",)


def test_a_package_without_compressed_weights_or_with_another_interface_is_refused(source: Source) -> None:
    ends = {"inputs": {"input": ["FLOAT32", [1, 1, 12, 12]]}, "outputs": {"logits": ["FLOAT32", [1, 10]]}}
    assert _misfit(ends | {"weights": {"int4": 5, "fp16": 1}}, "int4", source) == ""
    assert "compression was skipped" in _misfit(ends | {"weights": {"fp16": 6}}, "int4", source)
    other = ends | {"inputs": {"x": ["FLOAT32", [1, 1, 12, 12]]}}
    assert _misfit(other | {"weights": {"fp32": 6}}, "float32", source).startswith("its inputs are")
    other = ends | {"outputs": {"logits": ["FLOAT16", [1, 10]]}}
    assert _misfit(other | {"weights": {"fp32": 6}}, "float32", source).startswith("its outputs are")


@needs_coreml
@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "int8-weights", "int4", "palette6", "palette4"])
def test_a_package_has_the_interface_and_weights_that_were_asked_for(precision: str, shipped: Ship) -> None:
    made = shipped("coreml", precision, "depthwise")
    artifact, found = made.artifact, made.found
    assert found.accepted, found.reason
    assert found.level == "structure-only"
    assert found.figures["latency_ms"] is None
    assert "not in Core ML" in str(found.figures["judged_in"])
    assert any("nothing of Core ML ran" in note for note in artifact.notes)
    assert not any("stay floats" in note for note in artifact.notes)
    assert found.judgement is not None
    assert found.judgement.accuracy > 0.85


@needs_coreml
def test_int8_is_integers_between_operators_and_int8_weights_is_not(
    shipped: Ship,
) -> None:
    operators = {}
    for precision in ("int8", "int8-weights"):
        found = shipped("coreml", precision, "depthwise").found
        operators[precision] = str(found.figures["operators"])
    assert "quantize:" in operators["int8"]
    assert "quantize:" not in operators["int8-weights"]


@needs_coreml
def test_a_package_that_lost_a_part_is_one_clear_line(
    source: Source, target: Target, shipped: Ship, tmp_path: Path
) -> None:
    artifact = shipped("coreml", "float16", "depthwise").copied(tmp_path / "copy")
    for weights in artifact.path.rglob("*.bin"):
        weights.unlink()
    with pytest.raises(UserError, match="cannot be read as a Core ML package") as caught:
        target.verify(artifact, source)
    assert "\n" not in str(caught.value)
    shutil.rmtree(artifact.path)
    with pytest.raises(UserError, match=r"its Manifest\.json is missing"):
        target.verify(artifact, source)


def test_the_trained_networks_operators_are_all_taken(source: Source) -> None:
    assert by_table(source.files["float32"], TABLE) == ()


def test_a_missing_extra_is_told_with_its_command(source: Source, target: Target, tmp_path: Path) -> None:
    if not target.available():
        pytest.skip("coremltools is installed")
    with pytest.raises(UserError, match=r"target coreml: .*pip install 'nas\[coreml\]'"):
        target.export(source, tmp_path, "float32")
