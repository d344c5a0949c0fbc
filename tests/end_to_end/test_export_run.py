"""`nas export` of a finished search, as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from nas_command import Here, assert_one_clear_line

PLAIN = ("display=plain", "workers=1")


def test_a_run_becomes_a_bundle_that_holds(again: Here) -> None:
    done = again.nas("export", "run=runs/tiny", "licence.weights=MIT", "precisions=[float32]", *PLAIN)
    assert (done.code, done.err) == (0, "")
    bundle = Path("runs/tiny/tiny-bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    front = {line.split(",")[0] for line in Path("runs/tiny/front.csv").read_text().splitlines()[1:]}
    assert {model["digest"] for model in manifest["models"]} <= front
    assert manifest["origin"]["run"] == "tiny"
    assert manifest["commands"]["search"].startswith("nas search space=small.yaml")
    assert manifest["commands"]["export"] == (
        "nas export run=runs/tiny licence.weights=MIT 'precisions=[float32]' display=plain workers=1"
    )
    for model in manifest["models"]:
        measured = [entry["latencies"]["this-machine"]["measured"] for entry in model["files"]]
        assert all(one["latency_ms"] > 0 and one["host"] for one in measured)
    assert "ms on this-machine" in (bundle / "README.md").read_text()
    checked = again.nas("verify", f"{bundle}.zip", str(bundle))
    assert (checked.code, checked.err) == (0, "")
    assert checked.out.count("ok  ") == 2


def test_models_are_chosen_by_the_beginnings_of_their_digests(again: Here) -> None:
    digest = next(path.name for path in Path("runs/tiny/models").iterdir() if path.name[0] != ".")
    arguments = ("run=runs/tiny", "workers=0", "profile=false", "archive=false", "precisions=[float32]")
    done = again.nas("export", *arguments, f"models=['{digest[:8]}']", "out=here", "--json")
    assert (done.code, done.err) == (0, "")
    (result,) = [json.loads(line) for line in done.out.splitlines() if '"result"' in line]
    assert [file["model"] for file in result["files"]] == [digest]
    assert not Path("here.zip").exists()
    assert_one_clear_line(again.nas("export", *arguments, "models=[zz]"), "models", digest)


def test_a_target_that_is_missing_costs_its_own_files_and_the_exit_code_says_so(again: Here) -> None:
    quick = ("workers=0", "profile=false", "golden_only=true", "display=plain")
    done = again.nas("export", "run=runs/tiny", "targets=[onnxruntime,tensorrt]", "precisions=[float32,int4]", *quick)
    assert done.code == 1
    assert "tensorrt: no int4 file" in done.out
    manifest = json.loads(Path("runs/tiny/tiny-bundle/manifest.json").read_text())
    assert {entry["target"] for model in manifest["models"] for entry in model["files"]} == {"onnxruntime", "tensorrt"}
    assert {one["precision"] for one in manifest["missing"]} == {"int4"}


def test_data_that_is_not_the_runs_is_refused_and_nothing_is_written(again: Here) -> None:
    done = again.nas("export", "run=runs/tiny", "data=digits", "data.limit=500")
    assert_one_clear_line(done, "data", "was trained on", "golden_only=true")
    shutil.rmtree("runs/tiny/models")
    assert_one_clear_line(again.nas("export", "run=runs/tiny"), "run")
    assert not Path("runs/tiny/tiny-bundle").exists()
