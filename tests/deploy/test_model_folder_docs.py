from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from nas.deploy.manifest import SCHEMA
from nas.deploy.records import ExportedModel

PAGE = Path(__file__).resolve().parents[2] / "docs" / "model-folder.md"


def test_the_snippet_of_the_page_runs_as_it_stands_with_onnxruntime_and_numpy_only(exported: ExportedModel) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert set(re.findall(r"^import (\w+)", snippet, re.MULTILINE)) == {"json", "numpy", "onnxruntime"}
    command = [sys.executable, "-I", "-c", snippet]
    shown = subprocess.run(command, cwd=exported.folder, capture_output=True, text=True, check=True)
    lines = shown.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["model.fp32.onnx", "model.int8.onnx"]
    assert all(line.endswith("off by 0.00%") for line in lines)  # the machine that exported


def test_the_snippet_finds_a_file_that_answers_otherwise(exported: ExportedModel, tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    folder = shutil.copytree(exported.folder, tmp_path / "copy")
    shutil.copy(folder / "model.int8.onnx", folder / "model.fp32.onnx")
    shown = subprocess.run([sys.executable, "-I", "-c", snippet], cwd=folder, capture_output=True, text=True)
    assert shown.returncode != 0
    assert "AssertionError: ('model.fp32.onnx'" in shown.stderr


def test_the_page_explains_every_field_of_a_file() -> None:
    fields = json.loads(SCHEMA.read_text())["$defs"]["exported_file"]["required"]
    page = PAGE.read_text()
    assert [field for field in fields if f"`{field}`" not in page] == []
