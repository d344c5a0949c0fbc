"""Timing over a real sshd on loopback, with keys and ports of its own."""

import getpass
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from nas.device.card import Device
from nas.device.protocol import Measurement, TimingProtocol
from nas.device.where.failures import BoardBusyError, ConnectionLostError
from nas.device.where.job import sha256_of
from nas.device.where.lock import machine_lock
from nas.device.where.measure import measure_on
from nas.device.where.places import Ssh
from nas.errors import UserError

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
pytestmark = [
    pytest.mark.skipif(platform.system() != "Linux", reason="the loopback server is set up as on Linux"),
    pytest.mark.skipif(SSHD is None or shutil.which("ssh") is None, reason="OpenSSH server and client are needed"),
]
QUICK = TimingProtocol(blocks=2, warmups=1, runs=3, min_round_s=0.0, max_wait_s=2.0)


@dataclass(frozen=True)
class Server:
    """A running sshd.

    Attributes:
        folder: of its files.
        port: on loopback.
        process: its main process.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def place(self) -> Ssh:
        return Ssh(
            host="127.0.0.1",
            user=getpass.getuser(),
            port=self.port,
            key=self.folder / "key",
            known_hosts=self.folder / "known_hosts",
            python=str(self.folder / "python"),
            folder=str(self.folder / "there"),
            timeout_s=5,
        )

    @property
    def lock(self) -> Path:
        return self.folder / "tmp" / "nas-measuring.lock"


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def write_script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return path


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("sshd"), free_port()
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    host_key, key = make_key(folder / "host_key"), make_key(folder / "key")
    (folder / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
    kind, public = host_key.with_suffix(".pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {public}\n")
    (folder / "tmp").mkdir()
    # With a lock of its own: others may be measuring on this machine.
    write_script(folder / "python", f'TMPDIR={folder / "tmp"} exec {sys.executable} "$@"')
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nAuthorizedKeysFile {folder / 'authorized_keys'}\n"
        "StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    assert SSHD is not None
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stdout=log, stderr=log)
    try:
        _wait_for(lambda: _listens(port) or process.poll() is not None)
        if process.poll() is not None:
            pytest.skip(f"sshd does not start here: {(folder / 'log').read_text().strip()}")
        yield Server(folder, port, process)
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def _wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write_matmul(tmp_path / f"{size}.onnx", size) for size in (800, 8, 40)]


def write_matmul(path: Path, size: int) -> Path:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [size, size], np.full(size * size, 0.5, dtype=np.float32))
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, size])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, size])]
    graph = helper.make_graph([node], "matmul", inputs, outputs, [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def take(place: Ssh, files: Sequence[Path], **options: object) -> list[Measurement]:
    return measure_on(Device(name="board", where=place), files, protocol=QUICK, **options)  # type: ignore[arg-type]


def refused(place: Ssh, files: Sequence[Path]) -> str:
    with pytest.raises(UserError) as caught:
        take(place, files)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_are_measured_there_in_their_order_and_told_as_they_come(server: Server, files: list[Path]) -> None:
    told: list[Measurement] = []
    steps: list[tuple[int, int]] = []
    again = [*files, files[1]]
    taken = take(
        server.place(), again, on_measured=told.extend, progress=lambda done, total: steps.append((done, total))
    )
    assert [entry.file for entry in taken] == again
    assert taken[0].latency_ms > 2 * taken[1].latency_ms
    assert taken[3] == taken[1]
    assert {entry.file for entry in told} == set(files)
    assert steps[-1] == (3, 3)
    assert taken[0].device == "board"
    assert taken[0].host.cpu
    # Nothing of the job stays behind; the runner there tidies up after its last word.
    until = time.monotonic() + 10
    while (left := list((server.folder / "there").rglob("*.*"))) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []


def test_no_files_need_no_connection(server: Server) -> None:
    assert take(replace(server.place(), host="host.invalid"), []) == []


def test_a_file_that_is_there_already_is_used_and_a_damaged_one_is_sent_again(
    server: Server, files: list[Path]
) -> None:
    there = server.folder / "there" / "files"
    there.mkdir(parents=True, exist_ok=True)
    shutil.copy(files[0], there / f"{sha256_of(files[0])}.onnx")
    (there / f"{sha256_of(files[1])}.onnx").write_bytes(b"damaged")
    assert len(take(server.place(), files[:2])) == 2


def test_an_unreachable_port_and_an_unknown_name_are_told_apart_from_keys(server: Server, files: list[Path]) -> None:
    closed = refused(replace(server.place(), port=free_port()), files)
    assert "cannot be reached" in closed
    assert "Connection refused" in closed
    assert "cannot be reached" in refused(replace(server.place(), host="host.invalid", port=None), files)


def test_an_unknown_host_key_is_refused(server: Server, files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "known").write_text("")
    assert "a host key that is not known" in refused(replace(server.place(), known_hosts=tmp_path / "known"), files)


def test_a_changed_host_key_is_refused_with_what_to_do(server: Server, files: list[Path], tmp_path: Path) -> None:
    kind, public = make_key(tmp_path / "other").with_suffix(".pub").read_text().split()[:2]
    (tmp_path / "known").write_text(f"[127.0.0.1]:{server.port} {kind} {public}\n")
    problem = refused(replace(server.place(), known_hosts=tmp_path / "known"), files)
    assert "has another host key than the known one" in problem
    assert "ssh-keygen -R" in problem


def test_a_wrong_key_is_refused_and_a_missing_one_is_named(server: Server, files: list[Path], tmp_path: Path) -> None:
    wrong = make_key(tmp_path / "wrong")
    assert "does not accept the key" in refused(replace(server.place(), key=wrong), files)
    assert "key: must be a file, there is no" in refused(replace(server.place(), key=tmp_path / "none"), files)


def test_a_missing_python_is_told(server: Server, files: list[Path]) -> None:
    assert "'python9' cannot be run there" in refused(replace(server.place(), python="python9"), files)


def test_a_python_that_is_too_old_or_lacks_onnxruntime_is_told(
    server: Server, files: list[Path], tmp_path: Path
) -> None:
    pretend = "import sys; code = sys.argv[2]; sys.argv = sys.argv[2:]; sys.version_info = (3, 8, 1); exec(code)"
    old = write_script(tmp_path / "old", f"exec {sys.executable} -c '{pretend}' \"$@\"")
    assert "must be Python 3.9 or newer, it is 3.8" in refused(replace(server.place(), python=str(old)), files)
    bare = write_script(tmp_path / "bare", f'exec {sys.executable} -S "$@"')
    problem = refused(replace(server.place(), python=str(bare)), files)
    assert "must be able to import onnxruntime" in problem
    assert "pip install onnxruntime" in problem


def test_a_busy_board_says_since_when_and_by_whom(server: Server, files: list[Path]) -> None:
    with machine_lock("ann@lab", path=server.lock), pytest.raises(BoardBusyError, match=r"ann@lab .* since 20\d\d-"):
        take(server.place(), files)


def test_a_file_that_cannot_be_timed_is_named_as_here(server: Server, files: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not an onnx file")
    assert refused(server.place(), [files[0], broken]).startswith(f"{broken}: cannot be loaded by onnxruntime")
    gone = tmp_path / "gone.onnx"
    assert refused(server.place(), [files[0], gone]).startswith(f"{gone}: must be an ONNX file")


def test_a_core_that_is_not_there_is_told(server: Server, files: list[Path]) -> None:
    assert "4095 may not" in refused(replace(server.place(), cores=(4095,)), files)


def test_a_full_disk_is_told(server: Server, files: list[Path], tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        assert "has no room for the files" in refused(replace(server.place(), folder=str(small)), files)
    finally:
        subprocess.run(["umount", small], check=True)


def stop_after_one(action: Callable[[], None]) -> tuple[list[Measurement], Callable[[Sequence[Measurement]], None]]:
    told: list[Measurement] = []

    def on_measured(group: Sequence[Measurement]) -> None:
        told.extend(group)
        if len(told) == 1:
            action()

    return told, on_measured


def many(tmp_path: Path) -> list[Path]:
    """Files for several groups."""
    return [write_matmul(tmp_path / f"many-{size}.onnx", size) for size in range(8, 60)]


def test_a_connection_that_breaks_off_keeps_what_was_measured(server: Server, tmp_path: Path) -> None:
    def cut() -> None:
        for session in psutil.Process(server.process.pid).children(recursive=True):
            if session.name().startswith("sshd"):
                session.send_signal(signal.SIGKILL)

    told, on_measured = stop_after_one(cut)
    with pytest.raises(ConnectionLostError, match=r"went away after \d+ of 52 files") as caught:
        take(server.place(), many(tmp_path), on_measured=on_measured)
    assert f"after {len(told)} of" in str(caught.value)
    assert told[0].latency_ms > 0
    assert _wait_for(lambda: _is_free(server.lock))


def test_an_interrupt_ends_what_runs_there_and_keeps_what_was_measured(server: Server, tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    told, on_measured = stop_after_one(interrupt)
    with pytest.raises(KeyboardInterrupt):
        take(server.place(), many(tmp_path), on_measured=on_measured)
    assert len(told) == 1
    assert _wait_for(lambda: _is_free(server.lock))


def _is_free(lock: Path) -> bool:
    try:
        with machine_lock("test", path=lock):
            return True
    except BoardBusyError:
        return False
