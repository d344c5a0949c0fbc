"""The runner as a file of its own, and the folder that is carried to a machine that nobody reaches."""

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import nas
from nas.device.card import Device
from nas.device.protocol import Measurement, TimingProtocol
from nas.device.where import runner as runner_module
from nas.device.where.bundle import runner_bytes
from nas.device.where.failures import BoardBusyError, WaitingForResults
from nas.device.where.job import JOB, RESULTS, RUNNER, Job, job_for, sha256_of
from nas.device.where.lock import lock_path, machine_lock
from nas.device.where.measure import measure_on
from nas.device.where.offline import read_offline_results, write_offline_job
from nas.device.where.places import Nowhere, Offline
from nas.device.where.runner import serve
from nas.errors import UserError

DEVICE = Device(name="board")
QUICK = TimingProtocol(blocks=2, warmups=1, runs=3, min_round_s=0.0, max_wait_s=2.0)


def write_matmul(path: Path, size: int) -> Path:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [size, size], np.full(size * size, 0.5, dtype=np.float32))
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, size])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, size])]
    graph = helper.make_graph([node], "matmul", inputs, outputs, [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write_matmul(tmp_path / f"{size}.onnx", size) for size in (800, 8)]


@pytest.fixture
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Others may be measuring on this machine."""
    path = tmp_path / "lock"
    monkeypatch.setattr("nas.device.where.lock.lock_path", lambda name="": path)
    return path


def environment(tmp_path: Path) -> dict[str, str]:
    """Without this project on the path, and with a lock of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, "TMPDIR": str(tmp_path)}


def run_there(folder: Path, tmp_path: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command = [python, RUNNER]
    return subprocess.run(command, cwd=folder, env=environment(tmp_path), capture_output=True, text=True, check=False)


# The file.


def test_the_runner_is_the_same_bytes_each_time_and_needs_no_other_module() -> None:
    content = runner_bytes()
    assert content == runner_bytes()
    assert len(content) < 150_000
    packed, needed = set(), set()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                packed.add(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
                needed |= {node.module for node in ast.walk(ast.parse(archive.read(name))) if _is_import(node)}
    ours = {name for name in needed if name and name.startswith("nas")}
    # `nas.commands` is imported only by who asks for `nas.search` and the like.
    assert ours - packed <= {f"nas.commands.{name}" for name in nas.__all__}
    others = {name.split(".")[0] for name in needed - ours if name}
    assert others <= set(sys.stdlib_module_names) | {"numpy"}


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom)


def test_the_runner_is_written_for_python_39() -> None:
    newer = {("zip", "strict"), ("map", "strict"), ("dataclass", "slots")}
    with zipfile.ZipFile(io.BytesIO(runner_bytes())) as archive:
        for name in archive.namelist():
            if not name.endswith(".py"):
                continue
            tree = ast.parse(archive.read(name), feature_version=(3, 9))
            for node in ast.walk(tree):
                assert not isinstance(node, ast.Match), name
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    used = {(node.func.id, keyword.arg) for keyword in node.keywords}
                    assert not used & newer, f"{name}, line {node.lineno}"
                if isinstance(node, ast.ImportFrom) and node.module == "datetime":
                    assert "UTC" not in {alias.name for alias in node.names}, name


def test_the_runner_measures_with_an_older_python(files: list[Path], tmp_path: Path) -> None:
    python = os.environ.get("NAS_OLD_PYTHON", "")
    if not python:
        pytest.skip("NAS_OLD_PYTHON names no Python 3.9 with onnxruntime")
    folder = tmp_path / "carried"
    write_offline_job(folder, files, DEVICE, QUICK)
    done = run_there(folder, tmp_path, python)
    assert done.returncode in (0, 3), done.stderr
    first, second = read_offline_results(folder, files, DEVICE)
    assert first.latency_ms > second.latency_ms
    assert first.host.python != sys.version.split()[0]


def test_a_python_without_onnxruntime_is_told_what_to_install(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "carried"
    write_offline_job(folder, files, DEVICE, QUICK)
    done = subprocess.run(
        [sys.executable, "-S", RUNNER], cwd=folder, env=environment(tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "must be able to import onnxruntime" in done.stderr
    assert done.stderr.count("\n") == 1


# Serving.


def served(job: Job, folder: Path, sent: bytes = b"") -> list[dict[str, object]]:
    replies = io.StringIO()
    serve(io.BytesIO(job.to_text().encode() + b"\n" + sent), replies, folder)
    return [json.loads(line) for line in replies.getvalue().splitlines()]


@pytest.mark.usefixtures("own_lock")
def test_only_files_that_are_not_there_are_asked_for(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "there"
    job, digests = job_for(files, device=DEVICE, protocol=QUICK)
    (folder / "files").mkdir(parents=True)
    shutil.copy(files[0], folder / "files" / f"{digests[files[0]]}.onnx")
    events = served(job, folder, files[1].read_bytes())
    assert events[0]["event"] == "hello"
    assert events[0]["missing"] == [digests[files[1]]]
    assert [event["sha256"] for event in events if event["event"] == "measured"] == list(digests.values())
    assert events[-1] == {"event": "end"}
    assert list((folder / "files").iterdir()) == []


@pytest.mark.usefixtures("own_lock")
def test_a_file_that_arrives_damaged_or_in_part_is_not_measured(files: list[Path], tmp_path: Path) -> None:
    job, _ = job_for(files[:1], device=DEVICE, protocol=QUICK)
    content = files[0].read_bytes()
    for sent, problem in ((b"x" * len(content), "SHA-256 differs"), (content[:-1], "did not arrive whole")):
        events = served(job, tmp_path / "there", sent)
        assert events[-1]["kind"] == "user"
        assert problem in str(events[-1]["problem"])
        assert list((tmp_path / "there" / "files").iterdir()) == []


@pytest.mark.usefixtures("own_lock")
def test_a_disk_without_room_is_told_before_anything_is_sent(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(runner_module.shutil, "disk_usage", lambda _: usage._replace(free=10 * 2**20))
    job, _ = job_for(files, device=DEVICE, protocol=QUICK)
    (event,) = served(job, tmp_path / "there")
    assert event["kind"] == "disk"
    assert event["problem"] == "18 MiB are needed and 10 MiB are free"


def test_a_machine_serves_one_at_a_time(files: list[Path], tmp_path: Path, own_lock: Path) -> None:
    job, _ = job_for(files, device=DEVICE, protocol=QUICK)
    with machine_lock("ann@lab", path=own_lock):
        (event,) = served(job, tmp_path / "there")
    assert event["kind"] == "busy"
    assert "ann@lab" in str(event["problem"])
    assert not (tmp_path / "there").exists()


def test_a_job_of_another_version_is_refused(files: list[Path]) -> None:
    job, _ = job_for(files, device=DEVICE, protocol=QUICK)
    assert Job.from_text(job.to_text()) == job
    with pytest.raises(UserError, match="must have format 1, got 99"):
        Job.from_text(job.to_text().replace('"format": 1', '"format": 99'))
    for text in ("", "nonsense", "[]", '{"format": 1}'):
        with pytest.raises(UserError, match="must be a job for this runner"):
            Job.from_text(text)


def test_the_runner_ends_when_its_master_goes_away(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / RUNNER).write_bytes(runner_bytes())
    endless = replace(QUICK, blocks=100_000)
    job, _ = job_for(files[1:], device=DEVICE, protocol=endless)
    with subprocess.Popen(
        [sys.executable, tmp_path / RUNNER, "serve", tmp_path / "there"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(tmp_path),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(job.to_text().encode() + b"\n" + files[1].read_bytes())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["event"] == "hello"
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(20) == 1
        assert b"end" not in process.stdout.read()


# The lock.


def test_a_lock_is_free_again_afterwards_also_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    def fail_within() -> None:
        with machine_lock("ann@lab", path=path):
            with pytest.raises(BoardBusyError, match="ann@lab has been measuring on it since"):
                machine_lock("bob@lab", path=path).__enter__()
            with machine_lock("bob@lab", path=path, needed=False):
                raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        fail_within()
    with machine_lock("bob@lab", path=path):
        pass


def test_each_phone_has_a_lock_of_its_own() -> None:
    assert len({lock_path(), lock_path("adb-1"), lock_path("adb-2")}) == 3
    assert lock_path("adb-a/../b:5555").parent == lock_path().parent


# Carried folders.


def test_results_that_come_back_are_those_of_the_files(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "carried"
    device = replace(DEVICE, where=Offline(folder=folder))
    with pytest.raises(
        WaitingForResults, match=r"waits for the results of 2 files; copy it to board, run `python3 nas"
    ):
        measure_on(device, files, protocol=QUICK)
    done = run_there(folder, tmp_path)
    assert done.returncode in (0, 3), done.stderr
    told: list[Measurement] = []
    taken = measure_on(device, [files[1], files[0], files[1]], protocol=QUICK, on_measured=told.extend)
    assert [entry.file for entry in taken] == [files[1], files[0], files[1]]
    assert taken[1].latency_ms > 2 * taken[0].latency_ms
    assert {entry.file for entry in told} == set(files)
    assert (folder / "README.md").read_text().count(f"python3 {RUNNER}") == 1


def test_a_partial_result_says_what_is_missing_and_the_runner_goes_on(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "carried"
    device = replace(DEVICE, where=Offline(folder=folder))
    write_offline_job(folder, files, DEVICE, QUICK)
    run_there(folder, tmp_path)
    lines = (folder / RESULTS).read_text().splitlines(keepends=True)
    (folder / RESULTS).write_text(lines[0] + lines[1][:50])
    told: list[Measurement] = []
    with pytest.raises(WaitingForResults, match=r"lacks the results of 1 of 2 files \(8\.onnx\)"):
        measure_on(device, files, protocol=QUICK, on_measured=told.extend)
    assert [entry.file for entry in told] == [files[0]]
    done = run_there(folder, tmp_path)
    assert done.returncode in (0, 3), done.stderr
    assert len(measure_on(device, files, protocol=QUICK)) == 2


def test_files_that_are_added_later_are_asked_for_and_the_others_are_not_measured_again(
    files: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "carried"
    device = replace(DEVICE, where=Offline(folder=folder))
    write_offline_job(folder, files[:1], DEVICE, QUICK)
    run_there(folder, tmp_path)
    edited(folder, line=0, latency_ms=123.0, settled=True, note="")
    with pytest.raises(WaitingForResults, match="lacks the results of 1 of 2 files"):
        measure_on(device, files, protocol=QUICK)
    run_there(folder, tmp_path)
    first, second = measure_on(device, files, protocol=QUICK)
    assert first.latency_ms == 123.0
    assert 0 < second.latency_ms < 123.0


def test_a_timing_that_did_not_settle_comes_back_as_such_and_is_repeated(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "carried"
    device = replace(DEVICE, where=Offline(folder=folder))
    write_offline_job(folder, files, DEVICE, QUICK)
    run_there(folder, tmp_path)
    edited(folder, line=0, latency_ms=123.0, settled=False, note="loud")
    taken = measure_on(device, files, protocol=QUICK)[0]
    assert not taken.settled
    assert taken.note.startswith("loud; `python3 nas-runner.pyz` there once more")
    run_there(folder, tmp_path)
    assert measure_on(device, files, protocol=QUICK)[0].latency_ms < 123.0


def test_a_changed_file_a_changed_protocol_and_changed_threads_are_measured_anew(
    files: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "carried"
    device = replace(DEVICE, where=Offline(folder=folder))
    write_offline_job(folder, files, DEVICE, QUICK)
    run_there(folder, tmp_path)
    with pytest.raises(UserError, match="must be about 2 threads and batch 1"):
        read_offline_results(folder, files, replace(DEVICE, threads=2))
    write_matmul(files[1], 9)
    with pytest.raises(WaitingForResults, match="lacks the results of 1 of 2"):
        measure_on(device, files, protocol=QUICK)
    with pytest.raises(WaitingForResults, match="waits for the results of 2 files"):
        measure_on(device, files, protocol=replace(QUICK, blocks=3))
    with pytest.raises(UserError, match=r"must be the results of this job, they differ in protocol"):
        read_offline_results(folder, files, DEVICE)


def edited(folder: Path, *, line: int, **changes: object) -> None:
    """Writes results with other values in the measurement of one line."""
    path = folder / RESULTS
    records = [json.loads(text) for text in path.read_text().splitlines()]
    for key, value in changes.items():
        target = records[line]["measurement"]
        if key in target["host"]:
            target = target["host"]
        target[key] = value
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_results_of_two_machines_or_of_a_slower_time_are_not_mixed(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "carried"
    write_offline_job(folder, files, DEVICE, QUICK)
    run_there(folder, tmp_path)
    taken = read_offline_results(folder, files, DEVICE)
    edited(folder, line=0, anchor_ms=taken[1].anchor_ms * 1.3, settled=True, note="")
    slower, other = read_offline_results(folder, files, DEVICE)
    assert not slower.settled
    assert "1.30 times slower" in slower.note
    assert other.settled == taken[1].settled
    edited(folder, line=0, cpu="another")
    with pytest.raises(UserError, match=r"must be of one machine, got .* and another"):
        read_offline_results(folder, files, DEVICE)
    done = run_there(folder, tmp_path)
    assert done.returncode == 2
    assert "must be of this machine: cpu was another" in done.stderr


@pytest.mark.parametrize(("key", "value"), [("latency_ms", -1.0), ("latency_ms", float("nan")), ("host", None)])
def test_a_line_that_is_no_measurement_is_refused(files: list[Path], tmp_path: Path, key: str, value: object) -> None:
    folder = tmp_path / "carried"
    write_offline_job(folder, files, DEVICE, QUICK)
    job = Job.from_text((folder / JOB).read_text())
    record = {"event": "measured", **job.conditions(), "sha256": sha256_of(files[0]), "measurement": {key: value}}
    (folder / RESULTS).write_text(json.dumps(record) + "\n")
    with pytest.raises(UserError, match=r"must hold a measurement of 800\.onnx"):
        read_offline_results(folder, files, DEVICE)


def test_a_folder_that_was_damaged_on_its_way_is_refused(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "carried"
    write_offline_job(folder, files, DEVICE, QUICK)
    next((folder / "files").iterdir()).write_bytes(b"damaged")
    done = run_there(folder, tmp_path)
    assert done.returncode == 2
    assert "1 files are missing or damaged" in done.stderr
    (folder / JOB).unlink()
    assert "cannot be read" in run_there(folder, tmp_path).stderr
    with pytest.raises(UserError, match="must be the job that was measured"):
        read_offline_results(folder, files, DEVICE)


def test_a_device_known_by_its_card_only_is_not_measured(files: list[Path]) -> None:
    with pytest.raises(UserError, match="board: must be measured somewhere, its card says `where: none`"):
        measure_on(replace(DEVICE, where=Nowhere()), files)


def test_this_machine_is_measured_also_while_another_holds_the_lock(files: list[Path], own_lock: Path) -> None:
    with machine_lock("ann@lab", path=own_lock):
        large, small = measure_on(DEVICE, files, protocol=QUICK)
    assert large.latency_ms > small.latency_ms
