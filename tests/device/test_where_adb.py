"""Commands to a phone and what they answer, with output as the programs' sources write it. No phone is involved: `adb`
here is a script that runs the phone's commands in this machine's shell, and the benchmark one that answers in form."""

import platform
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nas.device.card import Device
from nas.device.protocol import TimingProtocol
from nas.device.where.adb import Phone, PhoneModel, parse_labelled, parse_run, parse_state, run_command
from nas.device.where.measure import measure_on
from nas.device.where.places import Adb
from nas.errors import UserError

QUICK = TimingProtocol(blocks=2, warmups=1, runs=3, min_round_s=0.0, max_wait_s=2.0)
OUTPUT = """Setting intra_op_num_threads to 1
Session creation time cost: 0.00712 s
First inference time cost: 4 ms
Total inference time cost: 0.0114 s
Total inference requests: 3
Average inference time cost: 3.8 ms
Min Latency: 0.0031 s
nas-status=0
a1b2.onnx,0.0047,15482880,12,0
a1b2.onnx,0.0031,15482880,12,1
a1b2.onnx,3.6e-03,15482880,12,2

Min Latency: 0.0031 s
P50 Latency: 0.0036 s
"""
STATE = """nas-key=frequency
1803000
nas-key=zones
41200
0
-274000
38900
nas-key=battery
  temperature: 312
nas-key=thermal
Thermal Status: 2
"""
BENCHMARK = """
import sys
arguments = sys.argv[1:]
model, result = arguments[-2:]
runs = int(arguments[arguments.index("-r") + 1])
size = len(open(model, "rb").read())
with open(result, "a") as file:
    for run in range(runs):
        file.write(f"{model},{1e-6 * size * (3 if run == 0 else 1)},1000,10,{run}\\n")
"""


def place(tmp_path: Path, **fields: object) -> Adb:
    return Adb(benchmark=tmp_path / "onnxruntime_perf_test", **fields)  # type: ignore[arg-type]


def model(phone: object, **free: int) -> PhoneModel:
    return PhoneModel(phone=phone, name="a1b2.onnx", threads=2, free=free)  # type: ignore[arg-type]


def test_a_block_is_one_command_with_cores_threads_and_free_dimensions(tmp_path: Path) -> None:
    command = run_command(place(tmp_path, cores=(6, 7), folder="/data/x y"), model(None, batch=4), 13)
    assert command.startswith("cd '/data/x y' && rm -f result.csv; ")
    assert "taskset c0 ./onnxruntime_perf_test -I -S 1 -m times -r 13 -x 2 -y 1 -e cpu -f batch:4 a1b2.onnx" in command
    assert "taskset" not in run_command(place(tmp_path), model(None), 13)


def test_times_of_single_runs_are_read_from_the_result_file() -> None:
    np.testing.assert_allclose(parse_run(OUTPUT, 3, where="phone"), [4.7, 3.1, 3.6])
    # Newer programs write one more column behind the first time.
    wider = OUTPUT.replace(",15482880", ",0.009,15482880")
    np.testing.assert_allclose(parse_run(wider, 3, where="phone"), [4.7, 3.1, 3.6])


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (OUTPUT.replace("status=0", "status=1"), "the program says: Min Latency"),
        ("sh: ./onnxruntime_perf_test: not found\nnas-status=127\n", "not found"),
        ("", "the program says: nothing"),
        (OUTPUT.replace("0.0031,15482880,12,1", "x"), "must give 3 times, the program gave 2"),
        (OUTPUT.replace("0.0047", "0"), "must give 3 times"),
    ],
)
def test_a_program_that_fails_is_told_in_one_line(output: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as caught:
        parse_run(output, 3, where="phone")
    assert "\n" not in str(caught.value)


def test_frequency_temperature_and_throttling_are_read(tmp_path: Path) -> None:
    state = parse_state(STATE)
    assert state.frequency_mhz == 1803.0
    assert state.temperature_c == 41.2
    assert state.throttled == "thermal status 2"
    nothing = parse_state("nas-key=frequency\nnas-key=zones\nnas-key=battery\nnas-key=thermal\n")
    assert (nothing.frequency_mhz, nothing.temperature_c, nothing.throttled) == (None, None, "")
    assert parse_labelled("nas-key=a\nx\ny\nnas-key=b\n") == {"a": "x\ny", "b": ""}


def test_a_missing_adb_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs adb on this machine, there is no 'adb-that-is-not-there'; install"):
        Phone(place(tmp_path, adb="adb-that-is-not-there"))


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("error: device unauthorized.", "is not authorised"),
        ("error: more than one device/emulator", "must say which phone"),
        ("adb: device 'R5CT' not found", "is not there"),
        ("adb: no devices/emulators found", "is not there"),
        ("adb: error: failed to copy 'a' to 'b': No space left on device", "has no room"),
        ("adb: protocol fault", "refused, adb says: adb: protocol fault"),
    ],
)
def test_what_adb_complains_of_is_told_in_one_line(tmp_path: Path, said: str, problem: str) -> None:
    script = tmp_path / "adb"
    script.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 1\n')
    script.chmod(0o755)
    with pytest.raises(UserError, match=problem):
        Phone(place(tmp_path, adb=str(script))).shell("true")


@pytest.mark.skipif(platform.system() == "Windows", reason="a shell stands in for the phone's")
def test_the_whole_protocol_goes_through_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    phone = tmp_path / "phone"
    adb = tmp_path / "adb"
    adb.write_text(
        '#!/bin/sh\n[ "$1" = -s ] && shift 2\n[ "$1" = push ] && exec cp "$2" "$3"\nshift\nexec sh -c "$1"\n'
    )
    adb.chmod(0o755)
    benchmark = tmp_path / "onnxruntime_perf_test"
    benchmark.write_text(f"#!{sys.executable} -S\n{BENCHMARK}")
    where = place(tmp_path, adb=str(adb), serial="R5CT1234", folder=str(phone))
    files = [write_matmul(tmp_path / f"{size}.onnx", size) for size in (40, 8)]
    taken = measure_on(Device(name="phone", where=where), files, protocol=QUICK)
    # The first run of a block is three times as slow, and is a warm-up.
    assert [entry.latency_ms for entry in taken] == [pytest.approx(1e-3 * file.stat().st_size) for file in files]
    assert all(entry.settled and entry.p90_ms == pytest.approx(entry.latency_ms) for entry in taken)
    assert taken[0].host.onnxruntime.startswith("onnxruntime_perf_test ")
    assert not phone.exists()
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not an onnx file")
    with pytest.raises(UserError, match=r"broken\.onnx: cannot be loaded by onnxruntime"):
        measure_on(Device(name="phone", where=where), [broken], protocol=QUICK)
    benchmark.write_text("#!/bin/sh\necho 'CANNOT LINK EXECUTABLE: libonnxruntime.so not found'\nexit 1\n")
    with pytest.raises(UserError, match=r"the program says: CANNOT LINK EXECUTABLE: libonnxruntime\.so not found"):
        measure_on(Device(name="phone", where=where), files, protocol=QUICK)


def write_matmul(path: Path, size: int) -> Path:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [size, size], np.full(size * size, 0.5, dtype=np.float32))
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", size])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", size])]
    graph = helper.make_graph([node], "matmul", inputs, outputs, [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
