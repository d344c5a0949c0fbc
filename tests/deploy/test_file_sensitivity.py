from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.deploy import file_sensitivity
from nas.deploy.file_sensitivity import file_sensitivities
from nas.deploy.manifest import read_manifest
from nas.deploy.model_folder import export_model
from nas.deploy.options import DeployOptions
from nas.deploy.precision.assignment import Wish, assign
from nas.deploy.precision.makers import calibrated_network, make_file
from nas.deploy.records import ExportedModel, Samples, TrainedNetwork, Training

OPTIONS = DeployOptions(activations="unsigned", precisions=("float32", "int8", "int8-dynamic", "int4"))
TRAINING = Training(epochs=4, seed=0, seconds=2.5, validation_accuracy=0.95, recipe={})


def test_the_manifest_tells_the_noise_that_one_pass_finds_for_the_quantised_network(
    exported: ExportedModel, samples: Samples
) -> None:
    float32, int8 = read_manifest(exported.folder)["files"]
    kept = int8["quantisation"]["sensitivities"]
    network = calibrated_network(exported.folder / "model.fp32.onnx", samples.calibration[:128], OPTIONS)
    given = assign(network.prepared, Wish(precision="int8"))
    noises = {noise.operator: noise.sqnr_db for noise in network.noise(given, samples.calibration[:64])}
    decibels = [noises[entry["operator"]] for entry in kept]
    assert {entry["operator"] for entry in kept} == set(noises) & set(given)
    assert decibels == sorted(decibels)
    assert [entry["sqnr_db"] for entry in kept] == pytest.approx(decibels, abs=0.006)
    assert kept[0]["sqnr_db"] > 10
    assert float32["quantisation"] is None


@pytest.mark.parametrize("precision", ["int8-dynamic", "int4"])
def test_each_operator_has_the_precision_that_the_file_holds(
    exported: ExportedModel, samples: Samples, tmp_path: Path, precision: str
) -> None:
    images, float32 = samples.calibration[:32], exported.folder / "model.fp32.onnx"
    options = replace(OPTIONS, min_agreement=1.0, revert=2)
    path = tmp_path / "model.onnx"
    made = make_file(precision, float32, path, images, options)
    assert made is not None
    found = file_sensitivities(path, float32, precision, quantisation=made, images=images, options=options)  # type: ignore[arg-type]
    assert found
    for kind in {entry["precision"] for entry in found}:
        told = [entry["operator"] for entry in found if entry["precision"] == kind]
        assert len(told) <= made["operators"][kind]
    assert {entry["precision"] for entry in found} == set(made["operators"]) - {"float32"}


def test_an_operator_that_went_back_is_told_with_what_it_has_now(
    exported: ExportedModel, samples: Samples, tmp_path: Path
) -> None:
    images, float32 = samples.calibration[:32], exported.folder / "model.fp32.onnx"
    path = tmp_path / "model.onnx"
    made = make_file("int8", float32, path, images, OPTIONS)
    assert made is not None
    first = file_sensitivities(path, float32, "int8", quantisation=made, images=images, options=OPTIONS)
    back = str(first[0]["operator"])
    made = make_file("int8", float32, path, images, OPTIONS, keep_float=[back])
    assert made is not None
    record = made | {"reverted": [back]}
    found = file_sensitivities(path, float32, "int8", quantisation=record, images=images, options=OPTIONS)
    assert back not in {entry["operator"] for entry in found}
    assert len(found) == len(first) - 1
    floats = {"stages": {"s1": "float16"}, "method": "minmax"}
    assert file_sensitivities(path, float32, "int8", quantisation=floats, images=images, options=OPTIONS) == []


def test_a_run_may_do_without_and_a_file_stands_without(
    trained: TrainedNetwork,
    samples: Samples,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no kernel for a twin")

    few = replace(samples, calibration=samples.calibration[:16])
    options = replace(OPTIONS, precisions=("float32", "int8"), sensitivities=False)
    monkeypatch.setattr(file_sensitivity, "operator_noise", broken)
    with caplog.at_level(logging.WARNING, "nas.deploy.files"):
        for wanted in (False, True):
            made = export_model(tmp_path, trained, few, TRAINING, replace(options, sensitivities=wanted))
            int8 = read_manifest(made.folder)["files"][1]
            assert int8["precision"] == "int8"
            assert "sensitivities" not in int8["quantisation"]
            assert ("no kernel for a twin" in caplog.text) == wanted


def test_large_images_are_fewer(exported: ExportedModel) -> None:
    counts = [file_sensitivity._num_images(np.zeros((100, 3, size, size))) for size in (8, 32, 64, 224)]
    assert counts == [64, 64, 16, 8]
