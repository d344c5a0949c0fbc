"""Parts of a bundle by themselves: its schema's checker, texts in other languages, pages, worker processes."""

from __future__ import annotations

import ast
import json
import os
import re
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.deploy.bundle import text
from nas.deploy.bundle.checking import runtimes
from nas.deploy.bundle.checking.archive import check_name
from nas.deploy.bundle.checking.findings import BundleError
from nas.deploy.bundle.checking.joined import standalone_text
from nas.deploy.bundle.checking.json_schema import violation
from nas.deploy.bundle.loaders import LOADERS
from nas.deploy.bundle.pool import export_pool
from nas.deploy.bundle.records import ExportJob, Outcome
from nas.deploy.bundle.write import SCHEMA

CHECKOUT = Path(__file__).resolve().parents[2]
KEYWORDS = {
    "$schema", "title", "description", "$defs", "$ref", "type", "const", "enum", "required", "properties",
    "additionalProperties", "items", "minItems", "minimum", "exclusiveMinimum", "maximum", "minLength", "pattern",
}  # fmt: skip
SMALL: dict[str, Any] = {
    "$defs": {"name": {"type": "string", "pattern": "^[a-c]+$"}},
    "type": "object",
    "required": ["a"],
    "additionalProperties": {"type": ["number", "null"], "exclusiveMinimum": 0},
    "properties": {
        "a": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/name"}},
        "b": {"type": "integer", "minimum": 1, "maximum": 3},
        "c": {"enum": ["x", "y"]},
        "d": {"type": "object", "additionalProperties": False, "properties": {"e": {"const": 1}}},
        "f": {"type": "string", "minLength": 2},
    },
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 4) | st.floats(-2, 4) | st.sampled_from(["", "a", "abc", "x", "z"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abcdefg"), inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_the_checker_agrees_with_jsonschema(value: Any) -> None:
    expected = jsonschema.Draft202012Validator(SMALL).is_valid(value)
    assert (violation(value, SMALL) is None) == expected


def test_the_checker_knows_every_keyword_of_the_schema() -> None:
    def keywords(rule: Any) -> set[str]:
        if not isinstance(rule, dict):
            return set()
        found = set(rule)
        for key in ("properties", "$defs"):
            found |= {word for one in rule.get(key, {}).values() for word in keywords(one)}
        return found | keywords(rule.get("items")) | keywords(rule.get("additionalProperties"))

    assert keywords(json.loads(SCHEMA.read_text())) <= KEYWORDS


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_cpp_literal_of_its_bytes(value: str) -> None:
    literal = text.cpp_string(value)
    assert literal.isascii()
    assert literal.isprintable()
    # Python reads octal escapes as C++ does.
    read = ast.literal_eval("b" + literal)
    assert read == value.encode("utf-8", "replace")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_kotlin_and_a_swift_literal_that_ends_where_it_should(value: str) -> None:
    kotlin, swift = text.kotlin_string(value), text.swift_string(value)
    for literal in (kotlin, swift):
        assert re.fullmatch(r'"([^"\\\x00-\x1f]|\\u[0-9a-f]{4}|\\u\{[0-9a-f]+\})*"', literal)
    assert "$" not in kotlin
    units = re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), kotlin[1:-1])
    assert units.encode("utf-16-be", "surrogatepass") == value.encode("utf-16-be", "replace")
    scalars = re.sub(r"\\u\{([0-9a-f]+)\}", lambda found: chr(int(found[1], 16)), swift[1:-1])
    assert scalars == value.encode("utf-8", "replace").decode()


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_literal_gives_the_same_float32_again(value: float) -> None:
    literal = text.floats([value])
    assert np.float32(literal) == np.float32(value)
    assert re.search(r"[.e]", literal)


@given(st.text(max_size=40))
def test_a_comment_stays_a_comment_and_a_cell_stays_a_cell(value: str) -> None:
    line = text.comment(value)
    assert "*/" not in line
    assert len(line.splitlines()) <= 1
    assert not line.endswith("\\")  # which would take the next line along
    assert not re.search(r"(?<!\\)[|<`]", text.markdown(value))


@given(st.text(alphabet="ab./\\:\n\x00 ", max_size=12))
def test_a_name_that_is_let_through_stays_inside(name: str) -> None:
    try:
        check_name(name, "here")
    except BundleError:
        return
    base = Path("/base/folder")
    assert Path(os.path.normpath(base / name)).is_relative_to(base)
    assert os.path.normpath(base / name) != str(base)


def test_every_template_is_filled_and_says_how_far_it_was_checked() -> None:
    fields = {name: "1" for loader in LOADERS for name in re.findall(r"\{\{(\w+)\}\}", text.template(loader.template))}
    for loader in LOADERS:
        filled = text.fill(text.template(loader.template), fields)
        assert "{{" not in filled
        assert "Apache-2.0" in filled
        if "never" in loader.checked and loader.template.endswith((".kt", ".swift")):
            assert "Never compiled" in filled
    with pytest.raises(KeyError):
        text.fill("{{unknown}}", fields)


def test_the_licence_text_in_a_bundle_is_that_of_the_project() -> None:
    assert text.template("LICENSE-APACHE-2.0.txt") == (CHECKOUT / "LICENSE").read_text()


def test_the_joined_script_is_the_same_each_time_and_compiles_for_python_3_9() -> None:
    script = standalone_text()
    assert script == standalone_text()
    ast.parse(script, feature_version=(3, 9))
    assert "nas.deploy" not in script


def test_what_a_runtime_writes_to_the_error_stream_while_it_runs_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def noisy(path: Path, inputs: np.ndarray) -> list[np.ndarray]:
        os.write(2, b"INFO: hello")
        return [np.zeros((1, 2), dtype=np.float32)]

    monkeypatch.setitem(runtimes._RUNNERS, "litert", ("json", noisy, (".tflite",), "json"))
    answers = runtimes.run_golden("litert", tmp_path / "a.tflite", np.zeros((1, 1, 2, 2), dtype=np.float32))
    assert answers is not None
    assert answers.shape == (1, 2)
    os.write(2, b"afterwards")
    assert capfd.readouterr().err == "afterwards"


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return os._exit, (1,)


def job_of(folder: Path, name: str, **given: Any) -> ExportJob:
    return ExportJob(
        model=folder / name, samples=folder, target="onnxruntime", precisions=("float32",), out=folder, **given
    )


def test_a_process_that_ends_costs_its_own_job_only(tmp_path: Path) -> None:
    ended: dict[str, str] = {}
    jobs = [job_of(tmp_path, "harmless"), job_of(tmp_path, "deadly", allow=(Deadly(),))]
    with export_pool(1) as pool:
        pool.run(jobs, lambda job, outcome: ended.update({job.digest: outcome.missing[0].reason}))
    assert ended["deadly"].startswith("the process that made it ended")
    assert "must be a model folder" in ended["harmless"]  # it ran, and found none


class Executor:
    """Breaks at the job called ``deadly``, as a pool of processes does: with it and all that come after."""

    def __init__(self, workers: int) -> None:
        self.broken = False

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, _: object, job: ExportJob | None = None) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        self.broken = self.broken or (job is not None and job.digest == "deadly")
        if self.broken:
            future.set_exception(BrokenProcessPool())
        else:
            future.set_result(Outcome())
        return future

    def shutdown(self, **_: object) -> None:
        pass


@pytest.mark.parametrize("place", [0, 1, 2])
def test_jobs_behind_one_that_ends_its_process_are_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    monkeypatch.setattr("nas.deploy.bundle.pool._executor", Executor)
    jobs = [job_of(tmp_path, name) for name in ("first", "second")]
    jobs.insert(place, job_of(tmp_path, "deadly"))
    ended: dict[str, int] = {}
    with export_pool(2) as pool:
        pool.run(jobs, lambda job, outcome: ended.update({job.digest: len(outcome.missing)}))
    assert ended == {"first": 0, "second": 0, "deadly": 1}


def test_jobs_run_here_where_no_processes_are_wanted(tmp_path: Path) -> None:
    seen = SimpleNamespace(reasons=[])
    one = ExportJob(model=tmp_path, samples=tmp_path, target="onnxruntime", precisions=("int8",), out=tmp_path)
    with export_pool(0) as pool:
        pool.run([one], lambda job, outcome: seen.reasons.extend(missing.reason for missing in outcome.missing))
    assert len(seen.reasons) == 1
