"""Only a folder that this user made here is one whose pickles may be read."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from nas.errors import UserError
from nas.run.tuning_seal import foreign, key_file, seal


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "ray"
    seal(folder)
    return folder


def test_an_own_folder_is_known_and_only_its_owner_enters_it(sealed: Path) -> None:
    assert foreign(sealed) == ""
    assert stat.S_IMODE(sealed.stat().st_mode) == 0o700
    assert stat.S_IMODE(key_file().stat().st_mode) == 0o600


def test_sealing_again_and_moving_keep_the_seal(sealed: Path) -> None:
    before = (sealed / ".seal").read_bytes()
    seal(sealed)
    moved = sealed.rename(sealed.with_name("moved"))
    assert (moved / ".seal").read_bytes() == before
    assert foreign(moved) == ""


def test_a_copy_is_foreign_though_it_holds_the_seal(sealed: Path) -> None:
    copy = sealed.with_name("copy")
    shutil.copytree(sealed, copy)
    assert "was not made here" in foreign(copy)


def test_a_folder_put_in_the_place_of_the_own_one_is_foreign(sealed: Path) -> None:
    kept = sealed.with_name("kept")
    shutil.copytree(sealed, kept)
    shutil.rmtree(sealed)
    shutil.copytree(kept, sealed)
    assert foreign(sealed)


def test_without_the_key_or_with_another_one_a_folder_is_foreign(sealed: Path) -> None:
    key_file().write_bytes(b"1" * 32)
    assert foreign(sealed)
    key_file().unlink()
    assert "has no seal" in foreign(sealed)


def test_a_folder_that_others_can_enter_is_foreign(sealed: Path) -> None:
    sealed.chmod(0o755)
    assert "other users" in foreign(sealed)


def test_a_link_to_an_own_folder_is_foreign(sealed: Path) -> None:
    link = sealed.with_name("link")
    link.symlink_to(sealed)
    assert foreign(link)


def test_a_key_that_others_can_read_is_refused(sealed: Path, tmp_path: Path) -> None:
    key_file().chmod(0o644)
    assert foreign(sealed)
    with pytest.raises(UserError, match="only its owner can read"):
        seal(tmp_path / "other")
