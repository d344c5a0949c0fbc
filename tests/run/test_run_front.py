from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from nas.problem.goals import budgets_from, objectives_from
from nas.run.front import DeviceCost, FrontFile, columns, front_table, read_front_csv, write_front_csv
from nas.space.architecture import Architecture

OBJECTIVES = objectives_from(["accuracy", "latency"], device="d")
CHOICES = ["stem.width", "head", "precision"]


def file_of(name: str, accuracy: float, latency_ms: float, **others: object) -> FrontFile:
    fields: dict[str, object] = {
        "architecture": Architecture(row=(0, -1, 1), choices={"stem.width": "8", "precision": "high"}, digest=name),
        "precision": "float32",
        "accuracy": accuracy,
        "on_device": {"latency_ms.d": DeviceCost(measured=latency_ms, predicted=latency_ms * 0.9)},
        "macs": 1.5e6,
        "parameters": 137_000.0,
        "size_bytes": 212_345.0,
        "peak_activation_bytes": 46_000.0,
        "path": f"models/{name}/model.fp32.onnx",
        **others,
    }
    return FrontFile(**fields)  # type: ignore[arg-type]


def table_of(*files: FrontFile, **limits: object) -> pd.DataFrame:
    budgets = budgets_from(limits, device="d", confidence=0.95)
    return front_table(files, keys=["latency_ms.d"], choices=CHOICES, objectives=OBJECTIVES, budgets=budgets)


def test_the_columns_are_those_of_the_contract_then_marks_then_one_a_choice() -> None:
    assert columns(["latency_ms.d"], CHOICES) == [
        "digest", "precision", "accuracy", "latency_ms.d", "predicted_latency_ms.d", "latency_upper_ms.d",
        "macs", "parameters", "size_bytes", "peak_activation_bytes",
        "non_dominated", "accepted", "reason", "path",
        "stem.width", "head", "choice.precision",
    ]  # fmt: skip
    assert list(table_of(file_of("a", 0.9, 1.0)).columns) == columns(["latency_ms.d"], CHOICES)


def test_rows_are_ordered_by_the_first_objective_and_marked_where_nothing_beats_them() -> None:
    table = table_of(file_of("slow", 0.99, 2.0), file_of("bad", 0.8, 1.5), file_of("fast", 0.9, 1.0))
    assert list(table["digest"]) == ["slow", "fast", "bad"]
    assert list(table["non_dominated"]) == [True, True, False]
    assert list(table["accepted"]) == [True, True, True]


def test_a_file_that_breaks_a_budget_stays_with_its_reason_and_does_not_beat_others() -> None:
    table = table_of(file_of("over", 0.99, 0.43), file_of("good", 0.98, 0.39), latency="0.4 ms", accuracy="97 %")
    assert list(table["digest"]) == ["over", "good"]
    assert list(table["accepted"]) == [False, True]
    assert list(table["non_dominated"]) == [False, True]
    assert list(table["reason"]) == ["latency 0.43 ms breaks the budget latency <= 0.4 ms with 95% confidence", ""]


def test_a_file_that_was_not_measured_breaks_every_latency_budget() -> None:
    table = table_of(file_of("a", 0.99, math.nan), latency="0.4 ms", accuracy="99.5 %")
    assert list(table["reason"]) == [
        "latency - breaks the budget latency <= 0.4 ms with 95% confidence; "
        "accuracy 99.0 % breaks the budget accuracy >= 99.5 %"
    ]


def test_on_a_device_that_cannot_be_measured_the_bound_is_held_against_the_budget() -> None:
    def phone(predicted: float, upper: float) -> FrontFile:
        cost = DeviceCost(predicted=predicted, upper=upper, measurable=False)
        return file_of(f"{predicted}", 0.9, 1.0, on_device={"latency_ms.d": cost})

    table = table_of(phone(0.3, 0.45), phone(0.2, 0.35), latency="0.4 ms")
    assert list(table["accepted"]) == [False, True]
    assert "latency 0.45 ms breaks" in table["reason"][0]
    assert table["latency_ms.d"].isna().all()


def test_every_device_and_quantity_has_its_columns() -> None:
    costs = {"latency_ms.a": DeviceCost(measured=1.0), "energy_mj.b": DeviceCost(predicted=2.0, measurable=False)}
    table = front_table([file_of("x", 0.9, 1.0, on_device=costs)], keys=list(costs), choices=[], objectives=OBJECTIVES)
    names = ["latency_ms.a", "predicted_latency_ms.a", "latency_upper_ms.a"]
    names += ["energy_mj.b", "predicted_energy_mj.b", "energy_upper_mj.b"]
    assert list(table.columns[3:9]) == names
    assert table["predicted_energy_mj.b"][0] == 2.0


def test_a_file_that_failed_its_verification_is_not_accepted() -> None:
    table = table_of(file_of("a", 0.99, 0.1, accepted=False, reason="agrees with torch on 3 of 180"))
    assert list(table["accepted"]) == [False]
    assert list(table["reason"]) == ["agrees with torch on 3 of 180"]
    assert list(table["non_dominated"]) == [False]


def test_the_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    awkward = Architecture(row=(0, 1, -1), choices={"stem.width": "8", "head": 'None, "x"'}, digest="1234567890123456")
    table = table_of(file_of("a", 0.987654321, 1.0 / 3), file_of("b", 0.9, 0.1, architecture=awkward))
    write_front_csv(table, tmp_path / "front.csv")
    pd.testing.assert_frame_equal(read_front_csv(tmp_path / "front.csv"), table, check_dtype=False)
    plain = pd.read_csv(tmp_path / "front.csv", dtype={"digest": str})
    assert list(plain["digest"]) == ["a", "1234567890123456"]
    assert list(plain["latency_ms.d"]) == [1.0 / 3, 0.1]
    assert plain["latency_upper_ms.d"].isna().all()
    assert list(plain["size_bytes"]) == [212_345, 212_345]


def test_a_front_without_files_is_a_table_without_rows(tmp_path: Path) -> None:
    write_front_csv(table_of(), tmp_path / "front.csv")
    assert (tmp_path / "front.csv").read_text() == ",".join(columns(["latency_ms.d"], CHOICES)) + "\n"
    assert len(read_front_csv(tmp_path / "front.csv")) == 0


@pytest.mark.parametrize("key", ["macs", "parameters", "size_bytes", "peak_activation_bytes", "accuracy"])
def test_a_file_gives_its_figures_by_metric_key(key: str) -> None:
    file = file_of("a", 0.9, 1.0)
    assert file.figure(key) == getattr(file, key)
    assert file.figure("latency_ms.d") == 1.0
    assert math.isnan(file.figure("energy_mj"))
