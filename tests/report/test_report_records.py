from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.errors import UserError
from nas.report.records import number, read_front, read_run, truth


def test_a_folder_that_does_not_exist_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_run(tmp_path / "none")


def test_a_folder_without_any_file_of_a_run_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"manifest\.json"):
        read_run(tmp_path)


def test_torn_lines_are_left_out_with_a_note_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"index": 0}\n[1]\n\n{"index": 1}\n{"ind', encoding="utf-8")
    records = read_run(tmp_path)
    assert [record["index"] for record in records.history] == [0, 1]
    assert "history.jsonl: 2 of 4 lines are torn and were left out (2, 5)" in records.notes


def test_evaluations_share_names_and_labels_and_leave_out_what_is_not_shown(tmp_path: Path) -> None:
    line = {
        "index": 0, "row": [1], "seed": 3, "curve": [0.5], "stop_below": [], "choices": {"stage1.kernel": "kernel 5"},
        "metrics": {"accuracy": 0.5},
    }  # fmt: skip
    (tmp_path / "history.jsonl").write_text(2 * (json.dumps(line) + "\n"), encoding="utf-8")
    one, other = read_run(tmp_path).history
    assert one == {name: line[name] for name in ("index", "choices", "metrics")}
    (name, label), (same_name, same_label) = (next(iter(record["choices"].items())) for record in (one, other))
    assert name is same_name
    assert label is same_label


@pytest.mark.parametrize("text", ["{", "[]", "3", "", "nothing"])
def test_a_broken_manifest_is_a_note(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    records = read_run(tmp_path)
    assert records.manifest == {}
    assert any("manifest.json" in note for note in records.notes)


def test_a_missing_manifest_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").touch()
    assert any("manifest.json is missing" in note for note in read_run(tmp_path).notes)


def test_a_digest_of_digits_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "front.csv"
    path.write_text("digest,accuracy\n0012345678901234,0.5\n12e4567890123456,\n,0.3\n", encoding="utf-8")
    assert [row["digest"] for row in read_front(path)] == ["0012345678901234", "12e4567890123456"]


def test_rows_of_the_wrong_length_do_not_break_the_front(tmp_path: Path) -> None:
    path = tmp_path / "front.csv"
    path.write_text("digest,accuracy,path\nab\ncd,0.5,x,more,and more\n", encoding="utf-8")
    assert read_front(path) == [
        {"digest": "ab", "accuracy": "", "path": ""},
        {"digest": "cd", "accuracy": "0.5", "path": "x"},
    ]


def test_manifests_of_models_are_found_by_their_folder(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").touch()
    for digest, text in {"ab": json.dumps({"format": 1}), "cd": "{"}.items():
        (tmp_path / "models" / digest).mkdir(parents=True)
        (tmp_path / "models" / digest / "manifest.json").write_text(text, encoding="utf-8")
    records = read_run(tmp_path)
    assert records.models == {"ab": {"format": 1}, "cd": {}}
    assert any("models/cd/manifest.json" in note for note in records.notes)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.5", 0.5), (3, 3.0), ("", None), (None, None), ("nan", None), (float("inf"), None), (True, None), ("x", None)],
)
def test_only_finite_numbers_are_numbers(value: object, expected: float | None) -> None:
    assert number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [("True", True), (False, False), ("0", False), ("", None), (None, None), ("maybe", None)]
)
def test_flags_are_read_as_json_and_csv_spell_them(value: object, expected: bool | None) -> None:
    assert truth(value) is expected
