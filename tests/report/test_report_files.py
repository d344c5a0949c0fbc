from __future__ import annotations

import pytest

from nas.report.files import choice_columns, file_entries
from nas.report.intervals import wilson
from nas.report.latency import exported_check, latency_panels

ROW = {
    "digest": "ab12",
    "precision": "int8",
    "accuracy": "0.95",
    "latency_ms.phone": "2.0",
    "predicted_latency_ms.phone": "2.2",
    "latency_upper_ms.phone": "2.4",
    "macs": "1000",
    "size_bytes": "",
    "non_dominated": "True",
    "accepted": "False",
    "reason": "too slow",
    "path": "models/ab12/model.int8.onnx",
    "kernel": "3",
    "width": "",
}
MANIFEST = {
    "files": [
        {"path": "model.fp32.onnx", "precision": "float32", "num_test_samples": 1},
        {
            "path": "model.int8.onnx",
            "precision": "int8",
            "sha256": "ff",
            "num_test_samples": 100,
            "agreement": 0.99,
            "runtime": "onnxruntime",
            "runtime_version": "1.0",
            "latencies": {
                "phone": {
                    "measured": {"spread": 0.01, "settled": False, "blocks": 20, "host": {"cpu": "X", "core": None}}
                },
                "board": {"measured": None},
            },
        },
    ]
}


def test_columns_that_the_contract_does_not_name_are_choices() -> None:
    assert choice_columns(ROW) == ["kernel", "width"]


def test_a_row_is_joined_with_the_entry_of_its_own_file() -> None:
    (entry,) = file_entries([ROW], {"ab12": MANIFEST}, num_test=7)
    assert entry["costs"] == {"macs": 1000.0, "latency_ms.phone": 2.0}
    assert entry["predicted"] == {"latency_ms.phone": 2.2}
    assert entry["upper"] == {"latency_ms.phone": 2.4}
    assert entry["interval"] == wilson(0.95, 100)
    assert (entry["non_dominated"], entry["accepted"]) == (True, False)
    assert (entry["sha256"], entry["runtime"]) == ("ff", "onnxruntime 1.0")
    assert entry["choices"] == {"kernel": "3"}


def test_each_device_has_its_own_timing_and_one_that_was_not_measured_says_so() -> None:
    (entry,) = file_entries([ROW], {"ab12": MANIFEST}, num_test=7)
    phone, board = entry["timings"]["phone"], entry["timings"]["board"]
    assert (phone["measured"], phone["settled"], phone["spread"], phone["host"]) == (True, False, 0.01, {"cpu": "X"})
    assert (board["measured"], board["settled"], board["spread"]) == (False, None, None)


def test_a_file_with_signed_activations_is_another_precision_to_devices() -> None:
    signed = {"files": [{"path": "model.int8.onnx", "quantisation": {"activations": "signed"}}]}
    (entry,) = file_entries([ROW], {"ab12": signed}, num_test=None)
    assert (entry["precision"], entry["device_precision"]) == ("int8", "int8-signed")
    models = {"phone": {"int8-signed": {"source": "estimated"}}}
    (panel,) = latency_panels(models, [entry], keys=["latency_ms.phone"])
    assert (panel["precision"], panel["estimated"], panel["exported"]["num_files"]) == ("int8-signed", True, 1)


def test_energies_of_devices_are_no_choices() -> None:
    row = ROW | {"energy_mj.phone": "3.5", "predicted_energy_mj.phone": "3", "energy_upper_mj.phone": "4"}
    (entry,) = file_entries([row], {}, num_test=7)
    assert choice_columns(row) == ["kernel", "width"]
    figures = [entry[part]["energy_mj.phone"] for part in ("costs", "predicted", "upper")]
    assert figures == [3.5, 3.0, 4.0]


def test_without_a_manifest_the_run_says_how_many_samples_there_were() -> None:
    (entry,) = file_entries([ROW], {}, num_test=7)
    assert entry["num_samples"] == 7
    assert entry["interval"] == wilson(0.95, 7)
    assert entry["timings"] == {}


@pytest.mark.parametrize("accuracy", ["", "nan", "1.5", "-0.1"])
def test_an_accuracy_that_is_no_share_has_no_interval(accuracy: str) -> None:
    (entry,) = file_entries([{**ROW, "accuracy": accuracy}], {}, num_test=7)
    assert entry["interval"] is None


@pytest.mark.parametrize(
    "manifest",
    [
        {"files": None},
        {"files": [3, None]},
        {"files": {}},
        {"files": [{"latencies": 4}]},
        {"files": [{"latencies": {"a": 4}}]},
    ],
)
def test_odd_manifests_are_taken_as_silent(manifest: dict[str, object]) -> None:
    (entry,) = file_entries([ROW], {"ab12": manifest}, num_test=None)
    assert all(timing["spread"] is None for timing in entry["timings"].values())
    assert entry["interval"] is None


def test_the_check_of_exported_files_counts_errors_and_bounds() -> None:
    def file(measured: float, predicted: float, upper: float | None) -> dict[str, object]:
        bound = {} if upper is None else {"t": upper}
        return {"costs": {"t": measured}, "predicted": {"t": predicted}, "upper": bound, "precision": "float32"}

    files = [file(1.0, 1.05, 1.2), file(2.0, 1.0, 1.5), file(4.0, 4.0, None)]
    check = exported_check(files, key="t")
    assert check["num_files"] == 3
    assert check["mape"] == pytest.approx((0.05 + 0.5 + 0) / 3)
    assert check["within_10_percent"] == pytest.approx(2 / 3)
    assert (check["num_bounds"], check["bounds_held"]) == (2, 1)
    assert exported_check([], key="t")["mape"] is None


def test_panels_thin_their_points_and_skip_odd_ones() -> None:
    points = [
        {"measured_ms": 1.0 + place, "predicted_ms": 1.0, "upper_ms": 2.0, "held_out": 0} for place in range(5000)
    ]
    odd = [{"measured_ms": "x"}, None, {"measured_ms": 0, "predicted_ms": 1}]
    (panel,) = latency_panels(
        {"d": {"float32": {"points": [*points, *odd], "quality": {"mape": 0.1}}}}, [], keys=["latency_ms.d"]
    )
    assert panel["num_points"] == 5000
    assert len(panel["points"]) == 600
    assert panel["points"][-1] == [5000.0, 1.0, 2.0, False]
