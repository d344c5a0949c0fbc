"""The parts that keep the promises of docs/security.md, one by one, and that they leave honest input alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nas.cli.composed import check_groups, check_override
from nas.cli.search import refuse_taken_over
from nas.device.archives import read_arrays
from nas.errors import UserError, printable, printable_line
from nas.run.folder import check_plain
from nas.run.ray_workers import _hide_token
from nas.space.load import parse_yaml

GROUPS = frozenset({"data", "runner"})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"overrides": ["allow=[mine]", "runner=ray"]}))
    return folder


@given(st.text())
def test_what_is_printable_drives_no_terminal_and_is_left_alone(text: str) -> None:
    shown = printable(text)
    assert not any(letter in shown for letter in "\x1b\x07\x08\r\x7f\x9b\u202e\u2028")
    assert printable(shown) == shown
    shown.encode("utf-8")


@given(st.text(max_size=9000))
def test_a_printable_line_is_one(text: str) -> None:
    line = printable_line(text)
    assert len(line) <= 4000
    assert len(line.splitlines()) <= 1


def test_words_of_all_languages_stay_as_they_are() -> None:
    text = "Größe 学习 данные 0.4 ms\tp < 5 %\nnext"
    assert printable(text) == text


@pytest.mark.parametrize("again", ["allow=[mine]", "+allow=[mine]", "allow=mine"])
def test_what_is_given_again_is_taken(run: Path, again: str) -> None:
    refuse_taken_over({"allow": ["mine"], "runner": {"address": None}}, [f"run.resume={run}", again])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"allow": ["mine"]}, "allow="),
        ({"allow": "mine"}, "allow=mine"),
        ({"callbacks": {"wandb": {}}}, r"callbacks=\[wandb\]"),
        ({"runner": {"address": "10.0.0.1:6379"}}, "runner.address=10.0.0.1:6379"),
        ({"runner": {"pip": ["theirs"]}}, r"runner.pip=\[theirs\]"),
        ({"runner": {"env": {"A": "1"}}}, r"runner.env=\[A\]"),
        ({"runner": {"working_dir": "/home"}}, "runner.working_dir=/home"),
    ],
)
def test_a_run_folder_decides_neither_what_is_run_nor_where_things_go(
    run: Path, config: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        refuse_taken_over(config, [f"run.resume={run}", "run.candidates=60"])


def test_a_runner_that_is_chosen_now_is_not_the_runs(run: Path) -> None:
    refuse_taken_over({"runner": {"address": "mine:6379"}}, [f"run.resume={run}", "runner=mine"])
    (run / "manifest.json").write_text(json.dumps({"overrides": [], "config_dir": "/theirs"}))
    with pytest.raises(UserError, match=r"runner\.address"):  # the group is one of theirs
        refuse_taken_over({"runner": {"address": "mine:6379"}}, [f"run.resume={run}", "runner=mine"])


@pytest.mark.parametrize(
    "argument",
    ["data=folder", "data.path=../photos", "run.folder=/data/runs", "hydra.sweep.dir=/tmp/a", "hydra/launcher=joblib"],
)
def test_honest_overrides_are_left_alone(argument: str) -> None:
    check_override(argument, GROUPS)


@pytest.mark.parametrize("argument", ["data=../theirs", "+data=/tmp/theirs", "data@x=a/../../b", "runner=[../a]"])
def test_groups_are_names(argument: str) -> None:
    with pytest.raises(UserError, match="must be the name of a group's file"):
        check_override(argument, GROUPS)


def test_a_folder_with_other_yaml_in_it_is_left_alone(tmp_path: Path) -> None:
    texts = {"mine": "_target_: mine.Data\n", "empty": "", "chart": "a: {{ .Values.a }}\n", "large": "# x\n" * 99_999}
    texts["several"] = "a: &a 1\n---\nb: *b\n"
    (tmp_path / "data").mkdir()
    for name, text in texts.items():
        (tmp_path / "data" / f"{name}.yaml").write_text(text)
    (tmp_path / "data" / "binary.yaml").write_bytes(b"\xff\xfe hydra")
    check_groups(tmp_path)


def test_a_folder_of_hydra_is_found_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "x.yaml").write_text("_target_: theirs.Trap\n")
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "hydra").symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match="must be about groups of nas, got 'hydra'"):
        check_groups(tmp_path / "groups")


def test_a_link_within_a_run_folder_is_left_alone_and_one_that_leads_out_is_not(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "models").mkdir(parents=True)
    (run / "latest").symlink_to("models")
    (tmp_path / "named").symlink_to(run)
    check_plain(tmp_path / "named")
    (run / "models" / "a").symlink_to("nowhere")
    with pytest.raises(UserError, match="models/a is none or leads out of it"):
        check_plain(run)


def test_an_npz_file_is_read_as_numpy_reads_it_up_to_its_limit(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.array(["x", "yz"]), "c": np.array(3), "d": np.zeros((0, 4))}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    found = read_arrays(tmp_path / "a.npz")
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    with pytest.raises(ValueError, match="stands for 0 MB, more than 0 MB"):
        read_arrays(tmp_path / "a.npz", largest=100)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_npz_are_a_value_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 the text is that of whichever part found out
        read_arrays(path)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["C"])),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
        max_leaves=20,
    )
)
def test_plain_yaml_is_read_as_it_was_written(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value, allow_unicode=True), source="a.yaml") == value


def test_the_token_of_ray_is_readable_by_its_user_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _hide_token()  # none there
    (tmp_path / ".ray").mkdir()
    token = tmp_path / ".ray" / "auth_token"
    token.write_text("secret")
    token.chmod(0o644)
    _hide_token()
    assert token.stat().st_mode & 0o777 == 0o600
