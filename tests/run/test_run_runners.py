from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_workloads import (
    DiesOnce,
    Holder,
    candidate_of,
    exit_process,
    exit_python,
    give_nonsense,
    raise_error,
    raise_memory_error,
    sleep_long,
    succeed,
    take_memory,
    tell_process,
)

from nas.errors import UserError
from nas.problem.evaluation import Evaluation
from nas.run.ray_runner import RayRunner
from nas.run.runner import Runner, Work, Workers, one_line
from nas.run.serial import SerialRunner


def evaluate(runner: Runner, work: Work, count: int = 1) -> list[Evaluation]:
    with runner.start() as workers, workers.open(work) as session:
        for index in range(count):
            session.submit(candidate_of(index))
        evaluations = []
        while session.in_flight:
            evaluations += session.wait()
        assert session.wait() == []
    return sorted(evaluations, key=lambda evaluation: evaluation.candidate.index)


@pytest.fixture(params=["serial", "ray"])
def runner(request: pytest.FixtureRequest) -> Runner:
    if request.param == "serial":
        return SerialRunner()
    request.getfixturevalue("local_ray")
    return RayRunner(workers=2)


def test_every_candidate_comes_back_once(runner: Runner) -> None:
    evaluations = evaluate(runner, succeed, 7)
    assert [evaluation.candidate for evaluation in evaluations] == [candidate_of(index) for index in range(7)]
    assert all(
        evaluation.status == "complete" and evaluation.metrics == {"accuracy": 0.5} for evaluation in evaluations
    )
    assert all(":" in evaluation.worker and evaluation.finished.endswith("+00:00") for evaluation in evaluations)


@pytest.mark.parametrize(
    ("work", "error"),
    [
        (raise_error, "ValueError: kernel 5 does not fit"),
        (raise_memory_error, "MemoryError"),
        (exit_python, "SystemExit: 3"),
        (give_nonsense, "TypeError: the work must give the evaluation of its candidate, got str"),
    ],
)
def test_work_that_raises_becomes_a_failed_evaluation_with_one_line(runner: Runner, work: Work, error: str) -> None:
    (evaluation,) = evaluate(runner, work)
    assert (evaluation.status, evaluation.error, dict(evaluation.metrics)) == ("failed", error, {})


def test_waiting_with_nothing_in_flight_gives_nothing_at_once(runner: Runner) -> None:
    with runner.start() as workers, workers.open(succeed) as session:
        assert session.wait() == []


def test_a_closed_session_has_nothing_in_flight(runner: Runner) -> None:
    with runner.start() as workers, workers.open(sleep_long) as session:
        session.submit(candidate_of(0))
        assert session.wait(0) == []
        session.close()
        assert session.in_flight == ()
        session.close()


def test_the_serial_runner_lets_an_interrupt_through() -> None:
    def interrupt(candidate: object) -> Evaluation:
        raise KeyboardInterrupt

    with SerialRunner().start() as workers, workers.open(interrupt) as session:
        session.submit(candidate_of(0))
        with pytest.raises(KeyboardInterrupt):
            session.wait()


def test_workers_are_used_again_and_run_one_thread(local_ray: Workers) -> None:
    evaluations = evaluate(RayRunner(workers=2), tell_process, 12)
    assert len({evaluation.metrics["process"] for evaluation in evaluations}) <= 2
    assert {evaluation.metrics["threads"] for evaluation in evaluations} == {1.0}


def test_the_arrays_of_the_work_are_shared_and_not_copied(local_ray: Workers) -> None:
    (evaluation,) = evaluate(RayRunner(workers=1), Holder(1_000_000))
    assert evaluation.metrics == {"last": 999_999.0, "owned": 0.0}


def test_a_candidate_that_always_kills_its_worker_fails_after_the_retries(local_ray: Workers) -> None:
    (evaluation,) = evaluate(RayRunner(workers=1, retries=1), exit_process)
    assert evaluation.status == "failed"
    assert evaluation.error == "its worker process died (killed, crashed, or out of memory) in each of 2 attempts"


def test_a_candidate_that_loses_its_worker_once_is_run_again(local_ray: Workers, tmp_path: Path) -> None:
    (evaluation,) = evaluate(RayRunner(workers=2, retries=1), DiesOnce(tmp_path))
    assert evaluation.status == "complete"
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_a_candidate_that_hangs_is_ended_as_timeout_and_the_others_go_on(local_ray: Workers) -> None:
    start = time.monotonic()
    evaluations = evaluate(RayRunner(workers=2, time_limit="500 ms"), sleep_long, 3)
    assert [evaluation.status for evaluation in evaluations] == ["timeout", "complete", "complete"]
    assert evaluations[0].error == "took longer than 0.5 s and did not end by itself"
    assert evaluations[0].seconds >= 0.5
    assert time.monotonic() - start < 40


def test_a_candidate_that_takes_more_than_its_memory_fails_and_its_worker_goes_on(local_ray: Workers) -> None:
    evaluations = evaluate(RayRunner(workers=1, memory="500 MB"), take_memory, 2)
    assert [evaluation.status for evaluation in evaluations] == ["failed", "complete"]
    assert evaluations[0].error.startswith("MemoryError: Unable to allocate 7.45 GiB")


def test_work_that_cannot_be_pickled_is_refused(local_ray: Workers) -> None:
    import threading

    lock = threading.Lock()
    with RayRunner().start() as workers, pytest.raises(UserError, match="cannot be sent to workers"):
        workers.open(lambda candidate: lock)  # type: ignore[arg-type,return-value]


def test_a_candidate_that_fits_on_no_node_is_refused(local_ray: Workers) -> None:
    with pytest.raises(UserError, match="needs 64 CPU, 0 GPU, but the largest node has 2 CPU"):
        RayRunner(cpus=64).start()
    with pytest.raises(UserError, match="1 GPU"):
        RayRunner(gpus=1).start()


def test_slots_are_as_many_as_fit(local_ray: Workers) -> None:
    for runner, num_slots in ((RayRunner(workers=1), 1), (RayRunner(cpus=0.5), 4), (RayRunner(workers=9, cpus=2), 1)):
        with runner.start() as workers:
            assert workers.num_slots == num_slots


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"workers": 0}, "runner.workers"),
        ({"cpus": 0}, "runner.cpus"),
        ({"cpus": 1.5}, "runner.cpus"),
        ({"gpus": -0.5}, "runner.gpus"),
        ({"memory": "12 ms"}, "runner.memory"),
        ({"memory": "4"}, "runner.memory"),
        ({"time_limit": "12 MB"}, "runner.time_limit"),
        ({"retries": -1}, "runner.retries"),
        ({"address": "somewhere"}, "runner.address"),
        ({"address": "ray://head:10001"}, "runner.address"),
    ],
)
def test_a_runner_refuses_what_does_not_fit(fields: dict[str, object], where: str) -> None:
    with pytest.raises(UserError) as caught:
        RayRunner(**fields)  # type: ignore[arg-type]
    assert caught.value.where == where


def test_a_cluster_that_does_not_answer_is_told_within_seconds() -> None:
    start = time.monotonic()
    script = (
        "from nas.run.ray_runner import RayRunner\n"
        "from nas.errors import UserError\n"
        "try: RayRunner(address='127.0.0.1:1').start()\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(
        "runner.address: no Ray cluster answers at 127.0.0.1:1 (Connection refused); start one"
    )
    assert done.stderr == ""
    assert time.monotonic() - start < 20


def test_configuring_a_runner_does_not_import_ray() -> None:
    script = "import sys; from nas.run.ray_runner import RayRunner; RayRunner(); sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_an_error_is_one_line_of_bounded_length() -> None:
    assert one_line(ValueError("first\nsecond")) == "ValueError: first"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line("x" * 5000)) == 300
