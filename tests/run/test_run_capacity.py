from __future__ import annotations

import os
from itertools import repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.run import capacity
from nas.run.attempt import limited_memory
from nas.run.capacity import num_fitting, usable_cores


def test_usable_cores_are_at_most_the_processors_that_this_process_may_use() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


def test_hyperthreads_count_once_and_a_quota_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "_CPU", tmp_path)
    monkeypatch.setattr(capacity, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    for processor in range(8):
        topology = tmp_path / f"cpu{processor}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text("0\n")
        (topology / "core_id").write_text(f"{processor % 4}\n")
    assert usable_cores() == 4
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert usable_cores() == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cores() == 4


def test_a_candidate_must_fit_on_one_node() -> None:
    nodes = [{"CPU": 3.0, "GPU": 1.0}, {"CPU": 3.0}]
    assert num_fitting(nodes, {"CPU": 2.0, "GPU": 0.0}) == 2
    assert num_fitting(nodes, {"CPU": 1.0, "GPU": 0.5}) == 2
    assert num_fitting(nodes, {"CPU": 4.0}) == 0
    assert num_fitting([], {"CPU": 1.0}) == 0


@given(share=st.integers(1, 20), nodes=st.integers(1, 5))
def test_shares_that_fill_a_node_exactly_are_not_rounded_away(share: int, nodes: int) -> None:
    assert num_fitting(repeat({"CPU": 1.0}, nodes), {"CPU": 1.0 / share}) == share * nodes


def test_memory_is_limited_within_and_free_again_behind() -> None:
    with limited_memory(50_000_000):
        with pytest.raises(MemoryError):
            bytearray(150_000_000)
        assert len(bytearray(10_000_000)) == 10_000_000
    assert len(bytearray(150_000_000)) == 150_000_000
    with limited_memory(None):
        assert len(bytearray(150_000_000)) == 150_000_000
