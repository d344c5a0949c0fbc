"""OpenVINO: what its files hold, in which precision they run, and what is told where they are broken."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from nas.deploy.options import DeployOptions
from nas.deploy.quantise import quantise
from nas.deploy.targets.openvino import NNCF, OPENVINO, OpenVino
from nas.deploy.targets.target import Source
from nas.errors import UserError

pytestmark = pytest.mark.skipif(bool(OPENVINO.missing()), reason=OPENVINO.missing())
UNSIGNED = DeployOptions(activations="unsigned")


def test_float32_is_pinned_and_half_weights_are_half_as_large(sources: Mapping[str, Source], tmp_path: Path) -> None:
    source, target = sources["depthwise"], OpenVino()
    full, half = (target.export(source, tmp_path, precision) for precision in ("float32", "float16"))
    found = target.verify(full, source)
    assert found.figures["inference_precision"] == "f32"
    assert found.accepted
    sizes = [artifact.path.with_suffix(".bin").stat().st_size for artifact in (full, half)]
    assert 0.45 < sizes[1] / sizes[0] < 0.55
    assert full.size_bytes == full.path.stat().st_size + sizes[0]
    assert any("INFERENCE_PRECISION_HINT=f32" in note for note in full.notes)


def test_the_folders_8_bit_file_answers_the_same_here(sources: Mapping[str, Source], tmp_path: Path) -> None:
    source = sources["plain"]
    quantise(source.files["float32"], tmp_path / "x.onnx", source.samples.calibration, activations="unsigned")
    source = dataclasses.replace(source, files={**source.files, "int8": tmp_path / "x.onnx"})
    found = OpenVino().verify(OpenVino().export(source, tmp_path, "int8"), source)
    assert found.judgement is not None
    assert found.judgement.agreement >= 0.97


@pytest.mark.skipif(bool(NNCF.missing()), reason=NNCF.missing())
def test_nncf_quantises_too(sources: Mapping[str, Source], tmp_path: Path) -> None:
    target, source = OpenVino(quantiser="nncf"), sources["plain"]
    artifact = target.export(source, tmp_path, "int8")
    assert target.verify(artifact, source).accepted
    assert artifact.path.with_suffix(".bin").stat().st_size < 0.5 * source.files["float32"].stat().st_size
    assert any("nncf" in note for note in artifact.notes)


def test_layers_in_floats_are_named_as_operators_of_the_file(sources: Mapping[str, Source]) -> None:
    found = OpenVino(options=UNSIGNED).fallbacks(sources["depthwise"].files["float32"], "int8")
    assert "HardSigmoid" in {finding.operator for finding in found}
    assert all(finding.node.startswith(("/s1_", "/s2_")) for finding in found)
    assert not OpenVino(options=UNSIGNED).fallbacks(sources["depthwise"].files["float32"], "float32")


@pytest.mark.parametrize("part", ["model.fp32.bin", "model.fp32.xml"])
def test_a_truncated_model_is_told(sources: Mapping[str, Source], tmp_path: Path, part: str) -> None:
    artifact = OpenVino().export(sources["plain"], tmp_path, "float32")
    file = tmp_path / part
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be loaded by openvino"):
        OpenVino().verify(artifact, sources["plain"])


def test_nobody_is_told_that_a_model_was_exported(sources: Mapping[str, Source], tmp_path: Path) -> None:
    OpenVino().export(sources["plain"], tmp_path, "float32")
    assert sys.modules.get("openvino_telemetry") is None
