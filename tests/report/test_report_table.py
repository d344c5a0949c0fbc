from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.report.records import read_front
from nas.report.table import front_table

ROW = {
    "digest": "9c41d2aa55667788",
    "precision": "float32",
    "accuracy": "0.9889",
    "latency_ms.here": "0.38",
    "predicted_latency_ms.here": "0.36",
    "latency_upper_ms.here": "0.4",
    "macs": "1200000",
    "size_bytes": "212000",
    "peak_activation_bytes": "46000",
    "non_dominated": "True",
    "accepted": "True",
    "reason": "",
    "path": "models/9c41d2aa55667788/model.fp32.onnx",
}
WORSE = {**ROW, "digest": "aaaaaa", "accuracy": "0.5", "non_dominated": "False"}


def test_a_row_reads_as_a_person_would_write_it() -> None:
    heading, row, legend = front_table([ROW], device="here", width=200).splitlines()
    assert heading.split("  ")[-1] == "file"
    assert "latency (measured / predicted / 95 % bound)" in heading
    assert row.split() == [
        *("*", "9c41d2", "float32", "98.9", "%", "0.380", "/", "0.360", "/", "0.400", "ms", "212", "kB", "46", "kB"),
        *("1.2", "M", "models/9c41d2aa55667788/model.fp32.onnx"),
    ]
    assert legend == "* non-dominated"


def test_the_most_accurate_file_stands_first_and_of_equals_the_fastest() -> None:
    slow = {**ROW, "digest": "bbbbbb", "latency_ms.here": "0.5"}
    lines = front_table([WORSE, slow, ROW], device="here").splitlines()
    assert [line.split()[0].strip("*") or line.split()[1] for line in lines[1:4]] == ["9c41d2", "bbbbbb", "aaaaaa"]


def test_a_broken_budget_is_marked_and_named() -> None:
    broken = {**ROW, "accepted": "False", "reason": "latency <= 0.3 ms is broken"}
    lines = front_table([broken], device="here").splitlines()
    assert lines[1].startswith("*!")
    assert lines[2] == "* non-dominated, ! kept out of the front"
    assert lines[3] == "! 9c41d2 float32: latency <= 0.3 ms is broken"


@pytest.mark.parametrize("width", [70, 80, 100, 120, 160])
def test_the_table_keeps_to_the_width_where_it_can(width: int, run_folder: Path) -> None:
    rows = read_front(run_folder / "front.csv")
    table = front_table(rows, device="this-machine", width=width).splitlines()[: len(rows) + 1]
    assert max(map(len, table)) <= width
    assert "precision" in table[0]
    assert all(line == line.rstrip() for line in table)


def test_more_width_never_shows_less(run_folder: Path) -> None:
    rows = read_front(run_folder / "front.csv")
    sizes = [len(front_table(rows, device="this-machine", width=width)) for width in range(40, 200)]
    assert sizes == sorted(sizes)


def test_microseconds_carry_their_unit() -> None:
    row = {**ROW, "latency_ms.here": "0.0004", "predicted_latency_ms.here": "0.0003", "latency_upper_ms.here": ""}
    assert "0.400 / 0.300 / - us" in front_table([row], device="here")


def test_without_the_device_in_the_columns_the_first_one_is_shown() -> None:
    assert "0.380 / 0.360 / 0.400 ms" in front_table([ROW], device="elsewhere")


def test_the_confidence_stands_in_the_heading() -> None:
    assert "90 % bound" in front_table([ROW], confidence=0.9, width=200)
    assert "predicted / bound)" in front_table([ROW], confidence=None, width=200)


def test_no_rows_are_a_sentence() -> None:
    assert front_table([]) == "no model was exported"


def test_columns_align_under_their_headings() -> None:
    lines = front_table([ROW, WORSE], device="here", width=200).splitlines()
    assert lines[1].index("float32") == lines[2].index("float32") == lines[0].index("precision")
    assert lines[1].index("models/") == lines[0].index("file")


@given(st.dictionaries(st.sampled_from(sorted(ROW)), st.text(max_size=12)), st.integers(1, 200))
def test_any_text_in_the_cells_makes_one_line_a_file_without_control_characters(
    cells: dict[str, str], width: int
) -> None:
    table = front_table([{**ROW, **cells}], device="here", width=width)
    assert len(table.split("\n")) <= 4
    assert not any(ord(character) < 32 and character != "\n" for character in table)
    assert "\x9b" not in table
