"""Forecasts, sweeps, and output for scripts."""

from __future__ import annotations

import json

from nas_command import TINY, Here, contents

FORECAST = ("search", *TINY, "runner=serial", "--dry-run")


def test_a_dry_run_forecasts_and_leaves_no_run_folder(again: Here) -> None:
    before = contents(again.folder)
    outcome = again.nas(*FORECAST, "budget.parameters=3 k", "run.candidates=10")
    assert (outcome.code, outcome.err) == (0, "")
    lines = {line.split()[0]: line for line in outcome.out.splitlines()}
    assert "252 architectures" in lines["space"]
    assert lines["budget"] == "budget   parameters <= 3 k"
    assert "% of the space meets every budget" in lines["fits"]
    assert "to" in lines["range"]
    assert "10 candidates x 1 epoch" in lines["plan"]
    assert "about 0:" in lines["plan"]
    assert contents(again.folder) == before


def test_a_quantity_in_another_unit_is_converted(again: Here) -> None:
    outcome = again.nas(*FORECAST, "budget.latency=12 s")
    assert outcome.code == 0
    assert "budget   latency <= 12 s with 95% confidence\n" in outcome.out
    assert "100.0% of the space meets every budget" in outcome.out


def test_quiet_prints_nothing_on_standard_output(again: Here) -> None:
    outcome = again.nas(*FORECAST, "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_json_prints_nothing_but_one_object_a_line_and_the_paths_at_last(again: Here) -> None:
    outcome = again.nas("search", "run.resume=runs/tiny", "run.candidates=5", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    events = [json.loads(line) for line in outcome.out.splitlines()]
    assert {event["event"] for event in events} == {"fact", "progress", "result"}
    (result,) = [event for event in events if event["event"] == "result"]
    assert (result["folder"], result["report"]) == ("runs/tiny", "runs/tiny/report.html")
    assert all((again.folder / "runs/tiny" / file).is_file() for file in result["files"])
    done = [(event["done"], event["total"]) for event in events if event.get("topic") == "search"]
    assert (done[0], done[-1]) == ((4, 5), (5, 5))


def test_a_sweep_runs_each_value_and_leaves_nothing_of_its_own(again: Here) -> None:
    before = contents(again.folder)
    outcome = again.nas(*FORECAST, "--multirun", "run.candidates=3,5")
    assert (outcome.code, outcome.err) == (0, "")
    plans = [line for line in outcome.out.splitlines() if line.startswith("plan")]
    assert [plan.split()[1] for plan in plans] == ["3", "5"]
    assert contents(again.folder) == before
