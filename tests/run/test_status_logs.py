"""The log of each candidate."""

from __future__ import annotations

import json
import logging
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from run_problem import Judge
from run_workloads import candidate_of, complete
from status_run import by_index, make_run, search

from nas.problem.evaluation import Candidate, Evaluation
from nas.run.candidate_log import EVENTS, LOGS, MAX_BYTES, Logged, close_log, last_sign
from nas.run.runner import failure


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


def train(candidate: Candidate) -> Evaluation:
    for epoch in (1, 2):
        EVENTS.info("epoch", extra={"fields": {"epoch": epoch, "epochs": 2, "loss": math.nan}})
    logging.getLogger("nas.train").warning("slow: %d", 7)
    logging.getLogger("nas.train").info("not worth a line")
    logging.getLogger("other").warning("not ours")
    return complete(candidate, accuracy=0.5)


def swallow(candidate: Candidate) -> Evaluation:
    try:
        raise ValueError("deep inside")
    except ValueError as error:
        EVENTS.info("raised", exc_info=True)
        return failure(candidate, f"ValueError: {error}")


def raise_interrupt(candidate: Candidate) -> Evaluation:
    raise KeyboardInterrupt


def test_a_log_tells_what_happened_in_order_as_strict_json(tmp_path: Path) -> None:
    work = pickle.loads(pickle.dumps(Logged(work=train, folder=tmp_path)))
    work(candidate_of(3))
    found = events(tmp_path / "3.jsonl")
    assert [one["event"] for one in found] == ["begun", "epoch", "epoch", "message", "ended"]
    assert found[0]["choices"] == {"a": "3"}
    assert (found[1]["epoch"], found[1]["loss"]) == (1, None)
    assert (found[3]["level"], found[3]["logger"], found[3]["text"]) == ("warning", "nas.train", "slow: 7")
    assert found[4]["status"] == "complete"


def test_a_failure_leaves_its_traceback_whether_it_was_raised_or_told(tmp_path: Path) -> None:
    Logged(work=swallow, folder=tmp_path)(candidate_of(0))
    with pytest.raises(RuntimeError, match="loss became NaN"):
        Logged(work=Judge(fails=True), folder=tmp_path)(candidate_of(2))
    (raised,) = (one for one in events(tmp_path / "0.jsonl") if one["event"] == "raised")
    assert "in swallow" in raised["trace"]
    assert raised["trace"].endswith("ValueError: deep inside\n")
    *_, ended = events(tmp_path / "2.jsonl")
    assert (ended["status"], ended["error"]) == ("failed", "RuntimeError: loss became NaN")
    assert "in __call__" in ended["trace"]


def test_outside_of_a_log_events_are_dropped_and_nothing_stays_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = EVENTS.level, EVENTS.propagate, list(EVENTS.handlers), list(logging.getLogger("nas").handlers)
    with pytest.raises(KeyboardInterrupt):
        Logged(work=raise_interrupt, folder=tmp_path)(candidate_of(0))
    assert (EVENTS.level, EVENTS.propagate, list(EVENTS.handlers), list(logging.getLogger("nas").handlers)) == before
    EVENTS.info("epoch")
    assert "epoch" not in caplog.text
    assert [one["event"] for one in events(tmp_path / "0.jsonl")] == ["begun", "ended"]


def test_a_log_is_bounded_and_still_ends(tmp_path: Path) -> None:
    def chatter(candidate: Candidate) -> Evaluation:
        for epoch in range(3000):
            EVENTS.info("epoch", extra={"fields": {"epoch": epoch, "text": "x" * 90}})
        raise ValueError("y" * 50_000)

    for attempt in (1, 2):
        with pytest.raises(ValueError, match="yyy"):
            Logged(work=chatter, folder=tmp_path)(candidate_of(0))
        assert (tmp_path / "0.jsonl").stat().st_size < attempt * (MAX_BYTES + 10_000)
    *_, full, ended = events(tmp_path / "0.jsonl")
    assert (full["event"], ended["event"]) == ("full", "ended")


def test_where_the_folder_cannot_be_seen_or_written_the_work_is_done_all_the_same(tmp_path: Path) -> None:
    assert Logged(work=train, folder=tmp_path / "elsewhere")(candidate_of(0)).status == "complete"
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "1.jsonl").mkdir()
    assert Logged(work=train, folder=tmp_path)(candidate_of(1)).status == "complete"


def test_the_last_sign_is_that_of_the_latest_attempt(tmp_path: Path) -> None:
    seen = []

    def look(candidate: Candidate) -> Evaluation:
        seen.append(last_sign(tmp_path / "0.jsonl"))
        EVENTS.info("epoch", extra={"fields": {"epoch": 3, "epochs": 6}})
        seen.append(last_sign(tmp_path / "0.jsonl"))
        return complete(candidate)

    assert last_sign(tmp_path / "0.jsonl") is None
    for _ in range(2):
        Logged(work=look, folder=tmp_path)(candidate_of(0))
    first, epoch, again, _ = seen
    assert [sign.text for sign in (first, epoch, again)] == ["begun", "epoch 3 of 6", "begun"]
    assert again.began >= epoch.at >= first.began
    (tmp_path / "0.jsonl").write_text("nonsense\n{\n")
    assert last_sign(tmp_path / "0.jsonl") is None


def test_the_driver_ends_the_log_of_a_worker_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / LOGS).mkdir()
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "from nas.run.candidate_log import Logged; from run_workloads import candidate_of, exit_process\n"
        "Logged(work=exit_process, folder=Path(sys.argv[1]))(candidate_of(4))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / LOGS), str(Path(__file__).parent)], check=False)
    lost = failure(candidate_of(4), "its worker process died")
    assert close_log(tmp_path, lost) == "logs/4.jsonl"
    assert close_log(tmp_path, lost) == "logs/4.jsonl"
    begun, ended = events(tmp_path / LOGS / "4.jsonl")
    assert begun["event"] == "begun"
    assert (ended["error"], ended["told_by"]) == ("its worker process died", "the driver")
    assert close_log(tmp_path, failure(candidate_of(5), "lost")) == ""


def test_failures_in_the_history_point_to_their_logs_and_old_logs_go(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    history = by_index(search(run, total=30, work=Judge(fails=True), keep_logs=4))
    failed = [index for index, evaluation in history.items() if evaluation.status == "failed"]
    complete_ones = [index for index in history if index not in failed]
    assert all(history[index].error == f"RuntimeError: loss became NaN; log logs/{index}.jsonl" for index in failed)
    assert all(history[index].error == "" for index in complete_ones)
    kept = sorted(int(path.stem) for path in (run.path / LOGS).iterdir())
    assert kept == sorted([*failed[-4:], *complete_ones[-4:]])
