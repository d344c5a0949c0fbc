from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UserError
from nas.problem.evaluation import Candidate, Evaluation, Fidelity, Status
from nas.problem.history import History, HistoryFile, read_history
from nas.problem.records import STATUSES, evaluation_from_record, evaluation_to_record
from nas.space.architecture import Architecture


def evaluation(index: int, status: Status = "complete", **metrics: float) -> Evaluation:
    architecture = Architecture(
        row=(index % 7, -1, index % 3), choices={"kernel": str(index % 7)}, digest=f"{index:016x}"
    )
    return Evaluation(
        candidate=Candidate(
            index=index,
            architecture=architecture,
            fidelity=Fidelity(epochs=3, resolution=0.5, data_share=0.25),
            seed=index + 1,
            predicted={"macs": 10.0 * index},
            upper={"latency_ms.d": 0.5},
        ),
        status=status,
        metrics=metrics if status == "complete" else {},
        seconds=1.5,
        error="" if status == "complete" else "ValueError: bad",
        worker="host:12",
        finished="2026-11-23T18:00:00+00:00",
    )


def text(name: str) -> st.SearchStrategy[str]:
    return st.text(max_size=12).map(lambda value: f"{name}{value}")


NUMBERS = st.dictionaries(text("m"), st.floats(allow_nan=False, allow_infinity=False), max_size=3)
EVALUATIONS = st.builds(
    Evaluation,
    candidate=st.builds(
        Candidate,
        index=st.integers(0, 10**6),
        architecture=st.builds(
            Architecture,
            row=st.lists(st.integers(-1, 300), max_size=5).map(tuple),
            choices=st.dictionaries(text("c"), text("o"), max_size=3),
            digest=st.text("0123456789abcdef", min_size=16, max_size=16),
        ),
        fidelity=st.builds(
            Fidelity, epochs=st.integers(1, 99), resolution=st.floats(0.1, 2), data_share=st.floats(0.01, 1)
        ),
        seed=st.integers(0, 2**63),
        predicted=NUMBERS,
        upper=NUMBERS,
    ),
    status=st.sampled_from(STATUSES),
    metrics=NUMBERS,
    seconds=st.floats(0, 1e6),
    error=st.text(max_size=20),
    worker=st.text(max_size=20),
    finished=st.text(max_size=20),
)


@given(original=EVALUATIONS)
def test_an_evaluation_comes_back_from_strict_json_as_it_was(original: Evaluation) -> None:
    line = json.dumps(evaluation_to_record(original), allow_nan=False)
    assert "\n" not in line
    copy = evaluation_from_record(json.loads(line))
    assert copy == original
    assert copy.candidate.architecture.choices == original.candidate.architecture.choices


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_null_and_comes_back_as_nan(value: float) -> None:
    record = evaluation_to_record(evaluation(0, loss=value))
    assert record["metrics"] == {"loss": None}
    assert math.isnan(evaluation_from_record(record).metrics["loss"])


def test_numpy_numbers_are_written_as_plain_ones() -> None:
    record = evaluation_to_record(evaluation(int(np.int64(3)), accuracy=np.float32(0.5)))
    assert type(record["metrics"]["accuracy"]) is float  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"status": "done"}, "status must be one of complete, failed, infeasible, timeout, stopped, got 'done'"),
        ({"index": "3"}, "index must be an integer, got '3'"),
        ({"index": True}, "index must be an integer, got True"),
        ({"row": [1.0]}, "row must be a list of integers"),
        ({"metrics": {"accuracy": "high"}}, "metrics must be a number or null"),
        ({"choices": {"kernel": 3}}, "choices must be a string"),
        ({"fidelity": 3}, "fidelity must be an object, got 3"),
        ({"error": None}, "error must be a string"),
    ],
)
def test_a_record_of_another_kind_is_refused_with_key_rule_and_value(change: dict[str, object], part: str) -> None:
    with pytest.raises(UserError) as caught:
        evaluation_from_record(evaluation_to_record(evaluation(1)) | change, where="h: line 1")
    assert part in str(caught.value)
    assert caught.value.where == "h: line 1"


def test_a_record_without_a_key_names_it_and_unknown_keys_are_ignored() -> None:
    record = evaluation_to_record(evaluation(1))
    assert evaluation_from_record(record | {"note": 1}) == evaluation(1)
    del record["digest"]
    with pytest.raises(UserError, match="must have the key 'digest'"):
        evaluation_from_record(record)
    with pytest.raises(UserError, match="must be an object"):
        evaluation_from_record([1])  # type: ignore[arg-type]


def test_a_history_gives_its_rows_figures_and_digests() -> None:
    history = History([evaluation(0, accuracy=0.5), evaluation(1, "failed"), evaluation(2, loss=1.0)])
    assert len(history) == 3
    assert [item.candidate.index for item in history] == [0, 1, 2]
    assert history[1].status == "failed"
    assert history.rows.dtype == np.int16
    assert history.rows.tolist() == [[0, -1, 0], [1, -1, 1], [2, -1, 2]]
    assert history.complete.tolist() == [True, False, True]
    assert history.digests == {f"{index:016x}" for index in range(3)}
    assert history.row_keys == {row.tobytes() for row in history.rows}
    np.testing.assert_array_equal(history.metric("accuracy"), [0.5, math.nan, math.nan])
    np.testing.assert_array_equal(history.metric("macs"), [math.nan] * 3)
    np.testing.assert_array_equal(history.figure("macs"), [0.0, math.nan, 20.0])


def test_an_empty_history_has_empty_arrays_that_fill_later() -> None:
    history = History()
    assert history.rows.shape == (0, 0)
    assert history.metric("accuracy").shape == (0,)
    history.append(evaluation(4, accuracy=0.5))
    assert history.rows.shape == (1, 3)
    assert history.metric("accuracy").tolist() == [0.5]


def test_arrays_given_out_are_read_only_and_stay_as_they_were() -> None:
    history = History(evaluation(index, accuracy=0.1 * index) for index in range(5))
    rows, accuracy = history.rows, history.metric("accuracy")
    before = rows.copy(), accuracy.copy()
    for index in range(5, 500):
        history.append(evaluation(index, accuracy=0.0))
        assert len(history.rows) == index + 1
    np.testing.assert_array_equal(rows, before[0])
    np.testing.assert_array_equal(accuracy, before[1])
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 1


def test_reading_all_arrays_after_each_append_stays_cheap_at_ten_thousand_evaluations() -> None:
    history = History(evaluation(index, accuracy=0.5) for index in range(10_000))
    history.rows, history.metric("accuracy"), history.complete
    start = time.process_time()
    for index in range(10_000, 10_200):
        history.append(evaluation(index, accuracy=0.5))
        assert len(history.rows) == len(history.metric("accuracy")) == len(history.complete) == index + 1
    assert (time.process_time() - start) / 200 < 1e-3


def test_each_line_is_in_the_file_as_soon_as_append_returns(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    file = HistoryFile(path)
    for index in range(3):
        file.append(evaluation(index, accuracy=0.5))
        assert len(path.read_bytes().splitlines()) == index + 1
    history, note = read_history(path)
    assert note == ""
    assert list(history) == [evaluation(index, accuracy=0.5) for index in range(3)]


def test_an_append_is_one_write_and_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    write, sync = os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda fd, data: (calls.append("write"), write(fd, data))[1])
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), sync(fd))[1])
    path = tmp_path / "history.jsonl"
    path.touch()
    HistoryFile(path).append(evaluation(0))
    assert calls == ["write", "fsync"]


def test_a_missing_or_empty_file_is_an_empty_history(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    assert len(read_history(path)[0]) == 0
    path.touch()
    assert [len(read_history(path)[0]), read_history(path)[1]] == [0, ""]


def test_a_last_line_torn_anywhere_is_cut_off_and_the_search_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    file = HistoryFile(path)
    file.append(evaluation(0))
    whole = path.read_bytes()
    file.append(evaluation(1))
    both = path.read_bytes()
    for length in range(len(whole) + 1, len(both) - 1):
        path.write_bytes(both[:length])
        history, note = read_history(path)
        assert [item.candidate.index for item in history] == [0]
        assert f"torn and is cut off ({length - len(whole)} bytes)" in note
        assert path.read_bytes() == whole
    file.append(evaluation(1))
    assert path.read_bytes() == both


def test_a_torn_first_line_leaves_an_empty_history(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"index": 0, "dig')
    history, note = read_history(path)
    assert (len(history), path.read_bytes()) == (0, b"")
    assert "torn" in note


def test_zeros_left_by_a_lost_page_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    HistoryFile(path).append(evaluation(0))
    with path.open("ab") as file:
        file.write(b"\0" * 40_000)
    history, note = read_history(path)
    assert len(history) == 1
    assert "40000 bytes" in note


def test_a_whole_line_that_only_lacks_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    HistoryFile(path).append(evaluation(0))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    history, note = read_history(path)
    assert len(history) == 1
    assert "lacked its line end" in note
    assert path.read_bytes().endswith(b"}\n")


def test_appending_behind_a_torn_line_does_not_glue_to_it(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    file = HistoryFile(path)
    file.append(evaluation(0))
    with path.open("ab") as handle:
        handle.write(b'{"index": 1')
    file.append(evaluation(2))
    history, note = read_history(path)
    assert [item.candidate.index for item in history] == [0, 2]
    assert note == ""


def test_a_bad_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    file = HistoryFile(path)
    for index in range(3):
        file.append(evaluation(index))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:30] + b"\n" + lines[2])
    with pytest.raises(UserError) as caught:
        read_history(path)
    assert caught.value.where == f"{path}: line 2"
    path.write_bytes(lines[0] + b"[1]\n" + lines[2])
    with pytest.raises(UserError, match="line 2: must be an object"):
        read_history(path)


def test_a_last_line_that_is_json_but_no_evaluation_is_an_error_and_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    HistoryFile(path).append(evaluation(0))
    content = path.read_bytes() + b'{"index": 1}\n'
    path.write_bytes(content)
    with pytest.raises(UserError, match="line 2: must have the key"):
        read_history(path)
    assert path.read_bytes() == content


def test_of_a_repeated_index_the_first_stands_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    file = HistoryFile(path)
    for accuracy in (0.5, 0.9):
        file.append(evaluation(7, accuracy=accuracy))
    history, note = read_history(path)
    assert history.metric("accuracy").tolist() == [0.5]
    assert note == f"{path}: line 2 repeats candidate 7 of line 1: left out"


def test_rows_of_two_spaces_in_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    HistoryFile(path).append(evaluation(0))
    other = evaluation_to_record(evaluation(1)) | {"row": [1]}
    with path.open("a") as file:
        file.write(json.dumps(other) + "\n")
    with pytest.raises(UserError, match="line 2: row must have 3 choices"):
        read_history(path)


def test_a_full_disk_names_the_file_keeps_earlier_lines_and_leaves_no_torn_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.jsonl"
    file = HistoryFile(path)
    file.append(evaluation(0))
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:20]))
    with pytest.raises(UserError, match="no space left") as caught:
        file.append(evaluation(1))
    assert caught.value.where == str(path)
    assert "all earlier results are kept" in caught.value.advice
    assert path.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_without_room_is_a_users_error() -> None:
    with pytest.raises(UserError, match="/dev/full: cannot be written: No space left on device"):
        HistoryFile("/dev/full").append(evaluation(0))


def test_a_folder_that_is_missing_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written: No such file"):
        HistoryFile(tmp_path / "none" / "history.jsonl").append(evaluation(0))
    with pytest.raises(UserError, match="cannot be read"):
        read_history(tmp_path)


def test_a_hundred_thousand_evaluations_are_read_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    line = json.dumps(evaluation_to_record(evaluation(0, accuracy=0.5)))
    assert line.startswith('{"index": 0, "digest"')
    path.write_text("".join(f'{{"index": {index}{line[11:]}\n' for index in range(100_000)))
    start = time.process_time()
    history, note = read_history(path)
    assert (len(history), len(history.rows), note) == (100_000, 100_000, "")
    assert time.process_time() - start < 8
