"""`nas compress`: a model of the user's through all steps, and what is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import ModelProto, TensorProto, helper
from torch import nn

from nas.cli.instantiate import instantiate
from nas.cli.main import main
from nas.commands import compress as command
from nas.commands import compress_bundle, compress_mixed
from nas.commands.compress import CompressResult, compress
from nas.commands.compress_settings import CompressSettings
from nas.commands.display import Silent
from nas.deploy.bundle.verify import verify_bundle
from nas.deploy.bundle.write import SCHEMA as BUNDLE_SCHEMA
from nas.deploy.bundle.write import Licences
from nas.deploy.deployed import packed_size
from nas.deploy.export import export_onnx
from nas.deploy.judge import run_file
from nas.deploy.manifest import SCHEMA, read_manifest
from nas.deploy.options import DeployOptions
from nas.deploy.targets.onnxruntime import OnnxRuntime
from nas.device.protocol import FULL
from nas.errors import UserError
from nas.locate import resource_folder
from nas.problem.evaluation import Fidelity
from nas.run.front import read_front_csv
from nas.train.compression.options import CompressOptions
from nas.train.data.digits import Digits
from nas.train.fit import fit
from nas.train.recipe import Recipe
from nas.train.task import image_classification

DATA = Digits(limit=500)
QUICK = replace(FULL, blocks=2, runs=3, warmups=1, min_round_s=0.0, max_wait_s=0.0)
MODULE = """
from pathlib import Path
import torch
from torch import nn


def fresh():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10),
    )


def trained():
    net = fresh()
    net.load_state_dict(torch.load(Path(__file__).with_name("weights.pt")))
    return net


def constant():
    net = fresh()
    nn.init.zeros_(net[-1].weight)
    return net


def number():
    return 3


def fewer():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def coloured():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the user stands: a module with a trained network, and the same as ONNX."""
    place = tmp_path_factory.mktemp("own")
    (place / "own_nets.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(str(place))
        patch.setattr(command, "FULL", QUICK)
        patch.setattr(compress_mixed, "_QUICK", QUICK)
        import own_nets  # type: ignore[import-not-found]

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net: nn.Module = own_nets.fresh()
        fit(net, image_classification(DATA.load()), Recipe(), fidelity=Fidelity(epochs=8), seed=0)
        torch.save(net.state_dict(), place / "weights.pt")
        export_onnx(net, (1, 8, 8), place / "net.onnx")
        yield place


def options(**given: Any) -> dict[str, Any]:
    return {"data": DATA, "deploy": DeployOptions(calibration_images=64), "bundle": False, **given}


@pytest.fixture(scope="module")
def result(folder: Path) -> CompressResult:
    return compress(
        model="own_nets:trained", allow=["own_nets"], precisions=["float32", "int8"], epochs=2, out="made",
        sparsity=["2:4"], budget={"size": "14 kB", "accuracy": "50 %"},
        compress=CompressOptions(distil="largest", qat_epochs=1), targets=["tensorrt"],
        licences=Licences(weights="MIT"), **options(bundle=True),
    )  # fmt: skip


def by_name(result: CompressResult) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(record["model"], record["file"]): record for record in result.files}


def test_each_form_of_the_network_has_its_files(result: CompressResult) -> None:
    forms = {name for name, _ in by_name(result)}
    assert {"original", "mixed", "trained", "pruned-50", "pruned-50-trained", "sparse-2of4"} <= forms
    assert ("mixed", "float32") not in by_name(result)
    assert {label for name, label in by_name(result) if name == "trained"} == {"float32", "int8"}


def test_figures_are_those_of_the_files(folder: Path, result: CompressResult) -> None:
    task = image_classification(DATA.load())
    images, labels = task.images("test").contiguous().numpy(), task.labels("test").numpy()
    original = run_file(folder / "net.onnx", images).argmax(axis=1)
    for record in result.files:
        path = result.folder / record["path"]
        classes = run_file(path, images).argmax(axis=1)
        assert record["accuracy"] == pytest.approx((classes == labels).mean())
        assert record["agreement"] == pytest.approx((classes == original).mean())
        assert record["size_bytes"] == path.stat().st_size
        assert record["packed_bytes"] == packed_size(path)
        assert record["latency_ms"] > 0
    assert by_name(result)["original", "float32"]["agreement"] == 1


def test_narrow_and_sparse_forms_are_smaller_and_learnt_something(result: CompressResult) -> None:
    found = by_name(result)
    whole, narrow, sparse = (found[name, "float32"] for name in ("original", "pruned-50", "sparse-2of4"))
    assert narrow["macs"] < 0.5 * whole["macs"]
    assert narrow["size_bytes"] < 0.5 * whole["size_bytes"]
    assert sparse["macs"] == whole["macs"]
    assert sparse["packed_bytes"] < 0.8 * whole["packed_bytes"]
    assert min(narrow["accuracy"], sparse["accuracy"]) > 0.3


def test_a_budget_on_size_gives_a_mixed_file_that_keeps_it_and_marks_those_that_do_not(
    result: CompressResult,
) -> None:
    found = by_name(result)
    mixed, whole = found["mixed", "mixed"], found["original", "float32"]
    assert mixed["size_bytes"] <= 14_000 < whole["size_bytes"]
    assert not mixed["budgets"]
    assert whole["budgets"].startswith("size ")
    assert "breaks the budget size <= 14 kB" in whole["budgets"]
    assert not whole["non_dominated"]
    assert whole not in result.accepted
    folder = (result.folder / whole["path"]).parent
    entry = next(entry for entry in read_manifest(folder)["files"] if entry["precision"] == "float32")
    assert not entry["accepted"]
    assert "size <= 14 kB" in entry["reason"]


def test_every_folder_keeps_the_contract_of_model_folders(result: CompressResult) -> None:
    schema = json.loads(SCHEMA.read_text())
    for path in (result.folder / "models").iterdir():
        record = read_manifest(path)
        for entry in record["files"]:
            if entry["quantisation"]:
                entry["quantisation"].pop("qat", None)
        jsonschema.validate(record, schema)
        assert record["digest"] == path.name
        golden = np.load(path / "golden.npz")
        for entry in record["files"]:
            logits = run_file(path / entry["path"], golden["inputs"], batch=len(golden["inputs"]))
            np.testing.assert_array_equal(logits, golden[f"logits_{entry['precision']}"])


def test_the_front_and_the_record_lie_beside_the_models(result: CompressResult) -> None:
    table = read_front_csv(result.folder / "front.csv")
    assert len(table) == len(result.files)
    best = {row["path"] for _, row in table.iterrows() if row["non_dominated"]}
    assert best == {record["path"] for record in result.files if record["non_dominated"]} != set()
    record = json.loads((result.folder / "compress.json").read_text())
    assert record["files"] == list(result.files)
    assert any(line.startswith("pruned-50 float32 against original float32: ") for line in record["steps"])
    assert any("trained with rounding for 1 epoch" in line for line in record["steps"])
    assert (result.folder / "sensitivity.html").is_file()


def bundled(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle, which holds as a folder and as a zip file and keeps to its schema."""
    record: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    jsonschema.validate(record, json.loads(BUNDLE_SCHEMA.read_text()))
    checks = [verify_bundle(path) for path in (folder, folder.with_name(f"{folder.name}.zip"))]
    assert checks[0] == checks[1]
    for check in checks:
        assert not check.unlisted
        assert all(file.relative_error == 0 for file in check.files if "/onnxruntime/" in file.path)
    return record


def test_the_bundle_holds_the_very_files_of_the_front(result: CompressResult) -> None:
    assert result.bundle is not None
    record = bundled(result.bundle.folder)
    assert json.loads((result.folder / "compress.json").read_text())["bundle"] == {
        "folder": "made-bundle", "archive": "made-bundle.zip", "fingerprint": result.bundle.fingerprint,
    }  # fmt: skip
    files = [entry for model in record["models"] for entry in model["files"] if entry["target"] == "onnxruntime"]
    front = [one for one in result.files if one["non_dominated"]]
    assert {(result.bundle.folder / entry["path"]).read_bytes() for entry in files} == {
        (result.folder / one["path"]).read_bytes() for one in front
    }
    assert sorted(entry["judgement"]["accuracy"] for entry in files) == sorted(one["accuracy"] for one in front)
    timed = [entry["latencies"]["this-machine"]["measured"]["latency_ms"] for entry in files]
    assert sorted(timed) == sorted(one["latency_ms"] for one in front)
    assert all(entry["accepted"] and entry["profile"] and entry["expected"] for entry in files)


def test_the_bundle_says_what_is_not_known_of_a_model_of_ones_own_and_what_is_missing(result: CompressResult) -> None:
    assert result.bundle is not None
    folder = result.bundle.folder
    record = json.loads((folder / "manifest.json").read_text())
    origin = record["origin"]
    assert (origin["run"], origin["space"], record["commands"]["search"]) == ("", {}, "")
    assert (origin["model"]["name"], origin["model"]["kind"]) == ("own_nets:trained", "torch")
    assert all(model["space"] == {} and model["choices"]["step"] for model in record["models"])
    assert not list(folder.rglob("architecture.yaml"))
    assert "own\\_nets:trained" in (folder / "README.md").read_text()
    assert (record["licences"]["weights"], record["licences"]["data"]) == ("MIT", "")
    broken = {Path(one["path"]).parent.name for one in result.files if one["budgets"]}
    told = {one["model"]: one["reason"] for one in record["missing"] if one["target"] == "onnxruntime"}
    assert broken == told.keys() != set()
    assert all("breaks the budget size <= 14 kB" in reason for reason in told.values())


def test_files_of_other_runtimes_are_bundled_where_they_keep_the_budgets(result: CompressResult) -> None:
    assert result.bundle is not None
    record = json.loads((result.bundle.folder / "manifest.json").read_text())
    kept = {(one["model"], one["precision"]) for one in result.targets if not one["reason"]}
    broken = {(one["model"], one["precision"]) for one in result.targets if "breaks the budget size" in one["reason"]}
    assert ("original", "int8") in kept
    assert ("original", "float32") in broken
    entries = {
        (model["choices"]["step"], entry["precision"]): entry
        for model in record["models"]
        for entry in model["files"]
        if entry["target"] == "tensorrt"
    }
    assert entries.keys() <= kept
    assert len(entries) + sum(one["target"] == "tensorrt" for one in record["missing"]) == len(result.targets)
    for entry in entries.values():
        assert (entry["level"], entry["expected"]) == ("script-only", "")
        assert {Path(path).suffix for path in entry["extras"]} >= {".sh"}
        assert all((result.bundle.folder / path).is_file() for path in (entry["path"], *entry["extras"]))


def test_a_bundle_that_cannot_be_written_costs_only_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compress_bundle, "write_bundle", full)
    assert main(["compress", "model=net.onnx", "data.limit=500", "precisions=[float32]", "out=full"]) == 1
    assert "no bundle: cannot be written, No space left on device" in capsys.readouterr().out
    assert json.loads(Path("full/compress.json").read_text())["bundle"] is None
    assert sorted(path.name for path in Path("full").iterdir()) == [
        "compress.json", "front.csv", "models", "sensitivity.html",
    ]  # fmt: skip


def test_an_onnx_file_is_quantised_only_and_mixed_under_a_latency(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["compress", "model=net.onnx", "data.limit=500", "precisions=[float32]"]
    assert main([*asked, "out=file"]) == 0
    assert "an ONNX file is quantised only" in capsys.readouterr().out
    assert [record["model"] for record in json.loads(Path("file/compress.json").read_text())["files"]] == ["original"]
    record = bundled(Path("file/file-bundle"))
    assert (record["origin"]["model"]["name"], record["origin"]["model"]["kind"]) == ("net.onnx", "onnx")
    (model,) = record["models"]
    assert set(model["golden"]["arrays"]) == {"inputs", "labels", "outputs_onnxruntime_float32"}
    assert Path("file/file-bundle/parity.md").read_text().startswith("# Parity with the float32 file")
    assert main([*asked, "budget.accuracy=99.9 %"]) == 1
    told = capsys.readouterr().out
    assert "breaks the budget accuracy >= 99.9 %" in told
    assert "no bundle: no file may be shipped and keeps every budget" in told


def test_operators_have_the_times_that_a_profile_gives_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[compress_mixed.OperatorTimes] = []
    real = compress_mixed.operator_times

    def watched(*given: Any) -> compress_mixed.OperatorTimes:
        seen.append(real(*given))
        return seen[-1]

    monkeypatch.setattr(compress_mixed, "operator_times", watched)
    found = compress(model="net.onnx", precisions=["float32"], budget={"latency": "1 ns"}, out="timed", **options())
    (times,) = seen
    assert len(times.of_operators) == 3
    for of_one in times.of_operators.values():
        assert {"float32", "int8"} <= of_one.keys()
        assert min(of_one.values()) > 0
    spent = sum(of_one["float32"] for of_one in times.of_operators.values()) + times.rest_ms
    assert spent > 0
    assert [record["model"] for record in found.files] == ["original"]  # nothing is as fast as that
    assert not found.accepted


def changed(folder: Path, name: str, change: Any) -> str:
    model = onnx.load(folder / "net.onnx")
    change(model)
    onnx.save(model, folder / name)
    return name


def _other_names(model: ModelProto) -> None:
    names = {"input": "images", "logits": "input"}  # ours is an inner value's there
    for node in model.graph.node:
        node.name = ""
        node.input[:] = [names.get(value, value) for value in node.input]
        node.output[:] = [names.get(value, value) for value in node.output]
    model.graph.input[0].name, model.graph.output[0].name = "images", "input"


def _fixed_batch(model: ModelProto) -> None:
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1


@pytest.mark.parametrize("change", [_other_names, _fixed_batch])
def test_files_of_other_exporters_are_taken(folder: Path, change: Any, tmp_path: Path) -> None:
    name = changed(folder, "other.onnx", change)
    found = compress(model=name, precisions=["float32", "int8"], out=str(tmp_path / "out"), **options())
    whole, int8 = found.files
    assert whole["agreement"] == 1
    assert int8["size_bytes"] < 0.6 * whole["size_bytes"]
    assert int8["agreement"] > 0.9


def _dynamic(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def _two_inputs(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def _two_outputs(model: ModelProto) -> None:
    name = model.graph.node[0].output[0]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 16, 3, 3]))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_dynamic, "must have fixed channels, height and width, it takes batch x 1 x height x 8"),
        (_two_inputs, r"must have one input, images, it has 2 \(input, mask\)"),
        (_two_outputs, r"must have one output, scores, it has 2"),
    ],
)
def test_files_that_cannot_be_taken_are_told_in_one_line(folder: Path, change: Any, expected: str) -> None:
    name = changed(folder, "wrong.onnx", change)
    with pytest.raises(UserError, match=rf"model: {name} {expected}"):
        compress(model=name, **options())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"model": "own_nets:trained"}, r"model: must come from an allowed package \(none\)"),
        ({"model": "own_nets:none", "allow": ["own_nets"]}, "model: 'own_nets' has no function 'none'"),
        ({"model": "own_nets:number", "allow": ["own_nets"]}, "must return a torch.nn.Module, got int"),
        ({"model": "own_nets:fewer", "allow": ["own_nets"]}, r"must give 10 scores an image, got an output \(2, 3\)"),
        ({"model": "own_nets:coloured", "allow": ["own_nets"]}, r"coloured\(\) cannot take images \(1, 8, 8\)"),
        ({"model": "own_nets"}, r"must be package.module:function or a path to an .onnx file, got 'own_nets'"),
        ({"model": "nowhere.onnx"}, r"must be an ONNX file, there is no nowhere.onnx"),
        ({"model": "own_nets.py.onnx"}, "no valid ONNX file"),
        ({"model": "net.onnx", "input": "1x12x12"}, "takes 1x8x8, the images are 1x12x12"),
        ({"model": "net.onnx", "input": "3x8x8"}, "input: must have the 1 channels of the data, got 3x8x8"),
        ({"model": "net.onnx", "input": "big"}, "input: must be channels x height x width, got 'big'"),
        ({"model": "net.onnx", "mean": 0.5}, "mean: must be given together with std"),
        ({"model": "net.onnx", "mean": [0.5, 0.1], "std": 1}, "mean: must be one number, or one for each of 1"),
        ({"model": "net.onnx", "std": 0, "mean": 0}, "std: must be a number above 0, got 0"),
        ({"model": "net.onnx", "prune": [1.5]}, "prune: must be a number above 0 and below 1, got 1.5"),
        ({"model": "net.onnx", "sparsity": ["3:4"]}, "sparsity: "),
        ({"model": "net.onnx", "precisions": ["int8"]}, "precisions: must name float32"),
        ({"model": "net.onnx", "budget": {"sise": "1 kB"}}, "budget: no budget named 'sise'; did you mean size"),
        ({"model": "net.onnx", "budget": {"size": 5}}, "budget.size: must carry a unit"),
        ({"model": "net.onnx", "targets": ["litert"]}, r"targets: must be \[\] for an ONNX file, got \['litert'\]"),
        ({"model": "own_nets:x", "targets": ["toaster"]}, "targets: no target named 'toaster'"),
        ({"model": "net.onnx", "bundle": "yes"}, "bundle: must be true or false, got 'yes'"),
        ({"model": "net.onnx", "device": "toaster"}, "device: no device named 'toaster'"),
        ({"model": "net.onnx", "out": "."}, "out: must be a new or empty folder"),
        ({"modle": "net.onnx"}, "compress: takes no field modle"),
        ({}, "compress: must be given a model"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line_and_nothing_is_left_behind(
    folder: Path, given: dict[str, Any], expected: str
) -> None:
    (folder / "own_nets.py.onnx").write_text("no file")
    with pytest.raises(UserError, match=expected) as caught:
        compress(**options(**given))
    assert "\n" not in str(caught.value)
    assert not (folder / "compressed").exists() or not list((folder / "compressed").glob("*none*"))


def test_a_model_that_only_guesses_is_told_about(folder: Path, tmp_path: Path) -> None:
    told: list[str] = []

    class Notes(Silent):
        def note(self, text: str) -> None:
            told.append(text)

    settings = CompressSettings(
        model="own_nets:constant", allow=["own_nets"], precisions=["float32"], prune=[], out=str(tmp_path / "out"),
        compress=CompressOptions(), **options(),
    )  # fmt: skip
    compress(settings, display=Notes())
    assert any("guessing is for" in text and "normalised by mean=, std=?" in text for text in told)


def test_the_command_has_the_defaults_of_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    written = yaml.safe_load((resource_folder("conf") / "compress" / "model.yaml").read_text())
    assert instantiate(written, where="compress") == CompressSettings(model="x:y").compress
    root = yaml.safe_load((resource_folder("conf") / "compress.yaml").read_text())
    settings = CompressSettings(model="x:y")
    for name in ("input", "mean", "std", "epochs", "seed", "device", "bundle", "out"):
        assert root[name] == getattr(settings, name)
    for name in ("precisions", "prune", "sparsity", "targets", "allow"):
        assert tuple(root[name]) == tuple(getattr(settings, name))
    assert main(["compress"]) == 2
    assert "model: must be given" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "compress   a model of your own" in capsys.readouterr().out


def test_other_runtimes_get_files_of_what_was_calibrated_and_one_that_fails_costs_its_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no int8 today")

    real = OnnxRuntime.export
    monkeypatch.setattr(
        OnnxRuntime,
        "export",
        lambda self, source, into, precision: (refuse if precision == "int8" else real)(self, source, into, precision),
    )
    found = compress(
        model="own_nets:trained", allow=["own_nets"], precisions=["float32", "int8"], prune=[],
        targets=["onnxruntime"], compress=CompressOptions(qat_epochs=1), out=str(tmp_path / "out"), **options(),
    )  # fmt: skip
    float_file, int8 = found.targets
    assert [record["model"] for record in found.targets] == ["original"] * 2
    assert (float_file["level"], float_file["agreement"], float_file["reason"]) == ("executed", 1.0, "")
    assert (found.folder / float_file["path"]).stat().st_size == float_file["bytes"]
    assert (int8["path"], int8["level"]) == (None, None)
    assert "no int8 today" in int8["reason"]
    assert json.loads((found.folder / "compress.json").read_text())["targets"] == list(found.targets)
