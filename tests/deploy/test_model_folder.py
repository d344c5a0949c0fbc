from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from nas.deploy import model_folder as module_under_test
from nas.deploy.files import GOLDEN, torch_logits
from nas.deploy.manifest import SCHEMA, PredictedLatency, finish_manifest, read_manifest, sha256
from nas.deploy.model_folder import export_model
from nas.deploy.options import DeployOptions
from nas.deploy.records import ExportedModel, Samples, TrainedNetwork, Training
from nas.device.card import Device
from nas.device.protocol import Measurement, TimingProtocol
from nas.device.timing import measure
from nas.errors import UserError

TRAINING = Training(epochs=1, seed=0, seconds=1.0)
NAMES = {
    "architecture.yaml", "weights.safetensors", "model.fp32.onnx", "model.int8.onnx", "golden.npz", "manifest.json",
}  # fmt: skip


def check_schema(manifest: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(manifest)


@pytest.fixture
def folder(exported: ExportedModel, tmp_path: Path) -> Path:
    return shutil.copytree(exported.folder, tmp_path / exported.digest)


def test_the_folder_is_named_by_the_digest_and_holds_the_agreed_files(
    exported: ExportedModel, trained: TrainedNetwork
) -> None:
    assert exported.folder.name == exported.digest == trained.network.digest
    assert {path.name for path in exported.folder.iterdir()} == NAMES
    assert [path.name for path in exported.folder.parent.iterdir()] == [exported.digest]  # nothing temporary


def test_the_manifest_keeps_its_schema(exported: ExportedModel) -> None:
    check_schema(read_manifest(exported.folder))


def test_the_schema_describes_every_key_and_refuses_others() -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["required"]) == set(schema["properties"])
    with pytest.raises(jsonschema.ValidationError):
        check_schema({"format": 1})


def test_checksums_and_sizes_are_those_of_the_files(exported: ExportedModel) -> None:
    manifest = read_manifest(exported.folder)
    listed = [*manifest["contents"], *manifest["files"]]
    assert {entry["path"] for entry in listed} == NAMES - {"manifest.json"}
    for entry in listed:
        path = exported.folder / entry["path"]
        assert (entry["sha256"], entry["bytes"]) == (sha256(path), path.stat().st_size)


def test_figures_are_of_the_files_on_the_test_split(
    exported: ExportedModel, samples: Samples, trained: TrainedNetwork
) -> None:
    reference = torch_logits(trained.module.eval(), samples.test)
    inputs = samples.test[:]
    for file in exported.files:
        session = onnxruntime.InferenceSession(str(file.path), providers=["CPUExecutionProvider"])
        classes = session.run(None, {"input": inputs})[0].argmax(axis=1)
        assert file.num_test_samples == len(inputs)
        assert file.accuracy == pytest.approx((classes == samples.test_labels).mean())
        assert file.agreement == pytest.approx((classes == reference.argmax(axis=1)).mean())
        assert file.accepted
        assert file.reason == ""
    float32, int8 = exported.files
    assert float32.accuracy > 0.85
    assert int8.accuracy >= float32.accuracy - 0.03
    assert float32.max_abs_error < 1e-3 < int8.max_abs_error
    assert int8.size_bytes < float32.size_bytes
    assert int8.peak_activation_bytes < float32.peak_activation_bytes


def test_the_manifest_says_how_to_make_an_input(
    exported: ExportedModel, samples: Samples, trained: TrainedNetwork
) -> None:
    manifest = read_manifest(exported.folder)
    entry = manifest["input"]
    assert (entry["name"], entry["shape"], entry["layout"]) == ("input", ["batch", 1, 12, 12], "NCHW")
    assert "8x8 to 12x12" in entry["resize"]
    pixels = samples.test.pixels[:4].numpy()  # type: ignore[attr-defined]
    by_formula = ((pixels / 255 - entry["mean"]) / entry["std"]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(by_formula, samples.test[:4], atol=1e-5)
    assert manifest["labels"] == [str(digit) for digit in range(10)]
    assert manifest["output"]["shape"] == ["batch", 10]
    assert manifest["choices"] == dict(trained.architecture.choices)
    assert (manifest["macs"], manifest["parameters"]) == (trained.macs, trained.parameters)
    assert manifest["command"] == "nas search"


def test_golden_outputs_are_what_the_files_give(exported: ExportedModel, samples: Samples) -> None:
    with np.load(exported.folder / GOLDEN, allow_pickle=False) as golden:
        arrays = dict(golden)
    assert set(arrays) == {"inputs", "labels", "logits_torch", "logits_float32", "logits_int8"}
    assert arrays["inputs"].shape == (8, 1, 12, 12)
    assert arrays["inputs"].dtype == np.float32
    for file in exported.files:
        session = onnxruntime.InferenceSession(str(file.path), providers=["CPUExecutionProvider"])
        given = session.run(None, {"input": arrays["inputs"]})[0]
        np.testing.assert_allclose(given, arrays[f"logits_{file.precision}"], atol=1e-4)
    np.testing.assert_allclose(arrays["logits_float32"], arrays["logits_torch"], atol=1e-3)
    # The first and the last of the split are among them: they are spread over it.
    np.testing.assert_array_equal(arrays["labels"][[0, -1]], samples.test_labels[[0, -1]])


def test_weights_are_those_of_the_module(exported: ExportedModel, trained: TrainedNetwork) -> None:
    stored, state = load_file(exported.folder / "weights.safetensors"), trained.module.state_dict()
    assert set(stored) == set(state)
    assert all(torch.equal(stored[name], state[name]) for name in state)


def test_two_exports_are_equal_but_for_nothing(
    exported: ExportedModel, trained: TrainedNetwork, samples: Samples, tmp_path: Path
) -> None:
    again = export_model(tmp_path, trained, samples, TRAINING, DeployOptions(activations="unsigned"))
    for name in NAMES - {"manifest.json"}:
        assert (again.folder / name).read_bytes() == (exported.folder / name).read_bytes(), name


def test_exporting_again_replaces_the_folder(trained: TrainedNetwork, samples: Samples, tmp_path: Path) -> None:
    options = DeployOptions(precisions=("float32",))
    first = export_model(tmp_path, trained, samples, TRAINING, options)
    (first.folder / "stray.txt").write_text("left over")
    (tmp_path / f".{first.digest}.123").mkdir()  # of a process that was killed
    second = export_model(tmp_path, trained, samples, dataclasses.replace(TRAINING, epochs=7), options)
    assert {path.name for path in second.folder.iterdir()} == NAMES - {"model.int8.onnx"}
    assert read_manifest(second.folder)["training"]["epochs"] == 7
    assert [path.name for path in tmp_path.iterdir()] == [first.digest]
    check_schema(read_manifest(second.folder))


def test_a_failed_export_leaves_nothing_and_no_old_folder_behind(
    trained: TrainedNetwork, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(folder: Path, record: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module_under_test, "write_manifest", full_disk)
    with pytest.raises(UserError, match="cannot be written, No space left on device; free some space"):
        export_model(tmp_path, trained, samples, TRAINING, DeployOptions(precisions=("float32",)))
    assert not list(tmp_path.iterdir())


def test_an_int8_file_that_lost_too_much_is_marked_and_kept(
    trained: TrainedNetwork, samples: Samples, tmp_path: Path
) -> None:
    # Calibrated on pale images: every range is too small.
    pale = dataclasses.replace(samples, calibration=0.55 * samples.calibration)
    options = DeployOptions(activations="unsigned", revert=0, min_agreement=1.0)
    exported = export_model(tmp_path, trained, pale, TRAINING, options)
    float32, int8 = exported.files
    assert float32.accepted
    assert not int8.accepted
    assert int8.agreement < 1
    assert "must be at least 100%" in int8.reason
    assert int8.path.is_file()
    check_schema(read_manifest(exported.folder))


def test_an_int8_file_that_cannot_be_made_is_recorded_and_the_rest_stands(
    trained: TrainedNetwork, samples: Samples, tmp_path: Path
) -> None:
    none = dataclasses.replace(samples, calibration=samples.calibration[:0])
    exported = export_model(tmp_path, trained, none, TRAINING, DeployOptions())
    assert [file.precision for file in exported.files] == ["float32"]
    assert "must hold at least one image" in exported.failed["int8"]
    manifest = read_manifest(exported.folder)
    assert manifest["failed"] == exported.failed
    check_schema(manifest)


def test_a_network_that_gives_no_numbers_is_not_accepted(
    trained: TrainedNetwork, samples: Samples, tmp_path: Path
) -> None:
    broken = pickle.loads(pickle.dumps(trained.module))
    with torch.no_grad():
        next(iter(broken.parameters())).fill_(float("nan"))
    options = DeployOptions(precisions=("float32",))
    exported = export_model(tmp_path, dataclasses.replace(trained, module=broken), samples, TRAINING, options)
    assert not exported.files[0].accepted
    manifest = read_manifest(exported.folder)
    assert manifest["files"][0]["max_abs_error"] is None
    check_schema(manifest)


def test_no_test_samples_is_a_users_error(trained: TrainedNetwork, samples: Samples, tmp_path: Path) -> None:
    empty = dataclasses.replace(samples, test=samples.test[:0])
    with pytest.raises(UserError, match="at least one sample"):
        export_model(tmp_path, trained, empty, TRAINING, DeployOptions())
    assert not list(tmp_path.iterdir())


def test_what_a_worker_sends_back_can_be_sent(exported: ExportedModel) -> None:
    assert pickle.loads(pickle.dumps(exported)) == exported


@pytest.fixture
def measured(folder: Path) -> dict[str, Measurement]:
    files = sorted(folder.glob("*.onnx"))
    protocol = TimingProtocol(blocks=2, warmups=1, runs=2)
    timed = measure(files, device=Device(name="bench"), protocol=protocol)
    return {entry.file.name: entry for entry in timed}


def test_latencies_predictions_and_budgets_are_added_and_the_schema_still_holds(
    folder: Path, measured: dict[str, Measurement]
) -> None:
    expected = PredictedLatency(latency_ms=0.2, upper_ms=0.3, confidence=0.95)
    finish_manifest(
        folder,
        device=Device(name="bench"),
        measured=measured,
        predicted={"model.fp32.onnx": expected},
        rejected={"model.fp32.onnx": "latency 0.4 ms is above the budget of 0.3 ms"},
    )
    manifest = read_manifest(folder)
    check_schema(manifest)
    float32, int8 = manifest["files"]
    latency = float32["latencies"]["bench"]
    assert latency["measured"]["latency_ms"] == measured["model.fp32.onnx"].latency_ms
    assert (latency["threads"], latency["batch"]) == (1, 1)
    assert latency["measured"]["host"]["onnxruntime"] == onnxruntime.__version__
    assert (latency["predicted_ms"], latency["upper_ms"], latency["confidence"]) == (0.2, 0.3, 0.95)
    assert not float32["accepted"]
    assert "above the budget" in float32["reason"]
    assert int8["accepted"]
    assert int8["latencies"]["bench"]["predicted_ms"] is None


def test_latencies_of_another_device_stand_beside_those_of_the_first(
    folder: Path, measured: dict[str, Measurement]
) -> None:
    finish_manifest(folder, device=Device(name="bench"), measured=measured)
    expected = {"model.int8.onnx": PredictedLatency(latency_ms=7, upper_ms=9, confidence=0.9, source="estimated")}
    manifest = finish_manifest(folder, device=Device(name="phone", batch=2), measured={}, predicted=expected)
    check_schema(manifest)
    float32, int8 = manifest["files"]
    assert set(float32["latencies"]) == {"bench"}
    assert set(int8["latencies"]) == {"bench", "phone"}
    phone = int8["latencies"]["phone"]
    assert (phone["measured"], phone["upper_ms"], phone["source"], phone["batch"]) == (None, 9, "estimated", 2)


def test_finishing_again_with_other_budgets_takes_a_rejection_back(folder: Path) -> None:
    def accepted(rejected: dict[str, str]) -> list[bool]:
        manifest = finish_manifest(folder, device=Device(name="bench"), measured={}, rejected=rejected)
        return [entry["accepted"] for entry in manifest["files"]]

    assert accepted({"model.int8.onnx": "too slow"}) == [True, False]
    assert accepted({}) == [True, True]


def test_a_latency_of_a_file_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"has no exported file other\.onnx; it has model\.fp32\.onnx"):
        finish_manifest(folder, device=Device(name="bench"), measured={}, rejected={"other.onnx": "?"})
