from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from nas.device.measurements import Measured, MeasurementFile
from nas.errors import UserError

SUBJECT = {"space": "small", "space_digest": "ab", "precision": "float32", "threads": 1}
ONE = Measured(
    row=(0, -1, 2),
    random=True,
    latency_ms=0.25,
    spread=0.01,
    anchor_ms=0.02,
    protocol="8 blocks",
    host={"cpu": "X", "load_average": None},
    fingerprint={"cpu": "X"},
    time="2026-01-01T00:00:00+00:00",
)
OTHER = replace(ONE, row=(1, 0, 0), random=False, latency_ms=0.5, anchor_ms=math.nan)


@pytest.fixture
def file(tmp_path: Path) -> MeasurementFile:
    return MeasurementFile(tmp_path / "deep" / "small.jsonl", SUBJECT)


def test_what_was_appended_is_read_back(file: MeasurementFile) -> None:
    assert file.read() == []
    file.append([ONE])
    file.append([OTHER])
    first, second = file.read()
    assert first == ONE
    assert math.isnan(second.anchor_ms)
    assert replace(second, anchor_ms=0.0) == replace(OTHER, anchor_ms=0.0)


def test_a_line_that_was_torn_is_left_out_and_written_over(file: MeasurementFile) -> None:
    file.append([ONE])
    with file.path.open("a", encoding="utf-8") as stream:
        stream.write('{"row": [1, 0')
    assert file.read() == [ONE]
    file.append([replace(OTHER, anchor_ms=1.0)])
    assert file.read() == [ONE, replace(OTHER, anchor_ms=1.0)]
    assert [json.loads(line) for line in file.path.read_text(encoding="utf-8").splitlines()]


def test_a_broken_line_in_the_middle_is_named(file: MeasurementFile) -> None:
    file.append([ONE])
    with file.path.open("a", encoding="utf-8") as stream:
        stream.write("what?\n")
    file.append([ONE])
    with pytest.raises(UserError, match=r"small\.jsonl, line 3: must be a measurement"):
        file.read()


@pytest.mark.parametrize("latency", [0.0, -1.0, math.inf])
def test_a_latency_that_is_none_is_not_taken(file: MeasurementFile, latency: float) -> None:
    file.append([replace(ONE, latency_ms=latency), ONE])
    with pytest.raises(UserError, match="line 2"):
        file.read()


def test_measurements_of_another_subject_are_put_aside_when_something_is_added(file: MeasurementFile) -> None:
    file.append([ONE])
    edited = MeasurementFile(file.path, {**SUBJECT, "space_digest": "cd"})
    assert edited.read() == []
    assert file.read() == [ONE]
    edited.append([OTHER])
    assert len(edited.read()) == 1
    old = file.path.with_name("small.jsonl.old")
    assert MeasurementFile(old, SUBJECT).read() == [ONE]


def test_forgetting_keeps_the_old_file_aside(file: MeasurementFile) -> None:
    file.forget()
    file.append([ONE])
    file.forget()
    assert file.read() == []
    assert file.path.with_name("small.jsonl.old").is_file()


def test_a_place_that_cannot_be_written_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(UserError, match=r"m\.jsonl: cannot be written"):
        MeasurementFile(tmp_path / "blocked" / "m.jsonl", SUBJECT).append([ONE])
