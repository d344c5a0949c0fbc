from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from devices_example import BOARD, LIMITS, PHONE

from nas.report.devices import broken, compared, devices_of, serving
from nas.report.payload import build_payload
from nas.report.quantities import device_column
from nas.report.records import read_front, read_run
from nas.report.table import front_table

A, B = "latency_ms.a", "latency_ms.b"
DEVICES = [{"name": "a", "key": A}, {"name": "b", "key": B}]
BUDGETS = [{"key": A, "limit": 1.0}, {"key": B, "limit": 10.0}, {"key": "size_bytes", "limit": 100.0}]


def entry(
    accuracy: float | None, *, a: float | None = None, b: float | None = None, size: float = 1.0
) -> dict[str, Any]:
    figures = {A: a, B: b, "size_bytes": size}
    known = {key: value for key, value in figures.items() if value is not None}
    file: dict[str, Any] = {"accuracy": accuracy, "figures": known, "deciding": known, "refused": False}
    return {**file, "broken": broken(file, BUDGETS)}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("latency_ms.pixel-8", ("measured", "latency_ms.pixel-8")),
        ("predicted_latency_ms.a.b", ("predicted", "latency_ms.a.b")),
        ("latency_upper_ms.x", ("upper", "latency_ms.x")),
        ("energy_upper_mj.x", ("upper", "energy_mj.x")),
        ("predicted_ram_bytes.x", ("predicted", "ram_bytes.x")),
        ("latency_ms", None),
        ("latency_ms.", None),
        ("size_bytes.x", None),
        ("stage1.depth", None),
    ],
)
def test_columns_of_devices_are_told_from_choices(column: str, expected: tuple[str, str] | None) -> None:
    assert device_column(column) == expected


def test_the_prediction_counts_only_where_nobody_can_measure() -> None:
    file = {"accuracy": 0.9, "costs": {"macs": 5.0}, "predicted": {A: 1.0, B: 2.0}, "upper": {A: 1.5, B: 3.0}}
    found = compared(file, ["b"])
    assert found["figures"] == {"macs": 5.0, B: 2.0}
    assert found["deciding"] == {"macs": 5.0, "accuracy": 0.9, B: 3.0}
    measured = compared(file | {"costs": {B: 2.5}}, ["b"])
    assert (measured["figures"][B], measured["deciding"][B]) == (2.5, 2.5)


def test_budgets_are_broken_by_what_is_known() -> None:
    budgets = [{"key": A, "limit": 1.0}, {"key": "accuracy", "limit": 0.9}, {"key": B, "limit": 1.0}]
    assert broken({"deciding": {A: 1.0, "accuracy": 0.9}}, budgets) == []
    assert broken({"deciding": {A: 1.1, "accuracy": 0.8}}, budgets) == [0, 1]


def test_a_file_serves_the_devices_whose_budgets_it_keeps() -> None:
    rows = serving(DEVICES, [entry(0.9, a=0.5, b=20.0), entry(0.8, a=0.6, b=5.0), entry(0.7, a=2.0)], BUDGETS)
    assert [[row["on"][name]["keeps"] for name in "ab"] for row in rows] == [[True, False], [True, True], [False, None]]
    assert [row["all"] for row in rows] == [False, True, False]


def test_fronts_belong_to_devices() -> None:
    files = [
        entry(0.9, a=0.5, b=9.0),
        entry(0.8, a=0.6, b=5.0),
        entry(0.7, a=0.4, b=6.0),
        entry(0.95, a=0.1, b=0.1, size=200.0),
    ]
    rows = serving(DEVICES, files, BUDGETS)
    assert [[row["on"][name]["front"] for name in "ab"] for row in rows] == [
        [True, True],
        [False, True],
        [True, False],
        [False, False],
    ]
    assert rows[3]["all"] is False


def test_a_device_without_a_place_is_measurable_only_if_it_was_measured() -> None:
    def place(kind: str) -> dict[str, Any]:
        return {"where": {"_target_": f"nas.device.where.places.{kind}"}, "precision": "int8"}

    manifest = {
        "devices": [{"name": name, "card": place(name.title())} for name in ("local", "ssh", "nowhere", "offline")],
        "latency_models": {"nowhere": {"int8": {"source": "estimated"}, "float32": {"file": "x.npz"}}},
    }
    front = [{"latency_ms.nowhere": "", "latency_ms.other": "1.0", "latency_ms.third": ""}]
    found = {device["name"]: device for device in devices_of(manifest, front)}
    assert list(found) == ["local", "ssh", "nowhere", "offline", "other", "third"]
    assert [device["measurable"] for device in found.values()] == [True, True, False, False, True, False]
    assert found["nowhere"]["estimated"] == ["int8"]
    assert (found["ssh"]["precision"], found["other"]["precision"]) == ("int8", None)


def test_a_run_of_several_devices_says_who_serves_whom(devices_folder: Path) -> None:
    payload = build_payload(read_run(devices_folder))
    assert [device["name"] for device in payload["devices"]] == ["this-machine", PHONE, BOARD]
    assert [device["measurable"] for device in payload["devices"]] == [True, True, False]
    for file, row in zip(payload["files"], payload["serving"], strict=True):
        assert f"latency_ms.{BOARD}" not in file["costs"]
        assert file["deciding"][f"latency_ms.{BOARD}"] == file["upper"][f"latency_ms.{BOARD}"]
        assert row["on"][BOARD]["keeps"] == (file["upper"][f"latency_ms.{BOARD}"] <= LIMITS[BOARD])
        assert row["on"][PHONE]["keeps"] == (file["costs"][f"latency_ms.{PHONE}"] <= LIMITS[PHONE])
        assert row["all"] == (file["accepted"] is True)
        assert file["timings"][BOARD] == file["timings"][BOARD] | {"measured": False, "source": "estimated"}
    assert {panel["device"] for panel in payload["latency_panels"] if panel["estimated"]} == {BOARD}


def test_the_terminal_table_has_a_column_a_device_and_marks_what_was_not_measured(devices_folder: Path) -> None:
    rows = read_front(devices_folder / "front.csv")
    wide = front_table(rows, device=PHONE, width=260, estimated=[BOARD])
    heading = wide.splitlines()[0]
    assert heading.index(PHONE) < heading.index("this-machine") < heading.index(f"{BOARD} (est.)")
    assert "(est.) predictions estimated from the device's card" in wide
    narrow = front_table(rows, device=PHONE, width=90, estimated=[BOARD])
    lines = narrow.splitlines()[: len(rows) + 1]
    assert max(map(len, lines)) <= 90
    assert all(line.count(" <") == 1 for line in lines[1:])
    assert "< not measured: upper bound" in narrow


def test_a_device_without_any_figure_is_a_dash() -> None:
    row = {"digest": "ab", "accuracy": "0.5", "latency_ms.a": "1", "latency_ms.b": "", "predicted_latency_ms.b": ""}
    assert front_table([row], width=60).splitlines()[1].split()[-1] == "-"
    guessed = row | {"predicted_latency_ms.b": "2.5"}
    assert "~2.5 ms" in front_table([guessed], width=45)
