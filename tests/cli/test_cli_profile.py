"""`nas profile` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import nas
from nas.cli.main import main
from nas.commands import profile as command
from nas.deploy.architecture_file import architecture_text
from nas.deploy.export import export_onnx
from nas.deploy.profiling import profile as profiling
from nas.deploy.quantise import quantise
from nas.device.protocol import TimingProtocol
from nas.device.timing import measure
from nas.model.build import build
from nas.space import SearchSpace

CHECKOUT = Path(nas.__file__).resolve().parent.parent
SHAPE = (1, 8, 8)
BLOCK = {"op": "inverted_residual", "expansion": 2, "kernel": {"choose": [3, 5]}}
SPACE: dict[str, Any] = {
    "name": "small",
    "network": [
        {"op": "conv", "channels": {"choose": [4, 8], "name": "width"}},
        {"repeat": {"name": "body", "times": {"choose": [1, 2], "name": "depth"}, "block": BLOCK}},
        {"op": "classifier"},
    ],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a profile reads of a model folder: files, architecture, manifest; and the space beside it."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "search_spaces").mkdir()
    (folder / "search_spaces" / "small.yaml").write_text(yaml.safe_dump(SPACE))
    space = SearchSpace.from_template(SPACE)
    row = space.row({"0.width": 8, "body.depth": 1, "body.0.kernel": 5})
    network = space.network(row)
    target = folder / "runs" / "r" / "models" / network.digest
    target.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        export_onnx(build(network, input_shape=SHAPE, num_classes=10).eval(), SHAPE, target / "model.fp32.onnx")
    images = np.zeros((4, *SHAPE), dtype=np.float32)
    quantise(target / "model.fp32.onnx", target / "model.int8.onnx", images, activations="unsigned")
    architecture = space.architecture(row)
    text = architecture_text(network, architecture, data_shape=SHAPE, num_classes=10)
    (target / "architecture.yaml").write_text(text)
    manifest = {
        "format": 1,
        "digest": network.digest,
        "space": {"name": "small", "digest": space.digest},
        "choices": dict(architecture.choices),
        "files": [
            {"path": "model.fp32.onnx", "precision": "float32"},
            {"path": "model.int8.onnx", "precision": "int8"},
        ],
    }
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target


@pytest.fixture(autouse=True)
def _quickly_in_the_workplace(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times with few blocks: these tests are not about how exact a latency is."""
    quick = TimingProtocol(blocks=2, runs=5, max_wait_s=0.2, min_round_s=0.0)

    def measure_quickly(files: list[Path], **more: object) -> object:
        return partial(measure, files)(**{**more, "protocol": quick})  # type: ignore[arg-type]

    monkeypatch.setattr(profiling, "measure", measure_quickly)
    monkeypatch.chdir(model.parents[3])


def test_a_file_gives_a_table_and_a_page(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # narrower, columns are left out
    page = tmp_path / "p.html"
    assert main(["profile", str(model / "model.fp32.onnx"), f"out={page}"]) == 0
    out = capsys.readouterr().out
    for text in ("without profiler", "s1_inverted_residual", "expansion 2, kernel 5", "GMAC/s", "100.0 % of the time"):
        assert text in out
    assert "s2_classifier" in page.read_text(encoding="utf-8")


def test_a_model_folder_is_profiled_in_all_precisions(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(model), "--json", f"out={tmp_path / 'p.html'}"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    results = [event for event in events if event["event"] == "result"]
    assert [result["precision"] for result in results] == ["float32", "int8"]
    assert [stage["name"] for stage in results[0]["stages"]] == ["s0_conv", "s1_inverted_residual", "s2_classifier"]
    assert results[0]["macs"] == results[1]["macs"] > 0
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    payload = json.loads(page.split('id="payload">')[1].split("</script>")[0])
    assert payload["notes"]["s0_conv"]["slot"] == "network[0]"
    assert payload["notes"]["s1_inverted_residual"]["slot"] == "body.0"
    assert [one["precision"] for one in payload["profiles"]] == ["float32", "int8"]


def test_a_precision_chooses_the_file_and_null_leaves_the_page_out(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["profile", str(model), "precision=int8", "out=null"]) == 0
    out = capsys.readouterr().out
    assert "model.int8.onnx on this-machine" in out
    assert "model.fp32.onnx" not in out
    assert list(tmp_path.iterdir()) == []


def test_the_page_stands_here_unless_told_otherwise(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["profile", str(model / "model.fp32.onnx"), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / command.PAGE).is_file()


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        ([], ["must be given one file or model folder, got nothing"]),
        (["a.onnx", "b.onnx"], ["got a.onnx, b.onnx"]),
        (["missing.onnx"], ["missing.onnx: must be an ONNX file, there is none"]),
        (["search_spaces/small.yaml"], ["must be an ONNX file, it is none"]),
        (["search_spaces"], ["must be an ONNX file or a model folder"]),
        (["runs/r"], ["it is a run folder; give one of its 1 models, e.g. runs/r/models/"]),
        (["MODEL", "device=pixel-99"], ["no device named 'pixel-99'", "this-machine"]),
        (["MODEL", "precision=int4"], ["no file of precision named 'int4'", "float32, int8"]),
        (["MODEL/model.fp32.onnx", "precision=int8"], ["must be left out for a file"]),
        (["MODEL", "devise=x"], ["no field named 'devise'; did you mean device?"]),
        (["MODEL", "--jason"], ["no option named '--jason'; did you mean --json?"]),
        (["MODEL", "device="], ["device: must have a value"]),
        (["MODEL", "out=nowhere/p.html"], ["must be in a folder that is there"]),
        (["MODEL", "out=runs"], ["must be a file, got the folder runs"]),
        (["MODEL", "out=MODEL/model.fp32.onnx"], ["must end in .html"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_clear_line(
    model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], texts: list[str]
) -> None:
    given = [argument.replace("MODEL", str(model)) for argument in arguments]
    assert main(["profile", *given]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    for text in texts:
        assert text in captured.err
    assert captured.out == ""


def test_a_device_elsewhere_is_refused_before_anything_is_timed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = tmp_path / "latency_models" / "board" / "device.yaml"
    card.parent.mkdir(parents=True)
    card.write_text("name: board\nwhere: {kind: ssh, host: board.lan}\n")
    monkeypatch.chdir(tmp_path)
    assert main(["profile", str(model), "device=board"]) == 2
    err = capsys.readouterr().err
    assert "must be this machine to profile operators, board is elsewhere" in err
    assert err.count("\n") == 1


def test_a_changed_space_leaves_the_slots_out(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "search_spaces").mkdir()
    changed = {**SPACE, "network": [*SPACE["network"][:1], *SPACE["network"][2:]]}
    (tmp_path / "search_spaces" / "small.yaml").write_text(yaml.safe_dump(changed))
    monkeypatch.chdir(tmp_path)
    assert main(["profile", str(model), "precision=float32", "--quiet"]) == 0
    payload = (tmp_path / "profile.html").read_text(encoding="utf-8")
    notes = json.loads(payload.split('id="payload">')[1].split("</script>")[0])["notes"]
    assert {note["slot"] for note in notes.values()} == {""}
    assert notes["s1_inverted_residual"]["text"] == "expansion 2, kernel 5"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from nas.cli.main import main; code = main(['profile', '--help']); "
        "assert not {'torch', 'onnx', 'onnxruntime', 'rich', 'pandas'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "precision=int8" in done.stdout
