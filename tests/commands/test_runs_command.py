"""Runs listed, compared, merged and exported."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runs_example import KEY, ROWS, SPACE, evaluation, make_run

from nas.cli.runs import run_runs
from nas.errors import UserError
from nas.problem.front import non_dominated
from nas.problem.history import HistoryFile, read_history
from nas.problem.records import evaluation_to_record
from nas.report.comparison import compare_runs
from nas.report.comparison_page import comparison_page, comparison_payload
from nas.run.folder import RunFolder
from nas.run.identity import space_record
from nas.run.merge import ORIGIN, merge_runs
from nas.run.status import read_status

BROWSER = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "chrome"])), None)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    make_run(folder / "a", [evaluation(index, ROWS[index]) for index in range(4)])
    worse = [evaluation(index, ROWS[index], accuracy=0.45, minute=1) for index in range(3, 6)]
    make_run(folder / "b", [*worse, evaluation(6, ROWS[8], status="failed", minute=1)], finished=None)
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert run_runs([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_the_list_has_a_line_a_run_and_one_for_each_that_is_broken(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "empty").mkdir()
    (runs / "torn").mkdir()
    (runs / "torn" / "manifest.json").write_text('{"format": ')
    odd = make_run(runs / "odd", [], objectives=7, budgets="x", devices={"a": 1}, space=[], data=None, config=3)
    (odd / "history.jsonl").mkdir()
    (runs / ".hidden").mkdir()
    (runs / "file").write_text("")
    lines = said(capsys, runs).splitlines()
    assert lines[0].split() == ["run", "state", "candidates", "best", "hypervolume", "space", "data", "device", "when"]
    assert re.match(r"a +finished +4/9 +60\.0 % +0\.\d+ +small +digits +d +20", lines[1])
    assert re.match(r"b +unfinished +4/9 +45\.0 % ", lines[2])
    assert [line.split()[0] for line in lines[3:]] == ["odd", "empty", "torn"]
    assert lines[4] == "empty  broken: must be a run folder, but there is no manifest.json in it"
    assert lines[5].startswith("torn  broken: cannot be read: JSONDecodeError: ")
    records = [json.loads(line) for line in said(capsys, runs, "--json").splitlines()]
    assert [record["state"] for record in records] == ["finished", "unfinished", "broken", "finished", "broken"]


def test_the_hypervolume_of_the_list_is_that_of_the_searches_box(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs" / "a", [evaluation(0, (0, 0), accuracy=0.5, latency=0.2)])
    (record,) = map(json.loads, said(capsys, tmp_path / "runs", "--json").splitlines())
    assert record["hypervolume"] == pytest.approx(0.5 * (0.8 - 0.2) / 0.8)


def test_a_comparison_holds_all_runs_against_one_box(runs: Path) -> None:
    comparison = compare_runs([runs / "a", runs / "b"])
    box = 1.0 * 0.8
    steps_of_a = 0.5 * 0.7 + 0.05 * (0.8 - 0.2) + 0.05 * (0.8 - 0.3)  # rows (0,0), (0,1), (0,2); (1,0) is a copy
    assert comparison.volumes["a"] == pytest.approx(steps_of_a / box)
    assert comparison.volumes["b"] == pytest.approx(0.45 * (0.8 - 0.2) / box)
    assert all(math.isnan(volume) for volume in comparison.file_volumes.values())
    assert comparison.warnings == ()
    payload = comparison_payload(comparison)
    assert [run["failed"] for run in payload["runs"]] == [0, 1]
    points = payload["runs"][0]["candidates"]
    costs = np.column_stack([-np.array(points["figures"]["accuracy"]), points["figures"][KEY]])
    assert points["front"] == non_dominated(costs).tolist()


def test_what_is_not_like_for_like_is_refused_or_said(runs: Path) -> None:
    compared = runs / "a"
    elsewhere = make_run(runs / "c", [evaluation(0, ROWS[0])], data={"name": "photos", "digest": "d2"})
    with pytest.raises(UserError, match=r"must be runs on the same data, but a is on digits \(d1\) and c on photos"):
        compare_runs([compared, elsewhere])
    other = make_run(runs / "d", [evaluation(0, ROWS[0])], objectives=["accuracy", "latency_ms.e"])
    with pytest.raises(UserError, match="must be runs that share two objectives"):
        compare_runs([compared, other])
    space = {**space_record(SPACE), "name": "large", "digest": "s2"}
    odd = make_run(runs / "e", [evaluation(0, ROWS[0], epochs=5)], space=space, devices=[{"name": "d"}, {"name": "e"}])
    warnings = " ".join(compare_runs([compared, odd]).warnings)
    assert "different spaces" in warnings
    assert "different devices: a: d, e: d, e" in warnings
    assert "different numbers of epochs: a: 1, e: 5" in warnings
    for folders in ([compared], [compared, compared], [compared, runs / "none"], [compared] * 13):
        with pytest.raises(UserError):
            compare_runs(folders)


def test_exported_files_are_compared_as_measured(runs: Path) -> None:
    header = f"digest,precision,accuracy,{KEY},macs,accepted,reason,path\n"
    (runs / "a" / "front.csv").write_text(header + "01,float32,0.9,0.4,5,True,,x\n02,int8,0.99,0.1,5,False,broken,y\n")
    (runs / "b" / "front.csv").write_text(header + "03,float32,0.8,0.2,5,True,,x\n")
    comparison = compare_runs([runs / "a", runs / "b"])
    assert comparison.file_volumes == pytest.approx({"a": 0.9 * 0.5, "b": 0.8 * 0.75})
    labels = [run["files"]["label"] for run in comparison_payload(comparison)["runs"]]
    assert labels == [["01 float32"], ["03 float32"]]


def test_the_command_writes_a_page_that_carries_hostile_names_as_text(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = shutil.copytree(runs / "b", runs / "<b>&")
    text = said(capsys, "compare", runs / "a", hostile, f"out={tmp_path / 'page.html'}")
    assert re.search(r"^a +4 +0 +60\.0 % ", text, re.MULTILINE)
    page = (tmp_path / "page.html").read_text()
    assert "<b>&" not in page
    assert "http://" not in re.sub(r"http://www\.w3\.org/\S+", "", page)
    assert len(page) < 120_000
    assert "page " not in said(capsys, "compare", runs / "a", runs / "b", "out=null")


@pytest.mark.skipif(BROWSER is None, reason="no chromium on the path")
def test_the_page_is_drawn_without_a_word_on_the_console(runs: Path, tmp_path: Path) -> None:
    header = f"digest,precision,accuracy,{KEY},accepted\n"
    (runs / "a" / "front.csv").write_text(header + "01,float32,0.9,0.4,True\n02,int8,0.8,0.1,True\n")
    page = tmp_path / "page.html"
    page.write_text(comparison_page(compare_runs([runs / "a", runs / "b"])))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    done = subprocess.run(
        [str(BROWSER), *flags, "--virtual-time-budget=4000", "--window-size=1300,1000",
         f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    dom = re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)
    assert "could not be drawn" not in dom
    fronts, table = dom.split('<section id="runs"')[0], dom.split('<section id="runs"')[1]
    assert fronts.count('class="compared run0"') == 4 + 1  # three steps and a copy, and the key
    assert fronts.count('class="compared run1"') == 1 + 1
    assert table.count("<tr") >= 3
    assert '<path class="grown run1"' in table


def test_a_merge_takes_each_training_once_and_says_where_from(runs: Path) -> None:
    make_run(
        runs / "c",
        [
            evaluation(0, ROWS[0], minute=2),  # as in a
            evaluation(1, ROWS[1], minute=2, seed=7),  # another seed
            evaluation(2, ROWS[2], minute=2, epochs=3),  # another fidelity
            evaluation(3, ROWS[8], minute=2),  # failed in b
        ],
    )
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    merged = merge_runs([runs / "a", runs / "b", runs / "c"], runs / "all")
    assert merged.counts == {"a": 4, "b": 2, "c": 3}
    assert merged.repeated == 3  # a's ROWS[3] in b, a's ROWS[0] in c, b's failure in c
    history, note = read_history(runs / "all" / "history.jsonl")
    assert note == ""
    assert [one.candidate.index for one in history] == list(range(9))
    assert [one.finished for one in history] == sorted(one.finished for one in history)
    keys = {(one.candidate.architecture.digest, one.candidate.fidelity, one.candidate.seed) for one in history}
    assert len(keys) == 9
    assert all(one.status == "complete" for one in history)
    lines = [json.loads(line) for line in (runs / "all" / "history.jsonl").read_text().splitlines()]
    for line, one in zip(lines, history, strict=True):
        source, _ = read_history(runs / line[ORIGIN]["run"] / "history.jsonl")
        (original,) = (other for other in source if other.candidate.index == line[ORIGIN]["index"])
        assert {**evaluation_to_record(original), "index": one.candidate.index} == evaluation_to_record(one)
    assert {path: path.read_bytes() for path in before} == before


def test_a_merged_run_is_one_that_a_search_goes_on_with(runs: Path) -> None:
    merge_runs([runs / "a", runs / "b"], runs / "all")
    first = RunFolder(path=runs / "a").manifest()
    folder = RunFolder.resume(runs / "all", space=space_record(SPACE), data=dict(first["data"]))  # type: ignore[call-overload]
    manifest = folder.manifest()
    assert manifest["overrides"] == first["overrides"]
    assert (manifest["name"], manifest["finished"]) == ("all", None)
    assert manifest["screened"] == {"proposed": 20, "broken": {"latency <= 0.8 ms": 6}}
    assert [run["name"] for run in manifest["merged"]["runs"]] == ["a", "b"]  # type: ignore[index]
    assert read_status(folder.path).text == "merged from a, b; no search has gone on with it"
    history, _ = read_history(folder.history_file)
    HistoryFile(folder.history_file).append(evaluation(len(history), ROWS[7]))
    assert len(read_history(folder.history_file)[0]) == len(history) + 1


def test_runs_that_do_not_belong_together_are_not_merged(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_run(runs / "c", [], data={"name": "digits", "digest": "d2", "num_train": 8, "classes": ["a"]})
    with pytest.raises(UserError, match=r"same data, but from .*a to .*c: num_train: 9 became 8"):
        merge_runs([runs / "a", other], runs / "all")
    with pytest.raises(UserError, match="must be given at least two runs"):
        merge_runs([runs / "a", runs / "a"], runs / "all")
    with pytest.raises(UserError, match="exists"):
        merge_runs([runs / "a", runs / "b"], runs / "b")
    with pytest.raises(UserError):
        merge_runs([runs / "a", runs / "none"], runs / "all")
    assert not (runs / "all").exists()
    recipe = make_run(runs / "d", [evaluation(0, ROWS[5])], config={"recipe": {"epochs": 2}}, devices=[{"name": "e"}])
    text = said(capsys, "merge", runs / "a", recipe, f"out={runs / 'all'}")
    assert "the recipes of the runs differ" in text
    assert "the devices of the runs differ" in text
    assert "5 evaluations: 4 of a, 1 of d; 0 were repeated" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere"], ["a", "b"], ["--jsn"], ["compare", "out=x", "folder=y"], ["merge", "a", "b"], ["export"],
        ["export", "run=a"], ["export", "a", "b", "storage=sqlite://"], ["lst=1"],
    ],
)  # fmt: skip
def test_mistakes_are_one_line(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        run_runs(arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_is_misspelt_is_no_missing_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"named 'mrge'; did you mean merge\? Known: compare, export, list, merge"):
        run_runs(["mrge"])
    with pytest.raises(UserError, match="there is no runs/"):
        run_runs([])


def test_listing_imports_neither_torch_nor_ray(runs: Path) -> None:
    program = (
        "import sys; from nas.cli.runs import run_runs; run_runs(sys.argv[1:]);"
        "assert not {'torch', 'ray', 'hydra', 'optuna'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(runs)], check=True, stdout=subprocess.DEVNULL)
