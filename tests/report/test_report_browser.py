"""The page as a browser shows it. Skipped where there is no Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from run_folder_example import KEY

from nas.report.intervals import wilson
from nas.report.payload import build_payload
from nas.report.records import read_run
from nas.report.write import SCRIPTS, write_report
from nas.units import Dimension, format_quantity

BROWSER = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "chrome"])), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on the path")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"),
    *("--virtual-time-budget=4000", "--window-size=1300,1000", "--dump-dom"),
]


def shown(path: Path, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """The document after its scripts ran, without them, and what they wrote to the console."""
    command = [str(BROWSER), *FLAGS, *flags, f"--user-data-dir={profile}", path.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, encoding="utf-8")
    document = re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)
    return document, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def section(dom: str, name: str) -> str:
    return dom.split(f'<section id="{name}"')[1].split("</section>")[0]


def test_the_page_is_drawn_without_a_word_on_the_console(run_folder: Path, tmp_path: Path) -> None:
    dom, console = shown(run_folder / "report.html", tmp_path / "profile")
    assert console == []
    assert "could not be drawn" not in dom
    assert "<title>invented &amp; &lt;run&gt; · nas report</title>" in dom
    for name in ("front", "latency", "history", "audit"):
        assert '<svg viewBox="0 0 ' in section(dom, name), name
    assert "<img" not in dom
    assert "&lt;/script&gt;&lt;script&gt;document.title='owned'" in section(dom, "about")
    assert "数字三" in section(dom, "about")
    assert section(dom, "models").count('<tr class="model') == len(build_payload(read_run(run_folder))["files"])


def test_one_device_has_no_section_of_devices(run_folder: Path, tmp_path: Path) -> None:
    dom, _ = shown(run_folder / "report.html", tmp_path / "profile")
    assert 'id="devices"' not in dom
    assert 'href="#devices"' not in dom


def test_several_devices_have_a_front_each_and_a_row_a_file(devices_folder: Path, tmp_path: Path) -> None:
    dom, console = shown(devices_folder / "report.html", tmp_path / "profile")
    assert console == []
    assert "could not be drawn" not in dom
    payload = build_payload(read_run(devices_folder))
    part = section(dom, "devices")
    assert part.count('<svg viewBox="0 0 ') == len(payload["devices"]) == 3
    assert part.count("<tbody><tr") == 1
    table = part.split("<tbody>")[1].split("</tbody>")[0]
    assert table.count("<tr") == len(payload["files"])
    kept = sum(row["on"][device["name"]]["keeps"] for row in payload["serving"] for device in payload["devices"])
    served = sum(row["all"] for row in payload["serving"])
    assert table.count("✓") == kept + served
    assert '<span class="tag">estimated</span>' in part
    assert "never measured" in section(dom, "ship")


def test_each_worker_has_a_lane_with_what_it_did_when(devices_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(devices_folder, folder)
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [
        record | {"worker": f"<b>{place % 3}</b>:1", "finished": f"2026-01-01T01:{place % 60:02d}:30Z", "seconds": 20}
        for place, record in enumerate(records[:60])
    ]
    lost = sum(line["status"] not in ("complete", "stopped") for line in lines)
    assert 0 < lost < 60
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    lanes = build_payload(read_run(folder))["workers"]["lanes"]
    assert [lane["worker"] for lane in lanes] == ["<b>0</b>:1", "<b>1</b>:1", "<b>2</b>:1"]
    assert [lane["share"] for lane in lanes] == pytest.approx([20 * 20 / (19 * 180 + 20)] * 3)
    dom, console = shown(write_report(folder), tmp_path / "profile")
    assert console == []
    part = section(dom, "history")
    assert part.count('class="work"') == 60 + 1  # and the legend
    assert part.count('class="work lost"') == lost + 1
    assert "minutes since the first candidate began" in part
    assert "&lt;b&gt;2&lt;/b&gt;:1" in part


@pytest.mark.parametrize("width", [420, 760, 1400])
def test_no_part_is_wider_than_the_window(devices_folder: Path, tmp_path: Path, width: int) -> None:
    text = (devices_folder / "report.html").read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    probe = "document.body.dataset.wide = [innerWidth, document.documentElement.scrollWidth].join(' ');"
    (tmp_path / "page.html").write_text(text.replace("</body>", f"<script>{probe}</script></body>"), encoding="utf-8")
    dom, _ = shown(tmp_path / "page.html", tmp_path / "profile", f"--window-size={width},900")
    found = re.search(r'data-wide="(\d+) (\d+)"', dom)
    assert found
    assert int(found.group(1)) == pytest.approx(width, abs=100)
    assert int(found.group(2)) <= int(found.group(1))


def test_the_audit_puts_its_questions_or_says_why_not(devices_folder: Path, tmp_path: Path) -> None:
    dom, _ = shown(devices_folder / "report.html", tmp_path / "profile")
    part = section(dom, "audit")
    for text in ("rank like the final one", "gain over chance", "cost the milliseconds", "nearest cheaper", "relaxing"):
        assert text in part, text
    assert "After 64 trainings each" in part
    folder = tmp_path / "run"
    shutil.copytree(devices_folder, folder)
    (folder / "baseline.jsonl").unlink()
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()[:2]
    (folder / "history.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    dom, console = shown(write_report(folder), tmp_path / "profile2")
    assert console == []
    part = section(dom, "audit")
    assert "run.random_baseline=2" in part
    assert "no rank correlation can be given" in part
    assert "The data cannot tell" in part


@pytest.mark.parametrize(
    "left",
    [
        ["history.jsonl"],
        ["history.jsonl", "manifest.json"],
        ["front.csv"],
        ["front.csv", "models", "manifest.json"],
        [],
    ],
    ids=lambda names: "+".join(names) or "empty history",
)
def test_what_an_interrupted_run_left_is_drawn(run_folder: Path, tmp_path: Path, left: list[str]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in left:
        copy = shutil.copytree if (run_folder / name).is_dir() else shutil.copy
        copy(run_folder / name, folder / name)
    (folder / "history.jsonl").touch()
    dom, console = shown(write_report(folder), tmp_path / "profile")
    assert console == []
    assert "could not be drawn" not in dom
    assert "<h1>run</h1>" in dom


def test_a_manifest_of_odd_values_is_drawn(run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    odd = [None, 3, "text", [1, None], {"a": None, "b": {"c": []}}]
    values = {key: odd[place % len(odd)] for place, key in enumerate(manifest)}
    (folder / "manifest.json").write_text(json.dumps(values), encoding="utf-8")
    dom, console = shown(write_report(folder), tmp_path / "profile")
    assert console == []
    assert "could not be drawn" not in dom


# Each part runs in the page's own scope, in this order, and gives a value that JSON can carry.
PROBES = {
    "figures": "CASES.map((item) => formatQuantity(...item))",
    "told_apart": "PAIRS.flatMap(([a, b]) => [toldApart(a, b), toldApart(b, a)])",
    "sorted": """(() => {
      const rows = () => [...document.querySelectorAll("#models tr.model")];
      const column = () => rows().map((row) => parseFloat(row.children[4].textContent));
      const heads = [...document.querySelectorAll("#models th button")];
      const press = () => heads.find((head) => head.textContent === "measured").click();
      press();
      const up = column();
      press();
      return [up, column()];
    })()""",
    "walked": """(() => {
      const plot = document.querySelector("#front svg.plot");
      plot.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
      const first = document.querySelector("#card strong").textContent;
      const hidden = document.getElementById("card").hidden;
      plot.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
      const open = document.querySelectorAll("#models tr.more:not([hidden])").length;
      return [first, hidden, document.querySelector("#models tr.chosen code").textContent, open];
    })()""",
    "pointed": """(() => {
      const plot = document.querySelector("#front svg.plot");
      const box = plot.querySelectorAll("path.file")[2].getBoundingClientRect();
      const place = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 };
      plot.dispatchEvent(new PointerEvent("pointermove", place));
      const shown = document.querySelector("#card strong").textContent;
      plot.dispatchEvent(new PointerEvent("pointerleave"));
      return [shown, document.getElementById("card").hidden];
    })()""",
    "typed": """(() => {
      const field = document.querySelector("input.quantity");
      const hint = field.closest(".limit").querySelector(".hint");
      return ["110 us", "0.3 MB", "0.3", "", "-1 ms", "1e-1 ms"].map((text) => {
        field.value = text;
        field.dispatchEvent(new Event("change"));
        return [store.state.limits[payload.latency], hint.textContent];
      });
    })()""",
    "picked": """LIMITS.map(([limit, size]) => {
      store.set({ limits: { [payload.latency]: limit, size_bytes: size } });
      return document.querySelector(".ship-card h3").textContent;
    })""",
}
# The interval of 56/70 - 48/80 is published as (0.0524, 0.3339), that of 5/56 - 0/29 as (-0.0381, 0.1926), in
# Newcombe, Interval estimation for the difference between independent proportions, 1998, table II, method 10.
PAIRS = [((56, 70), (48, 80), True), ((9, 10), (3, 10), True), ((5, 56), (0, 29), False), ((1, 2), (1, 2), False)]
LIMITS = [(limit, size) for limit in (0.01, 0.06, 0.08, 0.11, 0.145, 0.2, 0.3, 1.0) for size in (None, 30e3, 100e3)]


def figure_cases() -> list[tuple[float, Dimension]]:
    rng = np.random.default_rng(0)
    values = [0.0, 1.0, 0.125, 2.25, 212.5, 213.5, 212500.0, 999.4, 999.5, 9999.0, 1e4, 1e15, 1.25e17, 0.001, 0.0009]
    values += (10 ** rng.uniform(-6, 16, 1500)).tolist()
    values += [float(f"{value:.4g}") for value in 10 ** rng.uniform(-3, 9, 1500)]
    dimensions: list[Dimension] = ["time", "bytes", "energy", "count", "share"]
    return [(value, dimension) for value in values for dimension in dimensions]


@pytest.fixture(scope="module")
def probed(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the probes gave, in a copy of the report without its policy, which would forbid them."""
    judged = [[{"accuracy": w / n, "interval": wilson(w / n, n)} for w, n in pair[:2]] for pair in PAIRS]
    values = {"CASES": figure_cases(), "PAIRS": judged, "LIMITS": LIMITS}
    script = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    script += "const answers = {};\n" + "".join(f"answers.{name} = {code};\n" for name, code in PROBES.items())
    script += 'document.body.append(h("pre", { id: "answers" }, encodeURIComponent(JSON.stringify(answers))));'
    text = (run_folder / "report.html").read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    head, end, tail = text.rpartition("})();\n</script>")
    assert end
    folder = tmp_path_factory.mktemp("probed")
    (folder / "page.html").write_text(f"{head}{script}\n}})();\n</script>{tail}", encoding="utf-8")
    dom, console = shown(folder / "page.html", folder / "profile")
    assert console == []
    found = re.search(r'<pre id="answers">([^<]*)</pre>', dom)
    assert found, "the probes did not come to their end"
    answers = json.loads(unquote(found.group(1)))
    assert isinstance(answers, dict)
    return answers


@pytest.fixture(scope="module")
def exported(run_folder: Path) -> list[dict[str, Any]]:
    entries = build_payload(read_run(run_folder))["files"]
    assert isinstance(entries, list)
    return entries


def test_figures_are_written_as_python_writes_them(probed: dict[str, Any]) -> None:
    cases = figure_cases()
    assert len(probed["figures"]) == len(cases)
    written = zip(cases, probed["figures"], strict=True)
    assert {case: text for case, text in written if text != format_quantity(*case)} == {}


def test_two_accuracies_are_told_apart_by_the_hybrid_score_interval(probed: dict[str, Any]) -> None:
    assert probed["told_apart"] == [pair[2] for pair in PAIRS for _ in range(2)]


def test_a_heading_sorts_up_then_down(probed: dict[str, Any]) -> None:
    up, down = probed["sorted"]
    assert up == sorted(up)
    assert down == up[::-1]
    assert len(set(up)) > 4


def test_arrow_keys_walk_along_the_files_and_enter_opens_the_row(
    probed: dict[str, Any], exported: list[dict[str, Any]]
) -> None:
    fastest = min(exported, key=lambda file: file["costs"][KEY])
    digest = fastest["digest"][:6]
    assert probed["walked"] == [f"{digest} {fastest['precision']}", False, digest, 1]


def test_the_pointer_shows_the_card_of_the_file_below_it(
    probed: dict[str, Any], exported: list[dict[str, Any]]
) -> None:
    assert probed["pointed"] == [f"{exported[2]['digest'][:6]} {exported[2]['precision']}", True]


def test_what_a_person_types_as_a_limit_is_read_with_its_unit_or_refused(probed: dict[str, Any]) -> None:
    limits = [limit for limit, _ in probed["typed"]]
    hints = [hint for _, hint in probed["typed"]]
    assert limits == [pytest.approx(0.11), pytest.approx(0.11), pytest.approx(0.11), None, None, pytest.approx(0.1)]
    assert "MB does not fit" in hints[1]
    assert "the unit is missing" in hints[2]
    assert hints[4]
    assert [hints[0], hints[3], hints[5]] == ["", "", ""]


def test_the_picker_gives_the_most_accurate_file_within_any_limits(
    probed: dict[str, Any], exported: list[dict[str, Any]]
) -> None:
    expected = []
    for limit, size in LIMITS:
        fitting = [f for f in exported if f["costs"][KEY] <= limit and f["costs"]["size_bytes"] <= (size or np.inf)]
        best = max(fitting, key=lambda file: (file["accuracy"], -file["costs"][KEY]), default=None)
        expected.append(f"{best['digest'][:6]} {best['precision']}" if best else "No exported file keeps these limits")
    assert probed["picked"] == expected
    assert len(set(expected)) > 4


def test_scripts_parse_one_by_one() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on the path")
    for name in SCRIPTS:
        path = Path(str(files("nas.report") / "assets" / name))
        done = subprocess.run([node, "--check", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
