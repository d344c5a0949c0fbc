"""Qualcomm's NPU in its simulator: all operators on it, the compiled file, and what is told where one is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from nas.deploy.judge import run_file
from nas.deploy.options import DeployOptions
from nas.deploy.quantise import quantise
from nas.deploy.targets.onnx_files import with_batch
from nas.deploy.targets.qnn import QNN, TABLE, Qnn, _answers, _compile, _left_to_processor, _session
from nas.deploy.targets.target import Source
from nas.errors import UserError

needs_qnn = pytest.mark.skipif(bool(QNN.missing()), reason=QNN.missing())
TARGET = Qnn(options=DeployOptions(activations="signed"), images=12)


@needs_qnn
def test_the_compiled_file_holds_one_operator_and_is_checked_against_the_other(
    sources: Mapping[str, Source], tmp_path: Path
) -> None:
    artifact = TARGET.export(sources["plain"], tmp_path, "int8")
    (compiled,) = artifact.extras
    assert [node.op_type for node in onnx.load(compiled).graph.node] == ["EPContext"]
    found = TARGET.verify(artifact, sources["plain"])
    assert found.accepted
    assert found.level == "simulated"
    assert found.figures["latency_ms"] is None, "a simulator's time is no latency"
    assert found.judgement is not None
    assert found.judgement.num_samples == 12
    quantise(
        sources["plain"].files["float32"],
        tmp_path / "free.onnx",
        1.02 * sources["plain"].samples.calibration,  # other ranges, nearly the same classes
        activations="unsigned",
    )
    with_batch(tmp_path / "free.onnx", artifact.path, 1)
    assert "the compiled file answers otherwise" in TARGET.verify(artifact, sources["plain"]).reason


@needs_qnn
def test_the_simulator_is_no_processor_in_disguise(sources: Mapping[str, Source], tmp_path: Path) -> None:
    artifact = TARGET.export(sources["depthwise"], tmp_path, "int8")
    picked = np.arange(12)
    simulated = _answers(_session(artifact.path, 73), sources["depthwise"], picked)
    processor = run_file(artifact.path, sources["depthwise"].samples.test[:12], batch=1)
    assert not np.array_equal(simulated, processor), "fixed-point arithmetic rounds otherwise than onnxruntime"
    assert np.abs(simulated - processor).max() < 0.1 * np.ptp(processor)


@needs_qnn
def test_signed_activations_leave_hard_sigmoids_to_the_processor_and_are_refused(
    sources: Mapping[str, Source], tmp_path: Path
) -> None:
    source = sources["depthwise"]
    quantise(source.files["float32"], tmp_path / "free.onnx", source.samples.calibration, activations="signed")
    with_batch(tmp_path / "free.onnx", tmp_path / "fixed.onnx", 1)
    found = _left_to_processor(tmp_path / "fixed.onnx", 73)
    assert {(one.operator, one.effect) for one in found} == {("HardSigmoid", "leaves")}
    with pytest.raises(UserError, match=r"fixed\.onnx: cannot be compiled for the NPU.*nas check target=qnn"):
        _session(tmp_path / "fixed.onnx", 73)
    with pytest.raises(UserError, match=r"target qnn: .* would leave the NPU, e\.g\. HardSigmoid \(/s1_"):
        _compile(tmp_path / "fixed.onnx", tmp_path / "binary.onnx", 73)
    assert not TARGET.fallbacks(source.files["float32"], "int8"), "files for this target have unsigned ones"


@needs_qnn
def test_a_truncated_compiled_file_is_told(sources: Mapping[str, Source], tmp_path: Path) -> None:
    artifact = TARGET.export(sources["plain"], tmp_path, "int8")
    artifact.extras[0].write_bytes(artifact.extras[0].read_bytes()[:500])
    with pytest.raises(UserError, match=r"htp73\.onnx: cannot be compiled"):
        TARGET.verify(artifact, sources["plain"])


def test_the_table_knows_the_operators_of_the_spaces(sources: Mapping[str, Source]) -> None:
    for source in sources.values():
        assert TABLE.findings(onnx.load(source.files["float32"])) == ()
