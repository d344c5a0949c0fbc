"""Searches that are killed or interrupted, and go on. Ray is what most users run, so it is what is interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess

from nas_command import TINY, Here, run_nas, start_nas

from nas.run.front import read_front_csv

MANY = "run.candidates=150"


def wait_for_candidates(process: subprocess.Popen[str], count: int) -> None:
    """Reads what a search with ``--json`` tells, until ``count`` candidates are done."""
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event.get("topic") == "search" and event.get("done", 0) >= count:
            return
    raise AssertionError(process.communicate()[1])


def test_a_killed_search_loses_no_finished_candidate_and_goes_on(again: Here) -> None:
    arguments = ("search", *TINY, "runner=serial", MANY, "run.name=killed", "--json")
    process = start_nas(*arguments, folder=again.folder)
    wait_for_candidates(process, 3)
    process.kill()
    told = 3 + sum('"topic": "search"' in line for line in process.communicate()[0].splitlines()[:-1])
    file = again.folder / "runs/killed/history.jsonl"
    whole = file.read_bytes().rpartition(b"\n")[0] + b"\n"
    assert whole.count(b"\n") >= told
    with file.open("ab") as stream:
        stream.write(b'{"index": ')  # as if it had been killed within a write
    total = whole.count(b"\n") + 1
    outcome = again.nas("search", "run.resume=runs/killed", f"run.candidates={total}")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(r"^note +.*history\.jsonl.*$", outcome.out, re.MULTILINE)
    assert file.read_bytes().startswith(whole)
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({record["index"] for record in records}) == len(records) == total
    assert len(read_front_csv(file.with_name("front.csv"))) == 4


def test_an_interrupted_search_on_ray_prints_how_to_go_on_which_ends_with_a_front(again: Here) -> None:
    arguments = ("search", *TINY, "runner=ray", "run.workers=2", MANY, "run.name=stopped", "--json")
    process = start_nas(*arguments, folder=again.folder)
    wait_for_candidates(process, 2)
    os.killpg(process.pid, signal.SIGINT)  # the whole group, as a terminal does
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert [line for line in out.splitlines() if not line.startswith("{")] == []
    told = re.fullmatch(
        r"stopped: (\d+) of 150 candidates are recorded. Go on with: nas (search run.resume=runs/stopped)\n", err
    )
    assert told is not None, err
    history = again.folder / "runs/stopped/history.jsonl"
    before = history.read_bytes()
    assert before.count(b"\n") == int(told.group(1)) >= 2
    assert (again.folder / "runs/stopped/report.html").is_file()
    outcome = run_nas(*told.group(2).split(), f"run.candidates={int(told.group(1)) + 2}", folder=again.folder)
    assert (outcome.code, outcome.err) == (0, "")
    assert "runner   2 workers on this machine (Ray " in outcome.out
    assert history.read_bytes().startswith(before)
    assert history.read_bytes().count(b"\n") == int(told.group(1)) + 2
    assert len(read_front_csv(again.folder / "runs/stopped/front.csv")) == 4
    assert again.nas("verify", "runs/stopped").code == 0
