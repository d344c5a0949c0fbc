import json
import os
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nas.device.anchor import ANCHOR, Anchor
from nas.device.card import Device
from nas.device.cores import BoundCore, bound_core
from nas.device.host import differences, host_facts
from nas.device.protocol import TimingProtocol
from nas.device.timing import _groups, measure
from nas.errors import UserError

DEVICE = Device(name="here")
QUICK = TimingProtocol(blocks=3, runs=5, min_round_s=0.0, max_wait_s=2.0)
linux_only = pytest.mark.skipif(platform.system() != "Linux", reason="cores can be bound on Linux only")


def write_matmul(path: Path, size: int, *, batch: int | str = "batch", kind: int = TensorProto.FLOAT) -> Path:
    """A file that multiplies its input (batch, size) with a size x size matrix, twice."""
    weights = helper.make_tensor("w", kind, [size, size], np.ones(size * size, dtype=np.float32))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", kind, [batch, size])]
    outputs = [helper.make_tensor_value_info("y", kind, [batch, size])]
    graph = helper.make_graph(nodes, "matmul", inputs, outputs, [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_measurements_come_in_the_order_of_the_files_and_tell_small_from_large(tmp_path: Path) -> None:
    large, small = write_matmul(tmp_path / "large.onnx", 700), write_matmul(tmp_path / "small.onnx", 8)
    taken = measure([large, small, large], device=DEVICE, protocol=QUICK)
    assert [entry.file for entry in taken] == [large, small, large]
    assert taken[0].latency_ms > 3 * taken[1].latency_ms
    assert taken[2].latency_ms == pytest.approx(taken[0].latency_ms, rel=0.5)
    for entry in taken:
        assert 0 < entry.latency_ms <= entry.p50_ms * 1.5
        assert entry.p50_ms <= entry.p90_ms
        assert entry.spread >= 0
        assert entry.blocks <= entry.blocks_timed <= 2 * QUICK.blocks * QUICK.max_tries
        assert entry.runs == entry.blocks * QUICK.runs
        assert entry.settled == (entry.note == "")
        assert entry.device == "here"


def test_a_record_is_plain_json_and_holds_the_host(tmp_path: Path) -> None:
    (taken,) = measure([write_matmul(tmp_path / "m.onnx", 8)], device=DEVICE, protocol=QUICK)
    record = json.loads(json.dumps(taken.to_record()))
    assert record["file"] == "m.onnx"
    assert record["latency_ms"] == taken.latency_ms
    assert record["host"]["onnxruntime"] == host_facts().onnxruntime


def test_no_files_give_no_measurements() -> None:
    assert measure([], device=DEVICE) == []


def test_progress_counts_every_file_once_and_ends_at_their_number(tmp_path: Path) -> None:
    files = [write_matmul(tmp_path / f"{index}.onnx", 8) for index in range(5)]
    told: list[tuple[int, int]] = []
    measure(files, device=DEVICE, protocol=replace(QUICK, max_files=2), progress=lambda done, n: told.append((done, n)))
    assert told[-1] == (5, 5)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_a_reference_that_the_machine_cannot_reach_leaves_nothing_settled(tmp_path: Path) -> None:
    path = write_matmul(tmp_path / "m.onnx", 8)
    (taken,) = measure([path], device=DEVICE, protocol=replace(QUICK, max_wait_s=0.05), reference_ms=1e-6)
    assert not taken.settled
    assert taken.blocks == 0
    assert "blocks were undisturbed" in taken.note
    assert taken.latency_ms > 0


def test_files_are_grouped_by_number_and_size_and_keep_their_order(tmp_path: Path) -> None:
    files = [tmp_path / str(index) for index in range(6)]
    for path, size in zip(files, (10, 10, 10, 95, 10, 200), strict=True):
        path.write_bytes(b"x" * size)
    groups = _groups(files, TimingProtocol(max_files=2, max_bytes=100))
    assert groups == [[0, 1], [2], [3], [4], [5]]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.onnx: must be an ONNX file, there is none"):
        measure([tmp_path / "gone.onnx"], device=DEVICE, protocol=QUICK)


@pytest.mark.parametrize("content", [b"", b"not an onnx file"])
def test_a_broken_file_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.onnx: cannot be loaded by onnxruntime") as caught:
        measure([path], device=DEVICE, protocol=QUICK)
    assert "\n" not in str(caught.value)


def test_a_file_with_another_batch_than_the_devices_is_refused(tmp_path: Path) -> None:
    path = write_matmul(tmp_path / "four.onnx", 8, batch=4)
    with pytest.raises(UserError, match=r"must take the device's batch of 1, its input 'x' takes 4"):
        measure([path], device=DEVICE, protocol=QUICK)
    (taken,) = measure([path], device=replace(DEVICE, batch=4), protocol=QUICK)
    assert taken.latency_ms > 0


@linux_only
def test_a_core_is_bound_within_and_given_back_after_an_error() -> None:
    before = os.sched_getaffinity(0)

    def fail_when_bound() -> None:
        with bound_core() as core:
            assert os.sched_getaffinity(0) == {core.current}
            core.move()
            assert os.sched_getaffinity(0) == {core.current}
            assert set(core.cores) == before
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        fail_when_bound()
    assert os.sched_getaffinity(0) == before


def test_no_core_is_bound_for_a_device_of_several_threads() -> None:
    with bound_core(threads=2) as core:
        assert core.current is None
        core.move()


def test_the_anchor_is_loaded_by_the_runtime_and_knows_a_disturbance() -> None:
    assert ANCHOR.stat().st_size < 10_000
    anchor = Anchor(DEVICE, QUICK, BoundCore(()))
    assert anchor.is_quiet(anchor.level_ms)
    assert not anchor.is_quiet(anchor.level_ms * (1 + 2 * QUICK.max_drift))


def test_facts_of_the_same_host_agree_and_say_what_differs() -> None:
    here = host_facts().fingerprint(1)
    assert differences(here, host_facts().fingerprint(1)) == ()
    assert differences(here, {**here, "onnxruntime": "0.1"}) == (f"onnxruntime was {here['onnxruntime']}, is 0.1",)
    assert host_facts().cpu
    assert host_facts().cores >= 1
