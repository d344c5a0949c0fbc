from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from nas.deploy.architecture_file import architecture_text, read_architecture
from nas.deploy.files import torch_logits
from nas.deploy.load import load_model, read_golden, verify_model_folder
from nas.deploy.manifest import content_entry, read_manifest, write_manifest
from nas.deploy.records import ExportedModel, Samples, TrainedNetwork
from nas.errors import UserError
from nas.space import Architecture, Cell, Edge, Layer, Network
from nas.space.folding import network_digest


@pytest.fixture
def folder(exported: ExportedModel, tmp_path: Path) -> Path:
    return shutil.copytree(exported.folder, tmp_path / exported.digest)


def vouch(folder: Path, name: str) -> None:
    """Gives a changed file a correct checksum, so that what lies behind it is tested."""
    manifest = read_manifest(folder)
    for entries in (manifest["contents"], manifest["files"]):
        for entry in entries:
            if entry["path"] == name:
                entry |= content_entry(folder / name)
    write_manifest(folder, manifest)


def test_the_module_that_is_loaded_gives_the_logits_of_the_one_that_was_exported(
    folder: Path, trained: TrainedNetwork, samples: Samples
) -> None:
    loaded = load_model(folder)
    expected = torch_logits(trained.module.eval(), samples.test)
    np.testing.assert_allclose(torch_logits(loaded.module, samples.test), expected, atol=1e-5)
    assert not loaded.module.training
    assert loaded.architecture.network.digest == trained.network.digest
    assert loaded.architecture.choices == trained.architecture.choices


def test_loading_does_not_move_the_global_generator(folder: Path) -> None:
    before = torch.random.get_rng_state()
    load_model(folder)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_untouched_folder_is_verified_file_by_file(folder: Path) -> None:
    checks = verify_model_folder(folder)
    assert [check.what for check in checks] == ["torch", "model.fp32.onnx", "model.int8.onnx"]
    assert all(check.agreement == 1 for check in checks)
    assert all(check.relative_error < 1e-3 for check in checks)


@pytest.mark.parametrize("name", ["architecture.yaml", "weights.safetensors", "golden.npz", "model.int8.onnx"])
def test_a_changed_file_is_found_by_its_checksum(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(UserError, match=rf"{name}: was changed"):
        verify_model_folder(folder)


@pytest.mark.parametrize("name", ["model.fp32.onnx", "weights.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: must be there"):
        verify_model_folder(folder)


def test_a_file_that_answers_otherwise_than_the_golden_outputs_is_refused(folder: Path) -> None:
    golden = read_golden(folder)
    golden["logits_int8"] = np.roll(golden["logits_int8"], 1, axis=1)
    np.savez(folder / "golden.npz", **golden)  # type: ignore[arg-type]
    vouch(folder, "golden.npz")
    with pytest.raises(UserError, match=r"model\.int8\.onnx must give the golden outputs within 15\.0% of their range"):
        verify_model_folder(folder)


def test_golden_outputs_with_objects_in_them_are_not_unpickled(folder: Path) -> None:
    golden = read_golden(folder) | {"labels": np.array([{"an": "object"}])}
    np.savez(folder / "golden.npz", **golden)  # type: ignore[arg-type]
    vouch(folder, "golden.npz")
    with pytest.raises(UserError, match=r"golden\.npz: cannot be read"):
        verify_model_folder(folder)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    weights = load_file(folder / "weights.safetensors")
    weights.pop(next(name for name in weights if name.endswith("conv.weight")))
    save_file(weights, folder / "weights.safetensors")
    vouch(folder, "weights.safetensors")
    with pytest.raises(UserError, match=r"weights\.safetensors: does not fit architecture\.yaml"):
        load_model(folder)


@pytest.mark.parametrize(
    "content", ["", "[1, 2", "format: 2\n", "format: 1\nstages: 3\n", "!!python/object:os.system {}"]
)
def test_a_broken_architecture_is_a_users_error_and_runs_nothing(folder: Path, content: str) -> None:
    (folder / "architecture.yaml").write_text(content)
    vouch(folder, "architecture.yaml")
    with pytest.raises(UserError, match=r"architecture\.yaml"):
        load_model(folder)


def test_an_architecture_that_does_not_fit_its_digest_is_refused(folder: Path) -> None:
    record = yaml.safe_load((folder / "architecture.yaml").read_text())
    record["stages"][0]["parameters"]["channels"] = 8
    (folder / "architecture.yaml").write_text(yaml.safe_dump(record))
    vouch(folder, "architecture.yaml")
    with pytest.raises(UserError, match="must fit the stages"):
        load_model(folder)


def test_a_manifest_cannot_point_outside_its_folder(folder: Path) -> None:
    manifest = read_manifest(folder)
    manifest["contents"][0]["path"] = "../other.yaml"
    write_manifest(folder, manifest)
    with pytest.raises(UserError, match=r"must list files of its own"):
        verify_model_folder(folder)


def test_custom_operators_are_not_imported_unless_allowed(folder: Path) -> None:
    stages = (Layer(op="os.path.join", parameters={}),)
    digest = network_digest(None, stages)
    network = Network(resolution=None, stages=stages, digest=digest)
    architecture = Architecture(row=(), choices={}, digest=digest)
    text = architecture_text(network, architecture, data_shape=(1, 8, 8), num_classes=10)
    (folder / "architecture.yaml").write_text(text)
    vouch(folder, "architecture.yaml")
    with pytest.raises(UserError, match="must come from an allowed package"):
        load_model(folder)


def test_no_model_folder_and_a_broken_manifest_are_users_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        load_model(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json: cannot be read"):
        load_model(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(UserError, match=r"manifest\.json: format: must be 1, got 99"):
        load_model(tmp_path)


def test_layers_and_cells_come_back_from_yaml_as_they_went_in(tmp_path: Path) -> None:
    conv = Layer(op="conv", parameters={"channels": 16, "kernel": 3, "rate": 1e-05, "act": "relu", "se": True})
    pool = Layer(op="avg_pool", parameters={"kernel": (3, 5), "name": "on"})
    edges = (
        Edge(source=0, target=1, layer=conv),
        Edge(source=0, target=2, layer=pool),
        Edge(source=1, target=2, layer=conv),
    )
    stages = (conv, Cell(num_nodes=3, edges=edges), Layer(op="classifier", parameters={}))
    network = Network(resolution=1.5, stages=stages, digest=network_digest(1.5, stages))
    architecture = Architecture(row=(0, 1), choices={"width": "16", "odd": "no"}, digest=network.digest)
    path = tmp_path / "architecture.yaml"
    path.write_text(architecture_text(network, architecture, data_shape=(3, 32, 24), num_classes=7))
    stored = read_architecture(path)
    assert stored.network == network
    assert stored.choices == architecture.choices
    assert (stored.data_shape, stored.num_classes) == ((3, 32, 24), 7)
