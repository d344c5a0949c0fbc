"""Data at an address: fetched once a machine, and held against its checksums."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from uuid import uuid4

import pytest

from nas.errors import UserError
from nas.train.storage import Place, fetched, is_address, place


@pytest.fixture
def source() -> Place:
    found = place(f"memory://{uuid4().hex}/photos", where="data.path")
    for name, content in {"cat/1.png": b"one", "dog/2.png": b"two", "labels.csv": b"" * 3}.items():
        found.write(name, content)
    return found


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    done: list[str] = []
    download = Place.download

    def counted(self: Place, path: str, target: Path) -> str:
        done.append(path)
        return download(self, path, target)

    monkeypatch.setattr(Place, "download", counted)
    return done


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_fetched_once_under_its_own_name(source: Place, downloads: list[str], tmp_path: Path) -> None:
    folder = fetched(source.address, where="data.path", cache=tmp_path)
    assert folder.name == "photos"
    assert contents(folder) == {"cat/1.png": b"one", "dog/2.png": b"two", "labels.csv": b""}
    assert fetched(source.address, where="data.path", cache=tmp_path) == folder
    assert sorted(downloads) == ["cat/1.png", "dog/2.png", "labels.csv"]


def test_what_changed_there_or_here_is_fetched_again_and_what_is_gone_there_is_removed(
    source: Place, downloads: list[str], tmp_path: Path
) -> None:
    folder = fetched(source.address, where="data.path", cache=tmp_path)
    downloads.clear()
    source.write("cat/1.png", b"another")
    source.remove("labels.csv")
    (folder / "dog" / "2.png").write_bytes(b"tow")  # of the same size
    assert contents(fetched(source.address, where="data.path", cache=tmp_path)) == {
        "cat/1.png": b"another", "dog/2.png": b"two",
    }  # fmt: skip
    assert sorted(downloads) == ["cat/1.png", "dog/2.png"]


def test_a_file_is_fetched_as_a_file(source: Place, tmp_path: Path) -> None:
    path = fetched(f"{source.address}/cat/1.png", where="data.path", cache=tmp_path)
    assert (path.name, path.read_bytes()) == ("1.png", b"one")


def test_a_fetch_that_broke_off_goes_on_where_it_was(
    source: Place, downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        download = Place.download

        def broken(self: Place, path: str, target: Path) -> str:
            if path.startswith("dog"):
                raise OSError("connection reset")
            return download(self, path, target)

        patch.setattr(Place, "download", broken)
        with pytest.raises(UserError, match=r"data\.path: memory://\w+/photos cannot be fetched \(connection reset"):
            fetched(source.address, where="data.path", cache=tmp_path)
    downloads.clear()
    assert len(contents(fetched(source.address, where="data.path", cache=tmp_path))) == 3
    assert "cat/1.png" not in downloads
    assert not list(tmp_path.rglob("*.part"))


def _fetch(address: str, cache: str) -> None:
    fetched(address, where="data.path", cache=Path(cache))


def test_processes_that_ask_at_once_get_whole_files(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for number in range(20):
        (tmp_path / "there" / str(number)).write_bytes(os.urandom(20_000))
    address = f"file://{tmp_path}/there"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_fetch, args=(address, str(tmp_path / "cache"))) for _ in range(2)]
    [process.start() for process in processes]
    [process.join() for process in processes]
    assert [process.exitcode for process in processes] == [0, 0]
    folder = fetched(address, where="data.path", cache=tmp_path / "cache")
    assert contents(folder) == contents(tmp_path / "there")


def test_nothing_there_an_unknown_kind_and_names_that_lead_elsewhere_are_told(
    source: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="there is nothing at memory://"):
        fetched(f"{source.address}/none", where="data.path", cache=tmp_path)
    with pytest.raises(UserError, match=r"data\.path: nope://a cannot be reached .* known are s3://"):
        fetched("nope://a", where="data.path", cache=tmp_path)
    listing = source.listing()
    evil = type(listing[0])(path="../../evil", size=3, stamp=0)
    monkeypatch.setattr(Place, "listing", lambda self: [evil])
    with pytest.raises(UserError, match="does not lie below its folder"):
        fetched(source.address, where="data.path", cache=tmp_path)
    assert not list(tmp_path.rglob("evil"))


def test_a_file_that_is_being_written_is_not_there_yet(source: Place) -> None:
    before = [file.path for file in source.listing()]
    partial = f"{source.root}/dog/3.png.{os.getpid()}.part"
    with source.files.open_output_stream(partial) as stream:
        stream.write(b"thr")
    assert [file.path for file in source.listing()] == before
    source.write("dog/3.png", b"three")
    assert [file.path for file in source.listing()] == sorted([*before, "dog/3.png"])


def test_paths_are_no_addresses() -> None:
    assert [is_address(text) for text in ("s3://b/x", "gs://b", "/data", "C:\\data", "photos", "~/x:y")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
