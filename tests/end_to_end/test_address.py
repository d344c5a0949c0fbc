"""Searches whose data and run folder lie at addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from nas_command import TINY, Here, assert_one_clear_line

from nas.cli.options import given_run
from nas.commands.run_place import RunPlace, resumed_place
from nas.errors import UserError
from nas.run.folder import RunFolder
from nas.run.mirror import restore, working_copy

SERIAL = ("runner=serial", "run.name=far")


@pytest.fixture
def store(again: Here, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that stands for a store elsewhere; what is fetched and worked in lies in ``cache``."""
    monkeypatch.setenv("NAS_CACHE", str(again.folder / "cache"))
    place = again.folder / "store"
    place.mkdir()
    yield place
    assert not [path for path in again.folder.iterdir() if ":" in path.name]  # no address was taken for a path


def test_a_search_reads_its_data_from_an_address_and_goes_on_from_one_on_another_machine(
    again: Here, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = (rng.random((90, 8, 8)) * 60 + labels[:, None, None] * 80).astype(np.uint8)
    np.savez(store / "scans.npz", images=images, labels=labels)
    address = f"file://{store}/runs"
    data = ("data=npz", f"data.path=file://{store}/scans.npz", "data.limit=90")
    told = again.nas("search", *TINY, *SERIAL, *data, f"run.folder={address}", "run.candidates=2")
    assert (told.code, told.err) == (0, "")
    assert f"\ncopy     {address}/far\n" in told.out
    assert f"run.resume={address}/far run.candidates=4" in told.out
    there = {path.relative_to(store / "runs/far").as_posix() for path in (store / "runs/far").rglob("*")}
    assert {"manifest.json", "report.html", "front.csv"} <= there
    assert not there & {"lease.json", ".lock", "logs", "status.json"}

    monkeypatch.setenv("NAS_CACHE", str(again.folder / "another"))  # a machine that has none of it
    told = again.nas("search", f"run.resume={address}/far", "run.candidates=3")
    assert (told.code, told.err) == (0, "")
    assert restore(f"{address}/far", again.folder / "looked")
    records = [json.loads(line) for line in (again.folder / "looked/history.jsonl").read_text().splitlines()]
    assert [record["index"] for record in records] == [0, 1, 2]
    assert again.nas("status", f"{address}/far").code == 0
    assert again.nas("runs", "compare", f"{address}/far", "looked", "out=null").code == 0
    assert again.nas("verify", "looked").code == 0
    again_there = again.nas("search", *TINY, *SERIAL, f"run.folder={address}")
    assert_one_clear_line(again_there, "run.name: ", f"go on with it by run.resume={address}/far")


def test_addresses_that_lead_nowhere_are_told_before_anything_is_spent(again: Here, store: Path) -> None:
    for field in ("run.folder", "run.resume", "run.warm_start"):
        told = again.nas("search", *TINY, *SERIAL, f"{field}=nope://bucket/runs")
        assert_one_clear_line(told, f"{field}: nope://bucket/runs", "cannot be reached", "known are s3://")
    told = again.nas("search", *TINY, *SERIAL, f"run.resume=file://{store}/none")
    assert_one_clear_line(told, "run.resume: must be a run folder, but there is no manifest.json at file://")
    told = again.nas("search", *TINY, *SERIAL, "run.folder=file:///proc/runs")
    assert_one_clear_line(told, "run.folder: file:///proc/runs cannot be written")
    told = again.nas("search", *TINY, *SERIAL, "data=npz", f"data.path=file://{store}/none.npz")
    assert_one_clear_line(told, "data.path: there is nothing at file://")
    told = again.nas("search", *TINY, *SERIAL, "data=parquet", f"data.path='file://{store}/*.parquet'")
    assert_one_clear_line(told, "data.path: must be a file or a folder where it is an address, got the pattern")
    assert not (again.folder / "cache/runs").exists()


def test_results_of_a_run_at_an_address_need_a_place_of_their_own(again: Here, store: Path) -> None:
    with pytest.raises(UserError, match="out: must be given where the run is at an address"):
        given_run({"run": f"file://{store}/a", "out": None}, writes_to="out")
    with pytest.raises(UserError, match="out: must be on this machine"):
        given_run({"run": "runs/tiny", "out": "s3://bucket/out"}, writes_to="out")
    assert given_run({"run": "runs/tiny", "out": None}, writes_to="out") == Path("runs/tiny")


def test_only_a_working_copy_is_copied_to_the_address_that_its_manifest_names(again: Here, store: Path) -> None:
    address = f"file://{store}/runs/a"
    about = {"space": {"digest": "s"}, "data": {"digest": "d"}, "address": address}
    own = RunFolder.create(working_copy(address), about)
    assert resumed_place(str(own.path)) == RunPlace(path=own.path, address=address)
    from_elsewhere = RunFolder.create(again.folder / "runs" / "sent", about)
    assert resumed_place(str(from_elsewhere.path)) == RunPlace(path=from_elsewhere.path)
