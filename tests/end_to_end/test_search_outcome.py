"""What a search leaves: the contract of `docs/run-folder.md` and `docs/model-folder.md`, on a real run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from nas_command import CHECKOUT, Finished, Here, assert_one_clear_line

from nas.run.front import read_front_csv

DOCS = CHECKOUT / "docs"
CONTRACT = [
    "digest", "precision", "accuracy",
    "latency_ms.this-machine", "predicted_latency_ms.this-machine", "latency_upper_ms.this-machine",
    "macs", "parameters", "size_bytes", "peak_activation_bytes",
]  # fmt: skip
CHOICES = ["0.width", "body.depth", *(f"body.{i}.{name}" for i in range(3) for name in ("expansion", "kernel"))]


def manifest_of(folder: Path) -> dict[str, Any]:
    record = json.loads((folder / "manifest.json").read_text())
    assert isinstance(record, dict)
    return record


def documented_keys(section: str) -> set[str]:
    """The names in the first column of a table of `docs/run-folder.md`."""
    text = (DOCS / "run-folder.md").read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.fixture(scope="module")
def front(finished: Finished) -> pd.DataFrame:
    return read_front_csv(finished.run / "front.csv")


def test_the_run_folder_holds_what_the_contract_says_and_nothing_else(finished: Finished, front: pd.DataFrame) -> None:
    names = {path.name for path in finished.run.iterdir()}
    contract = {"manifest.json", "history.jsonl", "status.json", "logs", "front.csv", "report.html", "models"}
    assert names - {".lock"} == contract
    assert {path.name for path in (finished.run / "models").iterdir()} == set(front["digest"])
    for model in (finished.run / "models").iterdir():
        assert {path.name for path in model.iterdir()} == {
            "architecture.yaml", "weights.safetensors", "model.fp32.onnx", "model.int8.onnx", "golden.npz",
            "manifest.json",
        }  # fmt: skip
        assert len({path.stat().st_mode for path in model.iterdir()}) == 1  # whoever may read one may read all


def test_nothing_is_left_beside_the_run_folder_but_the_latency_model(finished: Finished) -> None:
    assert {path.name for path in finished.workplace.iterdir()} == {"small.yaml", "runs", "latency_models"}
    assert [path.name for path in (finished.workplace / "runs").iterdir()] == ["tiny"]


def test_the_manifest_has_the_keys_that_its_page_lists(finished: Finished) -> None:
    manifest = manifest_of(finished.run)
    documented = documented_keys("manifest.json")
    elsewhere = {"name", "digest", "size", "source", "choices", "merged"}  # in parts of it, or in merged runs only
    assert documented - elsewhere <= set(manifest) | {"format"}
    assert [key for key in manifest if key not in documented] == []
    assert manifest["finished"] is not None
    assert manifest["command"].startswith("nas search space=small.yaml data.limit=300 ")
    assert (manifest["seed"], manifest["space"]["size"], manifest["data"]["num_train"]) == (0, 3 * 84, 240)
    assert manifest["config"]["run"]["candidates"] == 4


def test_the_history_has_a_line_a_candidate_with_the_keys_that_its_page_lists(finished: Finished) -> None:
    records = [json.loads(line) for line in (finished.run / "history.jsonl").read_text().splitlines()]
    assert [record["index"] for record in records] == [0, 1, 2, 3]
    assert {record["status"] for record in records} == {"complete"}
    for record in records:
        elsewhere = {"complete", "failed", "timeout", "infeasible", "origin"}  # values, and a key of merged runs
        assert set(record) == documented_keys("history.jsonl") - elsewhere
        assert 0 <= record["metrics"]["accuracy"] <= 1
        assert record["upper"]["latency_ms.this-machine"] >= record["predicted"]["latency_ms.this-machine"] > 0


def test_the_front_has_the_columns_of_the_contract_one_a_choice_and_a_row_a_file(
    finished: Finished, front: pd.DataFrame
) -> None:
    assert list(front)[: len(CONTRACT)] == CONTRACT
    assert sorted(set(front) - set(CONTRACT)) == sorted(["non_dominated", "accepted", "reason", "path", *CHOICES])
    assert len(front) == 4
    assert set(front["precision"]) == {"float32", "int8"}
    figures = front[CONTRACT[2:]]
    assert not figures.isna().any().any()
    assert (figures.drop(columns="accuracy") > 0).all().all()
    assert front["accuracy"].is_monotonic_decreasing
    assert front["non_dominated"].any()
    for row in front.itertuples():
        file = finished.run / str(row.path)
        assert file.stat().st_size == row.size_bytes


def test_a_models_manifest_tells_what_each_file_is_worth(finished: Finished, front: pd.DataFrame) -> None:
    for digest, rows in front.groupby("digest"):
        record = manifest_of(finished.run / "models" / str(digest))
        assert record["labels"] == [str(number) for number in range(10)]
        assert record["input"]["shape"][1:] == [1, 8, 8]
        by_precision = rows.set_index("precision")
        assert len(record["files"]) == len(rows)
        for entry in record["files"]:
            row = by_precision.loc[entry["precision"]]
            assert (entry["accuracy"], entry["num_test_samples"]) == (row["accuracy"], 30)
            assert entry["verification"] == "executed"
            assert entry["runtime"] == "onnxruntime"
            assert 0 <= entry["agreement"] <= 1
            latency = entry["latencies"]["this-machine"]
            assert latency["measured"]["latency_ms"] == row["latency_ms.this-machine"]
            assert latency["measured"]["spread"] >= 0
            assert latency["measured"]["host"]["cpu"]
            assert latency["predicted_ms"] == row["predicted_latency_ms.this-machine"]


def test_a_model_folder_runs_with_onnxruntime_and_numpy_alone(finished: Finished) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (DOCS / "model-folder.md").read_text(), re.DOTALL)
    folder = next((finished.run / "models").iterdir())
    command = [sys.executable, "-I", "-c", snippet]
    shown = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["model.fp32.onnx", "model.int8.onnx"]


def test_the_report_needs_no_other_file_and_tells_of_every_model(finished: Finished, front: pd.DataFrame) -> None:
    page = (finished.run / "report.html").read_text()
    for digest in front["digest"]:
        assert digest in page
    assert re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=", page) == []
    assert re.findall(r"<link[^>]*\shref=", page) == []
    assert re.findall(r"@import|url\(\s*['\"]?(?!data:|#)", page) == []
    assert [url for url in re.findall(r"https?://[\w./-]+", page) if "www.w3.org/" not in url] == []


def test_the_steps_are_told_in_plain_lines_without_control_characters(finished: Finished) -> None:
    lines = finished.outcome.out.splitlines()
    assert [character for character in finished.outcome.out if not character.isprintable() and character != "\n"] == []
    topics = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    wanted = ["space", "data", "device", "latency", "range", "plan", "runner", "search", "finish", "measure", "report"]
    assert [topic for topic in wanted if topic not in topics] == []
    assert [topics.index(topic) for topic in wanted[:9]] == sorted(topics.index(topic) for topic in wanted[:9])
    quality = r"latency +float32 \(searched\): Spearman [-\d.]+, MAPE [\d.]+ %, .* within 10 %, .* bound held"
    assert any(re.match(quality, line) for line in lines)
    told = [line for line in lines if line.startswith("search")]
    assert len(told) == 4
    assert all(re.match(r"search +\d/4  failed 0 .*\[\w{6} [\d.]+ %, [\d.]+ ms\]", line) for line in told)
    assert any("1 worker:" in line for line in lines if line.startswith("plan"))


def test_the_front_is_printed_as_a_table_with_the_paths(finished: Finished, front: pd.DataFrame) -> None:
    out = finished.outcome.out
    for row in front.itertuples():
        cells = [str(row.digest)[:6], str(row.precision), f"{100 * float(str(row.accuracy)):.1f} %"]
        assert re.search("^[* ] +" + " +".join(cells), out, re.MULTILINE)
    assert "report   runs/tiny/report.html\n" in out
    assert "runs/tiny/front.csv\n" in out
    assert out.endswith("next     nas search run.resume=runs/tiny run.candidates=8\n")


def test_verify_accepts_a_run_and_names_a_file_of_which_a_byte_was_changed(again: Here) -> None:
    sound = again.nas("verify", "runs/tiny")
    assert (sound.code, sound.err) == (0, "")
    assert [line.split()[0] for line in sound.out.splitlines()] == ["ok", "ok"]
    file = sorted(again.folder.glob("runs/tiny/models/*/model.int8.onnx"))[0]
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 1
    file.write_bytes(changed)
    told = file.relative_to(again.folder)
    assert_one_clear_line(again.nas("verify", "runs/tiny"), f"{told}: was changed", "copy the folder again")
