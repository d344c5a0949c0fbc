"""Searches on Ray in processes of their own, killed and interrupted."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from run_problem import FIDELITY, Judge, small_problem

import nas
from nas.problem.history import HistoryFile, read_history
from nas.run.loop import LoopOptions, search_loop
from nas.run.serial import SerialSession
from nas.strategy.random_search import RandomSearch

DRIVER = Path(__file__).with_name("run_driver.py")


def environment() -> dict[str, str]:
    root = str(Path(nas.__file__).parent.parent)
    return {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONUNBUFFERED": "1", "PYTHONPATH": root}


def start(history: Path, total: int, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(DRIVER), str(history), str(total), str(seconds)],
        stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True,
    )  # fmt: skip


def read_until(process: subprocess.Popen[str], count: int) -> list[str]:
    """The first ``count`` lines that the driver prints."""
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


def assert_gone(processes: list[psutil.Process], within: float) -> None:
    _, alive = psutil.wait_procs(processes, timeout=within)
    alive = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert alive == [], f"left running: {alive}"


def test_killing_the_driver_loses_no_finished_evaluation_and_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    process = start(path, 100_000, 0.01)
    told = read_until(process, 5)
    # Ray's agents notice later than all others that nobody is left.
    family = [child for child in psutil.Process(process.pid).children(recursive=True) if "Agent" not in child.name()]
    time.sleep(random.uniform(0, 0.5))  # any moment will do
    process.kill()
    assert process.stdout is not None
    told += [line for line in process.stdout.read().split("\n")[:-1] if line.startswith("index ")]
    process.wait(10)
    history, _ = read_history(path)
    recorded = [evaluation.candidate.index for evaluation in history]
    assert {int(line.split()[1]) for line in told} <= set(recorded)
    assert len(told) >= 5
    before = path.read_bytes()
    options = LoopOptions(num_candidates=len(history) + 3, fidelity=FIDELITY, seed=1)
    with SerialSession(Judge()) as session:
        search_loop(small_problem(5), RandomSearch(), session, history, HistoryFile(path), options=options)
    resumed, note = read_history(path)
    assert note == ""
    assert path.read_bytes().startswith(before)
    indices = [evaluation.candidate.index for evaluation in resumed]
    assert len(set(indices)) == len(indices) == len(recorded) + 3
    assert indices[-3:] == [max(recorded) + 1, max(recorded) + 2, max(recorded) + 3]
    assert_gone(family, within=20)


def test_an_interrupt_ends_the_search_soon_and_leaves_no_process(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    process = start(path, 100_000, 0.2)
    read_until(process, 3)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    begin = time.monotonic()
    # The whole group, as a terminal does.
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout is not None
    rest = process.stdout.read().splitlines()
    assert process.wait(30) == 130
    assert time.monotonic() - begin < 20
    recorded = len(read_history(path)[0])
    assert rest[-1] == f"stopped: {recorded} of 100000 candidates are recorded"
    assert recorded >= 3
    assert_gone(family, within=10)


def test_on_a_cluster_slots_follow_nodes_a_lost_one_costs_no_candidate_and_the_users_module_is_sent(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, str(DRIVER.with_name("run_cluster.py")), str(tmp_path)],
        stdout=subprocess.PIPE, text=True, env=environment(), timeout=180, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["num_slots"] == [2, 1, 2]
    assert told["submitted"] >= 10
    assert told["statuses"] == ["complete"] * told["submitted"]
    assert told["indices"] == list(range(told["submitted"]))
    assert told["processes"] >= 2
    assert "a candidate needs 1 CPU, 1 GPU, but the largest node has" in told["refused"]
