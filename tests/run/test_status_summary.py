"""Figures over a history that grows."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.run.summary import Summary
from nas.run.utilisation import busy_shares, spell_of, timeline

STATUSES = ("complete", "failed", "timeout", "stopped", "infeasible")


def line(index: int, status: str = "complete", **more: Any) -> dict[str, Any]:
    return {
        "index": index,
        "digest": more.pop("digest", f"{index:016x}"),
        "status": status,
        "metrics": {"accuracy": more.pop("accuracy", 0.5)} if status == "complete" else {},
        "predicted": {"macs": more.pop("macs", 100.0)},
        "fidelity": {"epochs": more.pop("epochs", 1), "resolution": 1.0, "data_share": 1.0},
        "seconds": more.pop("seconds", 2.0),
        "error": "" if status == "complete" else more.pop("error", "boom"),
        "worker": more.pop("worker", "host:1"),
        "finished": f"2026-11-24T00:{index // 60 % 60:02d}:{index % 60:02d}.000+00:00",
    }


def written(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(STATUSES), st.integers(0, 4), st.sampled_from([1, 3])), max_size=30),
    st.lists(st.integers(1, 400), max_size=20),
    st.booleans(),
)
def test_following_a_file_piece_by_piece_gives_what_reading_it_at_once_gives(
    given_lines: list[tuple[str, int, int]], pieces: list[int], stored: bool
) -> None:
    # New architectures enter at one epoch, as on a ladder; what is stored between pieces may then be restored.
    records = [
        line(
            index, status, digest=f"{index if epochs == 1 else architecture}", epochs=epochs, worker=f"w{architecture}"
        )
        for index, (status, architecture, epochs) in enumerate(given_lines)
    ]
    records = [line(0, digest="first"), *[{**record, "index": record["index"] + 1} for record in records]]
    whole = "".join(json.dumps(record) + "\n" for record in records).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.jsonl"
        path.write_bytes(whole)
        once = Summary(["accuracy", "macs"])
        assert once.follow(path) == len(records)
        summary = Summary(["accuracy", "macs"])
        path.write_bytes(b"")
        end = 0
        for piece in [*pieces, len(whole)]:
            end = min(len(whole), end + piece)
            path.write_bytes(whole[:end])
            summary.follow(path)
            if stored:
                summary = Summary.from_record(json.loads(json.dumps(summary.to_record())), ["accuracy", "macs"])
    assert summary.total == once.total == len(records)
    assert summary.counts == once.counts
    assert summary.best == once.best
    assert summary.failures == once.failures
    assert summary.workers == once.workers
    assert summary.offset == once.offset == len(whole)
    if not stored:
        assert summary.promoted == once.promoted


def test_a_torn_last_line_waits_and_a_line_that_is_no_evaluation_is_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "history.jsonl", [line(0), line(1)])
    with path.open("a") as file:
        file.write('{"index": 3}\nnonsense\n[1]\n{"index": 4, "dig')
    summary = Summary()
    assert summary.follow(path) == 2
    assert summary.unreadable == 3
    assert summary.follow(path) == 0


def test_a_promotion_is_no_new_candidate_and_an_unknown_digest_above_the_lowest_rung_is_one_after_a_restart() -> None:
    summary = Summary()
    for record in (line(0, digest="a"), line(1, digest="b"), line(2, digest="a", epochs=3)):
        summary.add(record)
    assert (summary.done, summary.promoted) == (2, 1)
    restored = Summary.from_record(json.loads(json.dumps(summary.to_record())))
    restored.add(line(3, digest="b", epochs=3))
    restored.add(line(4, digest="c"))
    assert (restored.done, restored.promoted) == (3, 2)


def test_a_history_that_became_shorter_is_read_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "history.jsonl", [line(0), line(1), line(2)])
    summary = Summary()
    summary.follow(path)
    written(path, [line(7)])
    summary.follow(path)
    assert summary.total == 1


def test_best_values_follow_the_direction_of_the_metric_and_failures_that_differ_in_numbers_are_one_kind() -> None:
    summary = Summary(["accuracy", "macs"])
    summary.add(line(0, accuracy=0.4, macs=90.0))
    summary.add(line(1, accuracy=0.6, macs=120.0))
    summary.add(line(2, "failed", error="RuntimeError: step 3 of 7; log logs/2.jsonl"))
    summary.add(line(3, "failed", error="RuntimeError: step 5 of 7; log logs/3.jsonl"))
    summary.add(line(4, "timeout", error="took longer than 3 s"))
    assert summary.best == {"accuracy": 0.6, "macs": 90.0}
    kinds = list(summary.failures.values())
    assert [(kind.status, kind.error, kind.count, kind.first, kind.log) for kind in kinds] == [
        ("failed", "RuntimeError: step 3 of 7", 2, 2, "logs/3.jsonl"),
        ("timeout", "took longer than 3 s", 1, 4, ""),
    ]


def test_what_is_stored_stays_small_however_many_workers_and_reasons_there_are() -> None:
    summary = Summary()
    for index in range(3000):
        letters = "".join(chr(97 + index // 26**k % 26) for k in range(3))
        summary.add(line(index, "failed", error=letters, worker=f"host:{index}"))
    record = json.dumps(summary.to_record())
    assert len(record) < 400_000
    assert len(summary.workers) == 2000
    assert sum(kind.count for kind in summary.failures.values()) == 3000
    again = Summary.from_record(json.loads(record))
    again.add(line(3000, "failed", error="yet another"))
    assert len(again.failures) == len(summary.failures)


def test_the_rate_is_that_of_the_latest_evaluations_and_falls_while_nothing_comes() -> None:
    summary = Summary()
    assert math.isnan(summary.per_minute())
    for index in range(7):
        summary.add(line(10 * index))
    assert summary.per_minute() == pytest.approx(6.0)
    assert summary.per_minute(max(summary.ends) + 60.0) == pytest.approx(3.0)


def test_busy_shares_count_the_candidate_at_hand_and_leave_out_what_is_not_known() -> None:
    summary = Summary()
    for index in (10, 14, 20):
        summary.add(line(index, seconds=4.0))
    end = max(summary.ends)
    (share,) = busy_shares(summary.workers, at_hand={}, now=end + 50)
    assert (share.count, share.busy_seconds) == (3, 12.0)
    assert share.share == pytest.approx(12 / 14)
    fresh, again = busy_shares(summary.workers, at_hand={"host:1": end + 4, "host:2": end}, now=end + 10)[::-1]
    assert again.share == pytest.approx(18 / 24)
    assert (fresh.worker, fresh.count, fresh.share) == ("host:2", 0, 1.0)


def test_a_timeline_keeps_what_was_done_when_it_joins_stretches() -> None:
    records = [line(5 * index, "failed" if index == 3 else "complete", seconds=4.0) for index in range(100)]
    records += [line(7, seconds=1.0, worker="host:2"), {"index": 1}, line(8, seconds=float("nan"))]
    spells = [spell for record in records if (spell := spell_of(record)) is not None]
    assert len(spells) == 101
    found = timeline(spells)
    assert [lane.worker for lane in found.lanes] == ["host:1", "host:2"]
    assert found.seconds == pytest.approx(499.0)
    assert len(found.lanes[0].starts) == 100
    assert sum(found.lanes[0].failed) == 1
    assert found.lanes[0].share == pytest.approx(400 / 499)
    few = timeline(spells, stretches=20)
    assert few.lanes[0].share == found.lanes[0].share  # gaps that are not drawn are idle all the same
    assert all(len(lane.starts) <= 10 for lane in few.lanes)
    assert [sum(lane.counts) for lane in few.lanes] == [100, 1]
    assert (few.lanes[0].starts[0], few.lanes[0].ends[-1]) == (found.lanes[0].starts[0], found.lanes[0].ends[-1])
    assert timeline(spells, lanes=1).left_out == 1
    assert timeline([]).lanes == ()
