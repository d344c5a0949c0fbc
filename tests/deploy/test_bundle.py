"""A bundle of one model: what is in it, and what a check says when something is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import onnxruntime
import pytest

from nas.commands.export import ExportResult, export
from nas.commands.export_settings import ExportSettings
from nas.deploy.bundle.archive import write_zip
from nas.deploy.bundle.verify import is_bundle, verify_bundle
from nas.deploy.bundle.write import SCHEMA, Licences
from nas.deploy.files import TOLERANCE, torch_logits
from nas.deploy.load import load_model
from nas.deploy.manifest import SCHEMA as MODEL_SCHEMA
from nas.deploy.manifest import sha256
from nas.deploy.model_folder import export_model
from nas.deploy.options import PRECISIONS, DeployOptions
from nas.deploy.records import ExportedModel, Samples, TrainedNetwork, Training
from nas.errors import UserError
from nas.train.data.digits import Digits

HEADER = "onnxruntime_cxx_api.h"
INCLUDES = (
    os.environ.get("ONNXRUNTIME_INCLUDE", ""),
    "/usr/include/onnxruntime",
    "/usr/local/include/onnxruntime",
)


class Notes:
    """Keeps what a command tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, topic: str, text: str) -> None:
        self.lines.append(f"{topic} {text}")

    def progress(self, topic: str, done: int, total: int, *, text: str = "", each: bool = False) -> None:
        self.lines.append(f"{topic} {done}/{total}")

    def note(self, text: str) -> None:
        self.lines.append(f"note {text}")

    def result(self, table: str, figures: object) -> None:
        self.lines.append(table)


@pytest.fixture(scope="module")
def made(exported: ExportedModel, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """Of one model for two targets that are always there, made in this process."""
    settings = ExportSettings(
        run=exported.folder.parent.parent,
        targets=("onnxruntime", "tensorrt"),
        out=tmp_path_factory.mktemp("bundles") / "mine",
        data=Digits(),
        images=100,
        licences=Licences(weights="MIT", data="CC0-1.0"),
        workers=0,
    )
    return export(settings, command="nas export")


@pytest.fixture
def bundle(made: ExportResult, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(made.folder, tmp_path / "mine"))


def model_of(made: ExportResult) -> Path:
    return made.folder / "models" / made.manifest["models"][0]["digest"]


def changed(bundle: Path, change: Callable[[dict], object]) -> None:
    """Changes the manifest."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def vouch(bundle: Path, name: str) -> None:
    """Gives a changed file a correct sum, so that what lies behind it is tested."""

    def put(manifest: dict) -> None:
        entry = next(entry for entry in manifest["contents"] if entry["path"] == name)
        entry |= {"sha256": sha256(bundle / name), "bytes": (bundle / name).stat().st_size}

    changed(bundle, put)


def test_the_manifest_follows_its_schema_and_lists_every_other_file(made: ExportResult) -> None:
    manifest, schema = json.loads((made.folder / "manifest.json").read_text()), json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(manifest, schema, cls=jsonschema.Draft202012Validator)
    there = {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*") if path.is_file()}
    assert {entry["path"] for entry in manifest["contents"]} == there - {"manifest.json"}
    assert (made.folder / "manifest.schema.json").read_text() == SCHEMA.read_text()


def test_each_file_is_there_with_its_figures_and_what_it_is_worth(made: ExportResult) -> None:
    (model,) = made.manifest["models"]
    kinds = [(entry["target"], entry["precision"], entry["level"]) for entry in model["files"]]
    assert kinds == [
        ("onnxruntime", "float32", "executed"),
        ("onnxruntime", "int8", "executed"),
        ("tensorrt", "float32", "script-only"),
        ("tensorrt", "int8", "script-only"),
    ]
    assert made.missing == []
    for entry in model["files"]:
        assert entry["accepted"]
        assert entry["judgement"]["num_samples"] == 100
        assert entry["judgement"]["agreement"] >= 0.97
        assert (made.folder / entry["path"]).stat().st_size == entry["bytes"]
    float32, int8 = model["files"][:2]
    assert float32["judgement"]["relative_error"] <= 1e-4
    assert int8["figures"]["peak_bytes"] < float32["figures"]["peak_bytes"]
    shares = json.loads((made.folder / float32["profile"]).read_text())["operators"]
    assert sum(operator["share"] for operator in shares) == pytest.approx(1)
    assert made.manifest["licences"]["weights"] == "MIT"


def test_golden_outputs_are_those_of_the_network_in_torch_in_every_form(
    made: ExportResult, exported: ExportedModel
) -> None:
    place = model_of(made) / "golden"
    arrays = np.load(place / "golden.npz", allow_pickle=False)
    expected = torch_logits(load_model(exported.folder).module, arrays["inputs"])
    np.testing.assert_allclose(arrays["outputs_onnxruntime_float32"], expected, atol=1e-4)
    described = json.loads((place / "golden.json").read_text())
    assert described["byte_order"] == "little-endian"
    for name, entry in described["arrays"].items():
        raw = np.fromfile(model_of(made) / entry["path"], dtype=np.dtype(entry["dtype"]).newbyteorder("<"))
        np.testing.assert_array_equal(raw.reshape(entry["shape"]), arrays[name])


def test_the_pages_name_every_file_and_every_model(made: ExportResult) -> None:
    readme, parity = ((made.folder / name).read_text() for name in ("README.md", "parity.md"))
    for entry in made.manifest["models"][0]["files"]:
        assert f"`{entry['path']}`" in readme
    assert parity.count("| onnxruntime |") == 2
    assert parity.count(f"| script-only | onnxruntime {onnxruntime.__version__} |") == 2
    rows = json.loads((made.folder / "parity.json").read_text())["files"]
    assert [row["agreement"] for row in rows] == [
        entry["judgement"]["agreement"] for entry in made.manifest["models"][0]["files"]
    ]


def test_folder_and_zip_hold_and_have_one_fingerprint(made: ExportResult) -> None:
    assert made.archive is not None
    checks = [verify_bundle(place) for place in (made.folder, made.archive)]
    assert {check.fingerprint for check in checks} == {made.fingerprint}
    assert all(is_bundle(place) for place in (made.folder, made.archive))
    ran = [file.relative_error for file in checks[0].files]
    assert ran == [0, 0, None, None]


def test_the_script_of_the_bundle_checks_it_without_nas(made: ExportResult) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "verify.py"], cwd=made.folder, capture_output=True, text=True, check=True
    )
    assert made.fingerprint in done.stdout
    assert "2 of 4 model files run" in done.stdout
    imported = {line.split()[1].partition(".")[0] for line in (made.folder / "verify.py").read_text().splitlines()
                if line.startswith(("import ", "from "))}  # fmt: skip
    assert imported - set(sys.stdlib_module_names) == {"numpy"}


def test_the_script_tells_one_line_where_something_is_wrong(bundle: Path) -> None:
    (bundle / "README.md").unlink()
    done = subprocess.run([sys.executable, "-I", "verify.py"], cwd=bundle, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: README.md: must be there")
    assert done.stderr.count("\n") == 1


def test_equal_files_give_an_equal_archive(made: ExportResult, bundle: Path, tmp_path: Path) -> None:
    assert made.archive is not None
    for path in bundle.rglob("*"):
        os.utime(path, (1, 1))
    write_zip(bundle, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == made.archive.read_bytes()


def onnx_file(bundle: Path) -> str:
    return json.loads((bundle / "manifest.json").read_text())["models"][0]["files"][0]["path"]


def flip(bundle: Path) -> None:
    path = bundle / onnx_file(bundle)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap(bundle: Path) -> None:
    int8 = json.loads((bundle / "manifest.json").read_text())["models"][0]["files"][1]["path"]
    shutil.copy(bundle / int8, bundle / onnx_file(bundle))
    vouch(bundle, onnx_file(bundle))


def outside(bundle: Path) -> None:
    (bundle.parent / "secret").write_text("x")
    changed(bundle, lambda manifest: manifest["contents"][0].update(path="../secret"))


def link(bundle: Path) -> None:
    (bundle / "README.md").rename(bundle.parent / "elsewhere")
    (bundle / "README.md").symlink_to(bundle.parent / "elsewhere")


def broken_golden(bundle: Path) -> None:
    name = json.loads((bundle / "manifest.json").read_text())["models"][0]["golden"]["npz"]
    np.savez(bundle / name, inputs=np.array([{"an": "object"}], dtype=object))
    vouch(bundle, name)


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit": (flip, "was changed"),
    "another model": (swap, "must give the golden outputs"),
    "a file gone": (lambda bundle: (bundle / onnx_file(bundle)).unlink(), "must be there"),
    "a file cut short": (lambda bundle: (bundle / "README.md").write_text("x"), "bytes"),
    "a path that leads out": (outside, "stay inside"),
    "a link": (link, "plain file"),
    "objects among the golden arrays": (broken_golden, "cannot be read"),
    "no JSON": (lambda bundle: (bundle / "manifest.json").write_text("{"), "must be JSON"),
    "not a number": (lambda bundle: (bundle / "manifest.json").write_text("[NaN]"), "must be JSON"),
    "a later format": (lambda bundle: changed(bundle, lambda m: m.update(format=2)), "must be 1, got 2"),
    "another kind": (lambda bundle: changed(bundle, lambda m: m.update(kind="x")), "must be a bundle"),
    "a field too many": (lambda bundle: changed(bundle, lambda m: m.update(extra=1)), "must not be there"),
    "a field of another type": (
        lambda bundle: changed(bundle, lambda m: m["models"][0].update(macs="many")),
        "models[0].macs: must be of type integer",
    ),
    "a file that is not listed": (
        lambda bundle: changed(bundle, lambda m: m["models"][0]["files"][0].update(path="other.onnx")),
        "must be listed",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_what_is_wrong_with_a_bundle_is_told_in_one_line(bundle: Path, what: str) -> None:
    breaks, expected = BREAKS[what]
    breaks(bundle)
    with pytest.raises(UserError) as found:
        verify_bundle(bundle)
    assert expected in str(found.value)
    assert "\n" not in str(found.value)


def test_a_file_that_the_manifest_does_not_name_is_told_and_breaks_nothing(bundle: Path) -> None:
    (bundle / "build.log").write_text("x")
    assert verify_bundle(bundle).unlisted == ("build.log",)


def zip_of(bundle: Path, path: Path, *, extra: str = "", mode: int = 0o100644) -> Path:
    write_zip(bundle, path)
    if extra:
        with zipfile.ZipFile(path, "a") as archive:
            entry = zipfile.ZipInfo(extra)
            entry.external_attr = mode << 16
            archive.writestr(entry, "x")
    return path


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "mine/../../evil", "C:/evil", "mine\\..\\evil", "mine/./x", "mine/a\nb"]
)
def test_a_name_that_leads_out_of_an_archive_is_refused_before_anything_is_unpacked(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    archive = zip_of(bundle, tmp_path / "evil.zip", extra=name)
    monkeypatch.setattr(shutil, "copyfileobj", lambda *_: pytest.fail("something was unpacked"))
    with pytest.raises(UserError, match="stay inside"):
        verify_bundle(archive)


def test_links_doubles_and_unlisted_members_of_an_archive_are_refused(bundle: Path, tmp_path: Path) -> None:
    for extra, mode, expected in (
        ("mine/link", 0o120777, "is a link"),
        ("mine/more", 0o100644, "is not listed"),
    ):
        with pytest.raises(UserError, match=expected):
            verify_bundle(zip_of(bundle, tmp_path / "evil.zip", extra=extra, mode=mode))
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = zip_of(bundle, tmp_path / "evil.zip", extra="mine/README.md")
    with pytest.raises(UserError, match="twice"):
        verify_bundle(twice)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_archive_is_told(made: ExportResult, tmp_path: Path, share: float) -> None:
    assert made.archive is not None
    content = made.archive.read_bytes()
    path = tmp_path / "cut.zip"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="truncated or damaged"):
        verify_bundle(path)


def test_an_archive_that_is_damaged_inside_is_told(made: ExportResult, tmp_path: Path) -> None:
    assert made.archive is not None
    with zipfile.ZipFile(made.archive) as archive:
        entry = next(entry for entry in archive.infolist() if entry.filename.endswith("README.md"))
    content = bytearray(made.archive.read_bytes())
    content[entry.header_offset + 80] ^= 0xFF
    path = tmp_path / "damaged.zip"
    path.write_bytes(content)
    with pytest.raises(UserError, match="truncated or damaged"):
        verify_bundle(path)


@pytest.mark.parametrize("script", ["adb_onnxruntime.sh", "trtexec.sh"])
def test_benchmark_scripts_are_valid_bash_and_can_be_run(made: ExportResult, script: str) -> None:
    path = model_of(made) / "bench" / script
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(path, os.X_OK)
    assert "{{" not in path.read_text()


def test_the_cpp_loader_compiles_and_gives_the_golden_outputs(made: ExportResult, tmp_path: Path) -> None:
    include = next((place for place in INCLUDES if place and (Path(place) / HEADER).is_file()), None)
    compiler = shutil.which("g++") or shutil.which("clang++")
    if include is None or compiler is None:
        pytest.skip(f"no C++ compiler, or no {HEADER}: install libonnxruntime-dev, or set ONNXRUNTIME_INCLUDE")
    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not libraries:
        pytest.skip("the wheel of onnxruntime has no shared library of its own on this system")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (tmp_path / name).symlink_to(libraries[0])
    program = tmp_path / "check_golden"
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-isystem", include]
    command += [str(model_of(made) / "loaders" / "cpp" / "check_golden.cpp"), f"-L{tmp_path}", "-lonnxruntime"]
    subprocess.run([*command, f"-Wl,-rpath,{tmp_path}", "-o", str(program)], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    good = subprocess.run([program, model_of(made)], env=environment, capture_output=True, text=True)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.count("ok  ") == 2
    other = Path(shutil.copytree(model_of(made), tmp_path / "other"))
    expected = other / "golden" / "outputs_onnxruntime_float32.bin"
    (np.fromfile(expected, dtype="<f4") + 1).astype("<f4").tofile(expected)
    bad = subprocess.run([program, other], env=environment, capture_output=True, text=True)
    assert bad.returncode == 1
    assert bad.stdout.startswith("FAIL")


def test_the_shared_part_of_the_kotlin_loader_compiles(made: ExportResult, tmp_path: Path) -> None:
    compiler = os.environ.get("KOTLINC") or shutil.which("kotlinc")
    if compiler is None:
        pytest.skip("no kotlinc (npm: kotlin-compiler); set KOTLINC")
    source = model_of(made) / "loaders" / "kotlin" / "NasModel.kt"
    subprocess.run([compiler, str(source), "-d", str(tmp_path / "model.jar"), "-Werror"], check=True)


def export_again(exported: ExportedModel, out: Path, **given: object) -> tuple[ExportResult, list[str]]:
    notes = Notes()
    fields = {"run": exported.folder.parent.parent, "out": out, "workers": 0, "profile": False, "archive": False}
    return export(ExportSettings(**(fields | given)), display=notes), notes.lines  # type: ignore[arg-type]


def test_what_cannot_be_made_is_told_once_and_the_rest_is_written(exported: ExportedModel, tmp_path: Path) -> None:
    result, lines = export_again(
        exported, tmp_path / "out", targets=("onnxruntime", "tensorrt"), precisions=("float32", "int8", "int4")
    )
    missing = {(one.target, one.precision): one.reason for one in result.missing}
    assert set(missing) == {("onnxruntime", "int4"), ("tensorrt", "int8"), ("tensorrt", "int4")}
    assert "calibration" in missing["tensorrt", "int8"]
    assert "no such precision" in missing["tensorrt", "int4"]
    assert sum(line.startswith("note tensorrt: no int4 file") for line in lines) == 1
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert len(manifest["missing"]) == 3
    assert manifest["images"] == {"source": "golden", "calibration": 0, "test": 8}
    assert any("golden images" in note for note in manifest["notes"])
    assert [entry["precision"] for entry in manifest["models"][0]["files"]] == ["float32", "int8", "float32"]


def test_a_bundle_is_replaced_and_anything_else_is_not(exported: ExportedModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="holds other things"):
        export_again(exported, out)
    (out / "mine.txt").unlink()
    export_again(exported, out, precisions=("float32",))
    export_again(exported, out, precisions=("float32",))
    assert verify_bundle(out).num_contents > 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_model_folder_that_was_changed_is_not_exported(exported: ExportedModel, tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder = Path(shutil.copytree(exported.folder, run / "models" / exported.digest))
    (folder / "model.fp32.onnx").write_bytes(b"x")
    with pytest.raises(UserError, match=r"could make no file at all.*was changed"):
        export_again(exported, tmp_path / "out", run=run)
    assert not (tmp_path / "out").exists()


def test_data_of_other_contents_is_refused(exported: ExportedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data: must be what .* was trained on"):
        export_again(exported, tmp_path / "out", data=Digits(limit=500))


@pytest.mark.parametrize(("change", "expected"), [("digest", "was trained on"), ("mean", "must be normalised as")])
def test_a_model_that_the_data_does_not_fit_is_missing_and_the_others_are_written(
    exported: ExportedModel, tmp_path: Path, change: str, expected: str
) -> None:
    models = tmp_path / "run" / "models"
    for name in (exported.digest, "other"):
        shutil.copytree(exported.folder, models / name)
    manifest = json.loads((models / "other" / "manifest.json").read_text())
    if change == "digest":
        manifest["training"]["data_digest"] = "0" * 16
    else:
        manifest["input"]["mean"] = [0.9]
    (models / "other" / "manifest.json").write_text(json.dumps(manifest))
    result, lines = export_again(
        exported, tmp_path / "out", run=tmp_path / "run", data=Digits(), precisions=("float32",), images=50
    )
    assert [model["digest"] for model in result.manifest["models"]] == [exported.digest]
    (missing,) = result.missing
    assert missing.digest == "other"
    assert f"the data {expected if change == 'mean' else 'must be what other ' + expected}" in missing.reason
    assert sum(line.startswith("note onnxruntime: no float32 file of other: the data") for line in lines) == 1


def test_a_precision_that_no_target_has_is_a_mistake(exported: ExportedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no precision of onnxruntime, tensorrt named 'int3'; did you mean int8"):
        export_again(exported, tmp_path / "out", targets=("onnxruntime", "tensorrt"), precisions=("int3",))


def test_a_file_under_its_gate_is_left_out_or_marked(exported: ExportedModel, tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder = Path(shutil.copytree(exported.folder, run / "models" / exported.digest))
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest["files"][1]
    entry |= {"accepted": False, "reason": "latency 2 ms breaks the budget"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    result, _ = export_again(exported, tmp_path / "out", run=run)
    assert [one.reason for one in result.missing] == ["must not be shipped: latency 2 ms breaks the budget"]
    assert not list(result.folder.rglob("model.int8.onnx"))
    kept, _ = export_again(exported, tmp_path / "out", run=run, keep_rejected=True)
    marked = kept.manifest["models"][0]["files"][1]
    assert (marked["accepted"], marked["reason"]) == (False, "latency 2 ms breaks the budget")


def test_a_model_folder_of_every_precision_follows_its_schema_and_is_exported_in_them(
    trained: TrainedNetwork, samples: Samples, tmp_path: Path
) -> None:
    options = DeployOptions(precisions=PRECISIONS, activations="unsigned", min_agreement=0.5)
    training = Training(epochs=4, seed=0, seconds=1)
    folder = export_model(tmp_path / "run" / "models", trained, samples, training, options).folder
    record, schema = json.loads((folder / "manifest.json").read_text()), json.loads(MODEL_SCHEMA.read_text())
    jsonschema.validate(record, schema, cls=jsonschema.Draft202012Validator)
    settings = ExportSettings(
        run=tmp_path / "run", out=tmp_path / "out", workers=0, profile=False, archive=False, keep_rejected=True
    )
    result = export(settings)
    (model,) = result.manifest["models"]
    assert {entry["precision"] for entry in model["files"]} == set(PRECISIONS)
    assert {entry["precision"]: entry["tolerance"] for entry in model["files"]} == TOLERANCE
    quantised = {entry["precision"]: entry["quantisation"] for entry in model["files"]}
    assert quantised["float32"] is None
    assert quantised["int8"]["num_calibration_samples"] == 128


def test_the_page_explains_every_field_of_a_file_and_of_the_manifest() -> None:
    schema = json.loads(SCHEMA.read_text())
    page = (Path(__file__).resolve().parents[2] / "docs" / "bundle.md").read_text()
    fields = {*schema["$defs"]["file"]["required"], *schema["required"]} - {"models"}
    assert [field for field in sorted(fields) if f"`{field}`" not in page] == []
