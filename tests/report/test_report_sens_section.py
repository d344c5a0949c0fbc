from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_folder_example import HOSTILE

from nas.report.files import file_entries
from nas.report.write import write_report

BROWSER = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "chrome"])), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"),
    *("--virtual-time-budget=4000", "--window-size=1300,1000", "--dump-dom"),
]
Shown = Callable[[Path], str]


def record(number: int, sqnr_db: float | None, precision: str = "int8") -> dict[str, Any]:
    figures = {"op_type": "Conv", "precision": precision, "num_weights": 100, "sqnr_db": sqnr_db, "alone": None}
    return {"operator": f"/s{number}/conv/Conv", **figures}


def with_records(folder: Path, target: Path, records: object) -> Path:
    """A copy of a run whose INT8 files have these sensitivities."""
    shutil.copytree(folder, target)
    for path in (target / "models").glob("*/manifest.json"):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for entry in manifest["files"]:
            if entry["precision"] == "int8":
                entry["quantisation"] = {"sensitivities": records, "reverted": ["/s9/conv/Conv"]}
        path.write_text(json.dumps(manifest), encoding="utf-8")
    return target


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    """The document after its scripts ran, without them; nothing may be said on the console."""
    if BROWSER is None:
        pytest.skip("no chromium on the path")

    def dom(path: Path) -> str:
        command = [str(BROWSER), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", path.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, encoding="utf-8")
        assert "CONSOLE" not in done.stderr
        return re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)

    return dom


def test_a_files_entry_has_the_records_of_its_manifest() -> None:
    row = {"digest": "a", "precision": "int8", "path": "models/a/model.int8.onnx"}
    entry = {"path": "model.int8.onnx", "quantisation": {"sensitivities": [record(1, 12.5)], "reverted": ["/x"]}}
    (made,) = file_entries([row], {"a": {"files": [entry]}}, num_test=10)
    kept = {key: value for key, value in record(1, 12.5).items() if key != "alone"}
    assert (made["sensitivities"], made["reverted"]) == ([kept], ["/x"])


@pytest.mark.parametrize("odd", [None, 7, "text", [None, 3, "x"], {"a": 1}, [record(1, None)] * 500], ids=type)
def test_odd_records_still_give_a_report(run_folder: Path, tmp_path: Path, odd: object) -> None:
    page = write_report(with_records(run_folder, tmp_path / "run", odd)).read_text(encoding="utf-8")
    payload = json.loads(re.findall(r'id="payload">(.*?)</script>', page)[0])
    assert max(len(file["sensitivities"]) for file in payload["files"]) <= 64


def test_a_run_without_records_has_no_section(run_folder: Path, shown: Shown) -> None:
    dom = shown(run_folder / "report.html")
    assert 'id="sensitivity"' not in dom
    assert "#sensitivity" not in dom
    assert 'id="models"' in dom


def test_bars_are_as_long_as_the_decibels_of_the_most_accurate_file(
    run_folder: Path, tmp_path: Path, shown: Shown
) -> None:
    hostile = {**record(3, None), "operator": HOSTILE}
    records = [record(1, 10.0), record(2, 40.0, "int4"), hostile, *(record(number, 50.0) for number in range(4, 40))]
    folder = with_records(run_folder, tmp_path / "run", records)
    dom = shown(write_report(folder))
    part = dom.split('<section id="sensitivity"')[1].split("</section>")[0]
    first, second, silent = (float(width) for width in re.findall(r'class="bits"[^>]* width="([\d.]+)"', part)[:3])
    assert second == pytest.approx(4 * first, rel=0.01)
    assert silent > second
    assert part.count('class="bits"') == 24
    assert part.count("<tr>") == 1 + len(records)  # of the table: a heading and every operator
    assert "1 of 39 operators has less than 20 dB" in part
    assert "/s9/conv/Conv" in part
    options = re.findall(r"<option[^>]*>([^<]*)</option>", part)
    shares = [float(re.findall(r"([\d.]+)(?:\s|&nbsp;)%", option)[0]) for option in options]
    assert len(options) > 2
    assert shares == sorted(shares, reverse=True)
    assert "<img" not in part
