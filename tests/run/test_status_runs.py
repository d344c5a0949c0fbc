"""What is told of runs that go on, end, stop, fail, and are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import status_run
from run_problem import KEY, Judge
from status_run import make_run, search

import nas
from nas.cli.status import run_status
from nas.commands.status import latest_run, status_record, status_text
from nas.errors import UserError
from nas.problem.evaluation import Candidate, Evaluation
from nas.problem.history import read_history
from nas.run.heartbeat import STATUS, read_told
from nas.run.observer import Observer
from nas.run.status import RunStatus, read_status

ROOT = Path(nas.__file__).parent.parent


def start(folder: Path, total: int, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(Path(status_run.__file__)), str(folder), str(total), str(seconds)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_finished_run_says_so_with_its_figures(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    history = search(run, work=Judge(fails=True))
    run.update({"finished": "2026-11-24T01:02:03.000+00:00"})
    status = read_status(run.path)
    assert (status.state, status.text) == ("finished", "finished 2026-11-24 01:02:03 UTC")
    assert (status.done, status.total) == (12, 12)
    failed = sum(evaluation.status == "failed" for evaluation in history)
    assert status.counts == {"complete": 12 - failed, "failed": failed}
    assert 0 < failed < 12
    complete = [evaluation for evaluation in history if evaluation.status == "complete"]
    assert status.best["accuracy"] == max(evaluation.metrics["accuracy"] for evaluation in complete)
    assert status.best[KEY] == min(evaluation.candidate.predicted[KEY] for evaluation in complete)
    assert 0 < status.hypervolume < 1
    (kind,) = status.failures
    assert (kind.status, kind.error, kind.count) == ("failed", "RuntimeError: loss became NaN", failed)
    assert (run.path / kind.log).is_file()
    assert list(status.running) == []
    assert status.devices == ("d",)


def test_while_it_runs_it_says_what_runs_where_since_when(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    seen: list[RunStatus] = []

    def look(candidate: Candidate) -> Evaluation:
        if candidate.index == 5:
            until = time.monotonic() + 5
            while time.monotonic() < until:
                status = read_status(run.path)
                if status.done == 5 and [one.index for one in status.running] == [5] and status.running[0].worker:
                    seen.append(status)
                    break
                time.sleep(0.02)
        return Judge()(candidate)

    search(run, total=8, work=look)
    (status,) = seen
    assert (status.state, status.phase, status.num_slots, status.total) == ("running", "search", 1, 8)
    (candidate,) = status.running
    assert candidate.worker.endswith(f":{os.getpid()}")
    assert candidate.sign == "begun"
    assert 0 <= candidate.sign_seconds <= candidate.age_seconds + 1e-3 < 6
    assert f"process {os.getpid()}" in status.driver
    assert status.beat_seconds < 5
    text = status_text(status)
    assert "search   5/8  failed 0  running 1 of 1 slots" in text
    assert f"running  #5 {candidate.digest[:6]}  1 epoch  {candidate.worker}" in text
    assert read_status(run.path).state == "finished"


def test_a_killed_driver_is_noticed_at_once_and_nothing_recorded_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    process = start(folder, 100_000, 0.01)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    assert read_status(folder).state == "running"
    os.kill(process.pid, signal.SIGSTOP)
    stopped = read_status(folder, now=time.time() + 120)
    assert stopped.state == "silent"
    assert "lives but has told nothing since" in stopped.text
    process.kill()
    process.wait(10)
    status = read_status(folder)
    assert status.state == "lost"
    assert status.text.startswith("the driver does not answer since 20")
    assert status.done == status.counts["complete"] == len(read_history(folder / "history.jsonl")[0]) >= 19
    assert list(status.running) == []
    assert f"next     nas search run.resume={folder}" in status_text(status)


def test_a_driver_elsewhere_is_believed_until_it_is_silent(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    search(run, total=3)
    told = {**read_told(run.path, []), "state": "running", "phase": "search", "host": "another-host"}
    (run.path / STATUS).write_text(json.dumps(told))
    assert read_status(run.path).state == "running"
    assert read_status(run.path, now=time.time() + 31).state == "lost"
    run.update({"finished": "2026-11-24T01:02:03.000+00:00"})
    assert read_status(run.path, now=time.time() + 31).state == "finished"


@pytest.mark.parametrize(
    ("error", "state", "text"),
    [
        (KeyboardInterrupt(), "stopped", "stopped 20"),
        (UserError("runner", "must be there"), "failed", "runner: must be there"),
        (ZeroDivisionError("no"), "failed", "ZeroDivisionError: no"),
    ],
)
def test_how_a_run_ended_is_told(tmp_path: Path, error: BaseException, state: str, text: str) -> None:
    run = make_run(tmp_path / "a")

    def stop(observer: Observer) -> None:
        raise error

    with pytest.raises(type(error)):
        search(run, each=stop)
    status = read_status(run.path)
    assert status.state == state
    assert text in status.text
    assert not status.alive


def test_a_resumed_run_goes_on_with_its_figures(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    search(run, total=5, work=Judge(seconds=0.02))
    first = read_status(run.path)
    search(run, total=9, work=Judge(seconds=0.02))
    status = read_status(run.path)
    assert (first.done, status.done) == (5, 9)
    assert read_told(run.path, [])["slot_seconds"] > 9 * 0.02
    assert 0.3 < status.busy_share <= 1


def test_a_run_without_a_status_file_and_one_with_a_broken_one_are_read_from_their_history(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    search(run)
    whole = read_status(run.path)
    for content in (None, "nonsense", "[]", '{"format": 99}', '{"format": 1, "state": "stopped", "summary": {}}'):
        (run.path / STATUS).unlink()
        if content is not None:
            (run.path / STATUS).write_text(content)
        status = read_status(run.path)
        assert (status.counts, status.best, status.done) == (whole.counts, whole.best, 12)
        assert bool(status.notes) == (content is not None)
        (run.path / STATUS).write_text("")
    (run.path / STATUS).unlink()
    assert read_status(run.path).state == "unfinished"
    run.update({"finished": "2026-11-24T01:02:03.000+00:00"})
    assert read_status(run.path).state == "finished"


def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be a run folder, but there is no manifest\.json in it"):
        read_status(tmp_path)
    for content in ("", "[1]", "\xff"):
        (tmp_path / "manifest.json").write_text(content, encoding="latin-1")
        with pytest.raises(UserError):
            read_status(tmp_path)


def test_a_status_that_cannot_be_written_is_noted_once_and_the_search_goes_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    notes: list[str] = []
    (run.path / STATUS).mkdir()
    history = search(run, work=Judge(seconds=0.02), note=notes.append)
    assert len(history) == 12
    assert len(notes) == 1
    assert notes[0].startswith("the status of the run cannot be told: ")


def test_the_command_shows_watches_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "runs" / "a")
    search(run)
    monkeypatch.chdir(tmp_path)
    assert latest_run() == Path("runs/a")
    assert run_status([]) == 0
    assert "search   12/12  failed 0" in capsys.readouterr().out
    assert run_status([str(run.path), "--watch", "--json", "interval=0.1"]) == 0
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert record == json.loads(json.dumps(status_record(read_status(run.path)))) | {
        "beat_seconds": record["beat_seconds"]
    }
    for arguments in (["a", "b"], ["wach=true"], ["watch=maybe"], ["interval=0"], ["--wath"], ["nowhere"]):
        with pytest.raises(UserError):
            run_status(arguments)


def test_watching_a_run_ends_with_it(tmp_path: Path) -> None:
    process = start(tmp_path / "a", 20, 0.05)
    assert process.stdout is not None
    process.stdout.readline()
    watch = subprocess.run(
        [sys.executable, "-c", "import sys; from nas.cli.status import run_status; sys.exit(run_status(sys.argv[1:]))",
         str(tmp_path / "a"), "watch=true", "interval=0.1", "--json"],
        stdout=subprocess.PIPE, text=True, check=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    process.communicate(timeout=20)
    records = [json.loads(line) for line in watch.stdout.splitlines()]
    assert records[0]["state"] == "running"
    assert (records[-1]["state"], records[-1]["done"]) == ("finished", 20)
    assert [record["done"] for record in records] == sorted(record["done"] for record in records)


def test_the_status_of_a_run_imports_nothing_heavy(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    search(run, total=3)
    program = (
        "import sys; from nas.cli.status import run_status; run_status(sys.argv[1:]);"
        "heavy = {'numpy', 'torch', 'ray', 'hydra', 'pandas', 'moocore', 'rich'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(run.path)], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
