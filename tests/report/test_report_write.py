from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import time
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folder_example import HOSTILE, write_run_folder

from nas.report import comparison_page, profile_page
from nas.report.page import json_for_script
from nas.report.payload import build_payload
from nas.report.records import read_run
from nas.report.write import SCRIPTS, STYLES, render_page, write_report

SECTIONS = ["ship", "front", "models", "devices", "latency", "history", "audit", "space", "about", "notes"]
MANIFEST_KEYS = [
    *("format", "created", "finished", "command", "config", "overrides", "seed", "versions", "commit", "host", "space"),
    *("data", "objectives", "budgets", "devices", "latency_models", "forecast", "screened", "timings", "notes"),
]


class Page(HTMLParser):
    """Tags, ids, and the text of each script and style of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": [], "pre": []}
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag in self.raw:
            self._open = tag
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.raw[self._open][-1] += data


@pytest.fixture(scope="module")
def page(run_folder: Path) -> Page:
    return Page((run_folder / "report.html").read_text(encoding="utf-8"))


def test_all_sections_are_there_once(page: Page) -> None:
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    loading = {"src", "href", "srcset", "data", "action", "poster", "background", "formaction", "xlink:href"}
    loads = [(tag, value) for tag, name, value in page.attributes if name in loading]
    assert [value for _, value in loads if not (value or "").startswith("#")] == []
    assert not {"link", "iframe", "object", "embed", "img", "base"} & set(page.tags)
    assert not re.search(r"@import|url\(", "".join(page.raw["style"]))
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg\")", page.raw["script"][1])


def test_the_policy_admits_the_own_script_and_style_by_hash_and_nothing_else(page: Page) -> None:
    def source(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    (policy,) = [value for tag, name, value in page.attributes if name == "content" and "default-src" in (value or "")]
    _, script = page.raw["script"]
    assert policy == f"default-src 'none'; style-src {source(page.raw['style'][0])}; script-src {source(script)}"


def test_the_payload_is_json_with_the_runs_strings_unchanged(page: Page, run_folder: Path) -> None:
    payload = json.loads(page.raw["script"][0])
    assert payload == build_payload(read_run(run_folder))
    assert HOSTILE in payload["about"]["data"]["classes"]
    assert "a\u2028b" in payload["about"]["data"]["classes"]


def test_hostile_strings_add_no_element(page: Page) -> None:
    assert page.tags.count("script") == 2
    assert not {"img", "b"} & set(page.tags)


def test_the_table_stands_there_for_readers_without_scripts(page: Page, run_folder: Path) -> None:
    assert "95 % bound" in page.raw["pre"][0]
    assert "models/" in page.raw["pre"][0]


@given(st.text())
def test_json_in_a_script_reads_back_and_cannot_end_it(text: str) -> None:
    carried = json_for_script({"text": text})
    assert not set(carried) & set("<>&\u2028\u2029")
    assert json.loads(carried) == {"text": text}


def test_scripts_never_parse_text_as_markup_or_code() -> None:
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser"
    forbidden = markup + r"|\beval\(|new Function|fetch\(|XMLHttp|import\("
    for name in SCRIPTS:
        text = (files("nas.report") / "assets" / name).read_text(encoding="utf-8")
        assert not re.search(forbidden, text), name


def test_every_asset_is_used() -> None:
    found = {path.name for path in (files("nas.report") / "assets").iterdir()}
    profile = {*profile_page.SCRIPTS, *profile_page.STYLES, "profile.html"}
    comparison = {*comparison_page.SCRIPTS, *comparison_page.STYLES, "comparison.html"}
    sensitivity = {"sensitivity.html", "sensitivity.css"}
    assert found == {*SCRIPTS, *STYLES, "template.html"} | profile | comparison | sensitivity


def test_braces_in_the_runs_strings_are_left_alone() -> None:
    payload = {"name": "{{payload}}", "text": "{{script}}"}
    text = render_page(payload, table="{{style}}")
    assert json.loads(Page(text).raw["script"][0]) == payload
    assert Page(text).raw["pre"][0] == "{{style}}"


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run_folder(tmp_path_factory.mktemp("runs") / "small", num_evaluations=20, baseline=False)


def altered(run_folder: Path, target: Path, change: dict[str, Any]) -> Path:
    shutil.copytree(run_folder, target)
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    manifest = {key: value for key, value in (manifest | change).items() if value is not ...}
    (target / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return target


@pytest.mark.parametrize("value", [..., None, 7, "text", [None, 3, "x"], {"a": None, "b": [1]}], ids=repr)
def test_any_missing_or_odd_manifest_entry_still_gives_a_report(small_folder: Path, tmp_path: Path, value: Any) -> None:
    for key in MANIFEST_KEYS:
        folder = altered(small_folder, tmp_path / key, {key: value})
        page = Page(write_report(folder).read_text(encoding="utf-8"))
        assert len(json.loads(page.raw["script"][0])["files"]) > 4, key


@pytest.mark.parametrize("name", ["manifest.json", "history.jsonl", "baseline.jsonl", "front.csv", "models"])
def test_any_missing_file_still_gives_a_report(run_folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    path = tmp_path / "run" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert write_report(tmp_path / "run").is_file()


def test_an_empty_history_alone_gives_a_report(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").touch()
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert json.loads(page.raw["script"][0])["search"]["count"] == 0


def test_writing_again_gives_the_same_page_and_leaves_nothing_beside_it(run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / run_folder.name
    shutil.copytree(run_folder, folder)
    before = (folder / "report.html").read_bytes()
    assert write_report(folder) == folder / "report.html"
    assert (folder / "report.html").read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {path.name for path in run_folder.iterdir()}


def test_twenty_thousand_evaluations_stay_small_and_quick(tmp_path: Path) -> None:
    folder = write_run_folder(tmp_path / "large", num_evaluations=20_000, baseline=False)
    started = time.process_time()
    path = write_report(folder)
    assert time.process_time() - started < 15
    assert path.stat().st_size < 1_000_000
    payload = json.loads(Page(path.read_text(encoding="utf-8")).raw["script"][0])
    assert payload["search"]["count"] == 20_000
    assert len(payload["search"]["sample"]["place"]) == 1500
    assert sum(payload["search"]["sample"]["front"]) == payload["search"]["front"]


def test_files_that_a_model_lacks_are_named_in_the_notes(page: Page) -> None:
    notes = json.loads(page.raw["script"][0])["notes"]
    assert any("has no int4 file: no kernel" in note for note in notes)
