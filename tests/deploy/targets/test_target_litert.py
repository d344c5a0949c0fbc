"""LiteRT: what its files are, and what is told where they are broken."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.deploy.targets.executorch_process import ConverterProcess
from nas.deploy.targets.fallbacks import OperatorTable
from nas.deploy.targets.litert import FLOAT_TABLE, INT8_TABLE, LiteRt
from nas.deploy.targets.litert_files import LITERT, TfliteFiles
from nas.deploy.targets.litert_flatbuffer import plan, read_contents
from nas.deploy.targets.target import Source, Target
from nas.errors import UserError

needs_litert = pytest.mark.skipif(bool(LITERT.missing()), reason=LITERT.missing())
Ship = Callable[[str, str, str], Any]
SPANS = st.tuples(st.integers(1, 64), st.integers(0, 6), st.integers(0, 6)).map(
    lambda span: (span[0] * 16, min(span[1:]), max(span[1:]))
)


@pytest.fixture(scope="module")
def target(opened: Callable[[str], Target]) -> Target:
    return opened("litert")


@given(st.lists(SPANS, max_size=8))
def test_a_plan_is_at_least_the_fullest_moment_and_at_most_all_buffers(spans: list[tuple[int, int, int]]) -> None:
    live = [sum(size for size, first, last in spans if first <= step <= last) for step in range(7)]
    assert max(live, default=0) <= plan(spans) <= sum(size for size, _, _ in spans)


@settings(max_examples=30)
@given(st.lists(SPANS, min_size=1, max_size=6))
def test_buffers_that_are_never_alive_together_share_one_place(spans: list[tuple[int, int, int]]) -> None:
    apart = [(size, 2 * index, 2 * index) for index, (size, _, _) in enumerate(spans)]
    assert plan(apart) == max(size for size, _, _ in spans)


def test_buffers_that_are_alive_together_do_not_overlap() -> None:
    spans = [(32, 0, 3), (16, 0, 1), (16, 2, 3), (16, 1, 2)]
    assert plan(spans) == 64
    assert all(plan(list(order)) == 64 for order in itertools.permutations(spans))


def test_a_file_that_is_missing_is_told_by_the_converters_process() -> None:
    process = ConverterProcess(target="litert")
    with pytest.raises(UserError, match=r"nowhere\.tflite: must be a \.tflite file, there is none"):
        process.call("nas.deploy.targets.litert_run:run", path="/nowhere.tflite", images="", logits="")
    process.close()


def test_a_process_that_takes_too_long_is_ended_and_the_next_call_has_another() -> None:
    process = ConverterProcess(target="litert", seconds=1.0)
    with pytest.raises(UserError, match="target litert: the converter's process ended with signal 9"):
        process.call("nas.deploy.targets.executorch_process:serve")  # waits for requests for ever
    later = dataclasses.replace(process, seconds=60.0)
    with pytest.raises(UserError, match="the converter failed, TypeError: "):
        later.call("nas.deploy.targets.litert_run:run", nothing=1)
    later.close()


@needs_litert
@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "int8-dynamic", "int4"])
def test_a_file_passes_its_gate_in_the_interpreter(source: Source, precision: str, shipped: Ship) -> None:
    found = shipped("litert", precision, "depthwise").found
    assert found.accepted, found.reason
    assert found.level == "executed"
    assert found.judgement is not None
    assert found.judgement.num_samples == len(source.reference)
    assert found.judgement.accuracy > 0.85
    assert isinstance(found.figures["latency_ms"], float)
    assert found.figures["latency_ms"] > 0


@needs_litert
def test_int8_weights_are_a_quarter_and_int4_ones_less(source: Source, shipped: Ship) -> None:
    held = {}
    for precision in ("float32", "int8", "int4"):
        held[precision] = read_contents(shipped("litert", precision, "depthwise").artifact.path).weights
    kernels = sum(p.numel() for p in source.module.parameters() if p.dim() > 1)
    assert held["int8"]["INT8"] == pytest.approx(kernels, rel=0.05)
    assert held["float32"]["FLOAT32"] > 4 * kernels
    assert 0 < held["int4"]["INT4"] < held["int8"]["INT8"] / 2
    assert "INT8" not in held["float32"]


@needs_litert
def test_two_exports_are_equal_byte_for_byte(source: Source, tmp_path: Path) -> None:
    target = LiteRt()
    copies = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        again = Source(
            module=source.module,
            input_shape=source.input_shape,
            samples=source.samples,
            reference=source.reference,
            files=source.files,
        )
        copies.append(target.export(again, tmp_path / name, "int8").path.read_bytes())
    assert copies[0] == copies[1]


@needs_litert
def test_true_extremes_are_nearer_to_torch_than_the_quantizers_moving_average(
    source: Source, target: Target, tmp_path: Path
) -> None:
    files = TfliteFiles(options=target.options, process=ConverterProcess(target="litert"))
    images, calibration = tmp_path / "test.npy", tmp_path / "calibration.npy"
    np.save(images, np.asarray(source.samples.test[:]))
    np.save(calibration, source.samples.calibration)
    float_file = files.make(source, "float32", tmp_path / "f.tflite").path
    errors = {}
    for recipe in ("static", "static-average"):
        path = tmp_path / f"{recipe}.tflite"
        files.process.call(
            "nas.deploy.targets.litert_convert:quantise",
            float_file=str(float_file),
            path=str(path),
            recipe=recipe,
            calibration=str(calibration),
        )
        errors[recipe] = np.abs(files.logits(path, images)[0] - source.reference).max()
    assert errors["static"] < errors["static-average"]


@needs_litert
def test_a_truncated_file_is_one_clear_line(source: Source, target: Target, shipped: Ship, tmp_path: Path) -> None:
    artifact = shipped("litert", "float32", "depthwise").copied(tmp_path / "copy")
    artifact.path.write_bytes(artifact.path.read_bytes()[: artifact.size_bytes // 2])
    with pytest.raises(UserError, match=r"model\.fp32\.tflite: ") as caught:
        target.verify(artifact, source)
    assert "\n" not in str(caught.value)
    artifact.path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="its identifier is missing"):
        target.verify(artifact, source)


@needs_litert
def test_images_of_another_size_are_refused(source: Source, target: Target, tmp_path: Path) -> None:
    artifact = target.export(source, tmp_path, "float32")
    np.save(tmp_path / "larger.npy", np.zeros((2, 1, 16, 16), dtype=np.float32))
    with pytest.raises(UserError, match="takes images 1 x 12 x 12, the samples are 1 x 16 x 16"):
        target._files.logits(artifact.path, tmp_path / "larger.npy")


def test_an_unknown_precision_lists_the_known_ones(source: Source, target: Target, tmp_path: Path) -> None:
    if target.available():
        with pytest.raises(UserError, match=r"target litert: .*pip install 'nas\[litert\]'"):
            target.export(source, tmp_path, "int8")
    else:
        with pytest.raises(UserError, match="no precision of target litert named 'int7'"):
            target.export(source, tmp_path, "int7")


@pytest.mark.parametrize("table", [FLOAT_TABLE, INT8_TABLE])
def test_the_trained_networks_operators_are_all_taken(source: Source, table: OperatorTable) -> None:
    from nas.deploy.targets.fallbacks import by_table

    assert by_table(source.files["float32"], table) == ()


def test_only_the_8_bit_table_reports_a_leaky_relu() -> None:
    import onnx

    nodes = [onnx.helper.make_node("LeakyRelu", ["a"], ["b"]), onnx.helper.make_node("NonZero", ["b"], ["c"])]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))
    assert [(one.operator, one.effect) for one in FLOAT_TABLE.findings(model)] == [("NonZero", "leaves")]
    assert [(one.operator, one.effect) for one in INT8_TABLE.findings(model)] == [
        ("LeakyRelu", "float"),
        ("NonZero", "leaves"),
    ]
