"""Going on with a run, and starting another one beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from nas_command import SPACE, TINY, Here, assert_one_clear_line, contents

from nas.run.front import read_front_csv

RUN = Path("runs/tiny")


def history_of(run: Path = RUN) -> list[bytes]:
    return (run / "history.jsonl").read_bytes().splitlines(keepends=True)


def manifest_of(run: Path = RUN) -> dict[str, object]:
    record = json.loads((run / "manifest.json").read_text())
    assert isinstance(record, dict)
    return record


def test_a_second_search_uses_the_stored_latency_model(again: Here) -> None:
    before = contents(again.folder)
    outcome = again.nas("search", *TINY, "runner=serial", "--dry-run")
    assert (outcome.code, outcome.err) == (0, "")
    assert "latency  float32 (searched): Spearman" in outcome.out
    assert "measuring" not in outcome.out
    assert contents(again.folder) == before


def test_a_resumed_run_with_more_candidates_keeps_the_earlier_ones_and_ends_with_a_front(again: Here) -> None:
    before, measured = history_of(), (RUN / "front.csv").read_text()
    outcome = again.nas("search", "run.resume=runs/tiny", "run.candidates=6")
    assert (outcome.code, outcome.err) == (0, "")
    assert history_of()[:4] == before
    assert [json.loads(line)["index"] for line in history_of()] == [0, 1, 2, 3, 4, 5]
    assert "data     digits  240 train" in outcome.out  # the overrides of the run that is resumed
    assert "runner   this process" in outcome.out
    assert manifest_of()["finished"] is not None
    models = {path.name for path in (RUN / "models").iterdir()}
    assert set(read_front_csv(RUN / "front.csv")["digest"]) <= models
    assert measured.splitlines()[0] == (RUN / "front.csv").read_text().splitlines()[0]


def test_a_resumed_run_may_have_other_budgets_which_the_new_front_keeps(again: Here) -> None:
    before = history_of()
    smallest = min(record["metrics"]["parameters"] for record in map(json.loads, before))
    outcome = again.nas("search", "run.resume=runs/tiny", f"budget.parameters={smallest:.0f}")
    assert (outcome.code, outcome.err) == (0, "")
    assert "note     going on with other budgets; earlier evaluations are kept\n" in outcome.out
    assert history_of() == before
    front = read_front_csv(RUN / "front.csv")
    assert set(front["parameters"]) == {smallest}
    assert front["accepted"].all()
    assert [budget["key"] for budget in manifest_of()["budgets"]] == ["parameters"]  # type: ignore[index, attr-defined]


def test_an_exact_budget_that_no_exported_file_keeps_is_refused_before_anything_changes(again: Here) -> None:
    before = contents(again.folder)
    outcome = again.nas("search", "run.resume=runs/tiny", "budget.parameters=3")
    assert_one_clear_line(outcome, "budget.parameters: nothing in small meets 3; the smallest seen is ", "relax it to ")
    assert contents(again.folder) == before


def test_a_changed_space_is_refused_with_the_difference_and_measures_nothing(again: Here) -> None:
    (again.folder / "small.yaml").write_text(SPACE.replace("[4, 8, 12]", "[4, 8]"))
    before = contents(again.folder)
    outcome = again.nas("search", "run.resume=runs/tiny", "run.candidates=6")
    assert_one_clear_line(
        outcome, "run.resume: the space of runs/tiny has changed: ", "width: [4, 8, 12] became [4, 8]"
    )
    assert contents(again.folder) == before


def test_changed_data_are_refused_with_the_difference(again: Here) -> None:
    before = contents(again.folder)
    outcome = again.nas("search", "run.resume=runs/tiny", "data.limit=250")
    assert_one_clear_line(outcome, "run.resume: the data of runs/tiny has changed: ", "num_train: 240 became 200")
    assert contents(again.folder) == before


def test_a_history_with_a_torn_last_line_is_repaired_with_a_note(again: Here) -> None:
    before = history_of()
    with (RUN / "history.jsonl").open("ab") as file:
        file.write(b'{"index": 4, "digest": "9c4')
    outcome = again.nas("search", "run.resume=runs/tiny", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert history_of() == before
    events = [json.loads(line) for line in outcome.out.splitlines()]
    (note,) = [event["text"] for event in events if event["event"] == "note"]
    assert "history.jsonl" in note


def test_two_searches_with_one_seed_have_the_same_history_but_for_times(again: Here) -> None:
    outcome = again.nas("search", *TINY, "runner=serial", "run.candidates=4", "run.name=twin", "run.front=1")
    assert outcome.code == 0
    times = ["seconds", "worker", "finished"]
    first, second = (
        pd.DataFrame(map(json.loads, history_of(Path("runs") / name))).drop(columns=times) for name in ("tiny", "twin")
    )
    pd.testing.assert_frame_equal(first, second)


def test_an_existing_run_is_not_overwritten(again: Here) -> None:
    before = contents(again.folder)
    outcome = again.nas("search", *TINY, "run.name=tiny")
    assert_one_clear_line(outcome, "run.name: the run folder runs/tiny exists", "run.resume=runs/tiny")
    assert contents(again.folder) == before
