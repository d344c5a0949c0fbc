from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nas.errors import UserError
from nas.report.sensitivity import render_sensitivity_page, sensitivity_section, write_sensitivity_page


def record(name: str, sqnr_db: float | None, *, alone: bool = False) -> dict[str, object]:
    tried = {"agreement": 0.975, "output_sqnr_db": 31.25, "accuracy_drop": 0.0125} if alone else None
    figures = {"op_type": "Conv", "precision": "int8", "num_weights": 1234, "sqnr_db": sqnr_db, "alone": tried}
    return {"operator": name, **figures}


RECORDS = [record("/s1/conv/Conv", 10.0, alone=True), record("/s2/conv/Conv", 40.0), record("/s3/pool", None)]


def bars(section: str) -> list[ElementTree.Element]:
    svg = re.search(r"<svg.*</svg>", section)
    assert svg is not None
    return list(ElementTree.fromstring(svg.group()).iter("rect"))


def test_bars_are_as_long_as_the_decibels_and_in_the_given_order() -> None:
    first, second, silent = (float(rect.attrib["width"]) for rect in bars(sensitivity_section(RECORDS)))
    assert second == pytest.approx(4 * first)
    assert silent >= second  # no noise is the best that can be


def test_the_table_holds_what_each_operator_did_alone() -> None:
    section = sensitivity_section(RECORDS)
    row = re.search(r"<td>/s1/conv/Conv</td>.*?</tr>", section)
    assert row is not None
    for text in ("1,234", "10.0 dB", "97.5%", "31.2 dB", "+1.25 points"):
        assert f"<td>{text}</td>" in row.group()
    assert "<td>no noise</td>" in section


def test_names_cannot_break_out_of_the_page() -> None:
    hostile = '"><script>alert(1)</script>'
    page = render_sensitivity_page([record(hostile, 5.0)], name=hostile)
    assert "<script" not in page
    assert "alert(1)" in page

    class Tags(HTMLParser):
        found: list[str]

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.found.append(tag)

    parser = Tags()
    parser.found = []
    parser.feed(page)
    assert "script" not in parser.found
    assert "default-src 'none'" in page


def test_many_operators_are_drawn_up_to_a_limit_and_listed_all() -> None:
    section = sensitivity_section([record(f"/op{number}", float(number)) for number in range(80)])
    assert len(bars(section)) == 60
    assert section.count("<tr>") == 81
    assert "The 20 least sensitive operators are in the table only" in section


def test_a_network_without_quantised_operators_says_so() -> None:
    assert "No operator of this network is quantised" in sensitivity_section([])


def test_another_file_is_not_overwritten_and_an_own_one_is(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_sensitivity_page(RECORDS, path, name="a")
    write_sensitivity_page(RECORDS, path, name="b")
    assert "<h1>b</h1>" in path.read_text()
    (tmp_path / "notes.html").write_text("mine")
    with pytest.raises(UserError, match="must not be a file of another kind"):
        write_sensitivity_page(RECORDS, tmp_path / "notes.html", name="a")
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []
