"""The table and the page of a profile, of invented figures. The browser's part needs a Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.deploy.profiling.records import FileProfile, OperatorProfile
from nas.device.card import Device, Peak
from nas.device.host import host_facts
from nas.device.protocol import Measurement
from nas.errors import UserError
from nas.report.profile_page import ProfilePage, StageNote, render_profile_page, write_profile_page
from nas.report.profile_table import profile_table

BROWSER = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "chrome"])), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"),
    *("--virtual-time-budget=4000", "--window-size=1300,1000", "--dump-dom"),
]
EVIL = "</script><script>document.title='owned'</script>"
CONV = OperatorProfile(
    kind="Conv",
    family="pointwise",
    computes=("Conv", "Relu"),
    stage="s0_conv",
    layer="s0_conv/conv",
    mapped="name",
    recorded_us=30.0,
    share=0.75,
    time_ms=0.3,
    in_shape=(1, 8, 4, 4),
    out_shape=(1, 16, 4, 4),
    dtype="float",
    activation_bytes=512,
    parameter_bytes=1000,
    output_bytes=1024,
    macs=2048,
)
REORDER = replace(
    CONV, kind="ReorderOutput", family="convert", computes=(), mapped="tensor", share=0.05, time_ms=0.02, macs=0
)
UNKNOWN = replace(
    CONV, kind="Attention", family="other", computes=("Attention",), stage="", layer="", mapped="none",
    share=0.2, time_ms=0.08, macs=None,
)  # fmt: skip


def invented(*operators: OperatorProfile, file: str = "a.onnx") -> FileProfile:
    latency = Measurement(
        file=Path(file), latency_ms=0.4, p50_ms=0.41, p90_ms=0.5, spread=0.01, blocks=20, blocks_timed=20, runs=200,
        anchor_ms=0.1, settled=True, note="", device="board", host=host_facts(),
    )  # fmt: skip
    return FileProfile(
        file=Path(file), device="board", threads=1, batch=1, latency=latency, profiled_ms=0.8, runs=50, gauge_us=2.0,
        operators=operators,
    )  # fmt: skip


PROFILE = invented(CONV, REORDER, UNKNOWN)
PAGE = ProfilePage(
    name=EVIL,
    device=Device(
        name="board",
        peaks={
            "float32": Peak(per_second=5e10, source=f"sheet {EVIL}"),
            "memory_bandwidth": Peak(per_second=1e10, source="sheet"),
        },
    ),
    profiles=[PROFILE, invented(replace(CONV, layer=EVIL), file="a.int8.onnx")],
    notes=[StageNote(stage="s0_conv", text="kernel 1", slot="stem")],
    precisions={"a.onnx": "float32", "a.int8.onnx": "int8"},
)


def test_rates_are_amounts_over_times() -> None:
    assert CONV.total_bytes == 2536
    assert CONV.bytes_per_second == pytest.approx(2536 / 0.3e-3)
    assert CONV.macs_per_second == pytest.approx(2048 / 0.3e-3)
    assert UNKNOWN.macs_per_second is None
    assert PROFILE.inflation == pytest.approx(2)
    assert PROFILE.mapped_share() == pytest.approx(0.8)
    assert PROFILE.mapped_share("name") == pytest.approx(0.75)


def test_stages_begin_with_work_and_not_with_conversions() -> None:
    early = replace(REORDER, stage="s9_classifier")
    late = replace(CONV, stage="s9_classifier")
    assert [part.name for part in invented(early, CONV, late).stages()] == ["s0_conv", "s9_classifier"]


@given(st.integers(60, 200))
def test_the_table_keeps_to_its_width_and_always_shows_time_and_share(width: int) -> None:
    long = replace(CONV, layer="s0_conv/" + "/".join(["a_long_name"] * 9))
    lines = profile_table(invented(long, REORDER, UNKNOWN), notes={"s0_conv": "x" * 90}, width=width).splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("stage"))
    assert max(map(len, lines[start:])) <= width
    assert {"us", "share"} <= set(lines[start].split())
    assert sum("75.0 %" in line for line in lines[start:]) == 1
    assert sum("80.0 %" in line for line in lines[start:]) == 1


def test_the_table_gives_both_totals_and_what_is_unknown() -> None:
    text = profile_table(PROFILE, notes={"s0_conv": "kernel 1, channels 16"}, width=140)
    assert "0.4 ms without profiler; 0.8 ms under it, 2.0 times as long" in text
    assert "80.0 % of the time to layers by name" in text
    assert re.search(r"s0_conv +kernel 1, channels 16 +320\.00 +80\.0 %", text)
    assert re.search(r"Conv\+Relu +8x4x4 > 16x4x4 +300\.00 +75\.0 % +2\.54 kB", text)
    assert re.search(r"\(not in the network\).*\n.*Attention.*\?", text)


def test_control_characters_do_not_reach_the_terminal() -> None:
    text = profile_table(invented(replace(CONV, layer="a\x1b[2J")), notes={"s0_conv": "b\n\x07"}, width=120)
    assert not set(text) & set("\x1b\x07")


def test_nothing_of_a_model_file_can_end_the_script_of_the_page() -> None:
    page = render_profile_page(PAGE)
    assert "<script>document.title" not in page
    assert page.count("</script>") == 2
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    payload = json.loads(page.split('id="payload">')[1].split("</script>")[0])
    assert payload["profiles"][1]["operators"][0]["layer"] == EVIL


def test_a_page_is_replaced_and_a_file_of_another_kind_is_not(tmp_path: Path) -> None:
    path = tmp_path / "profile.html"
    write_profile_page(PAGE, path)
    write_profile_page(replace(PAGE, name="again"), path)
    assert "<title>again · nas profile</title>" in path.read_text(encoding="utf-8")
    other = tmp_path / "thesis.html"
    other.write_text("years of work")
    with pytest.raises(UserError, match="must not be a file of another kind"):
        write_profile_page(PAGE, other)
    assert other.read_text() == "years of work"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["profile.html", "thesis.html"]


def shown(page: ProfilePage, folder: Path) -> str:
    path = folder / "profile.html"
    write_profile_page(page, path)
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'browser'}", path.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, encoding="utf-8")
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    return re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)


@pytest.mark.skipif(BROWSER is None, reason="no chromium on the path")
def test_the_page_is_drawn_without_a_word_on_the_console(tmp_path: Path) -> None:
    dom = shown(PAGE, tmp_path)
    assert "could not be drawn" not in dom
    assert "<title>&lt;/script&gt;" in dom
    assert len(re.findall(r'<rect class="block ', dom)) == 4
    assert len(re.findall(r'<line class="roof"', dom)) == 3
    assert dom.count('class="stage-text"') == 1
    assert "not in the network" in dom
    assert len(re.findall(r"<tr>", dom.split('<section id="operators"')[1].split("</section>")[0])) == 1 + 3


@pytest.mark.skipif(BROWSER is None, reason="no chromium on the path")
def test_a_file_without_macs_names_or_peaks_is_drawn(tmp_path: Path) -> None:
    bare = ProfilePage(name="bare", device=Device(name="board"), profiles=[invented(replace(UNKNOWN, share=1.0))])
    dom = shown(bare, tmp_path)
    assert "could not be drawn" not in dom
    assert "No operator with known multiply-accumulates." in dom
    assert "has no peak rates" in dom
