"""Events reach callbacks; nothing that a callback does reaches the search."""

from __future__ import annotations

import re
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from run_problem import KEY, Judge
from status_run import make_run, search

from nas.errors import UserError
from nas.run.callbacks.callback import Ended, Evaluated, Listener, Started
from nas.run.callbacks.delivery import Deliveries
from nas.run.callbacks.extras import check_package, load
from nas.run.callbacks.figures import event_figures
from nas.run.callbacks.prometheus import Prometheus
from nas.run.callbacks.wandb import WeightsAndBiases


@dataclass
class Noting:
    """Keeps what it is told; does what it is asked to."""

    name: str = "noting"
    opens: bool = True
    fails_at: tuple[int, ...] = ()
    hangs_at: int = -1
    started: list[Started] = field(default_factory=list)
    events: list[Evaluated | Ended] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    def check(self) -> None: ...

    def open(self, started: Started) -> Listener:
        self.started.append(started)
        if not self.opens:
            raise ConnectionError("no such host")
        return self.take

    def take(self, event: Evaluated | Ended) -> None:
        self.events.append(event)
        self.threads.add(threading.current_thread().name)
        if len(self.events) - 1 in self.fails_at:
            sys.exit("I am off")
        if len(self.events) - 1 == self.hangs_at:
            time.sleep(30)


def test_a_callback_is_told_the_start_each_evaluation_in_order_and_the_end(tmp_path: Path) -> None:
    run, noting = make_run(tmp_path / "a"), Noting()
    history = search(run, total=6, work=Judge(fails=True), callbacks=[noting])
    (started,) = noting.started
    assert (started.name, started.objectives, started.earlier) == ("a", ("accuracy", KEY), 0)
    *evaluated, ended = noting.events
    assert [event.evaluation for event in evaluated if isinstance(event, Evaluated)] == list(history)
    assert [event.position for event in evaluated if isinstance(event, Evaluated)] == [1, 2, 3, 4, 5, 6]
    assert isinstance(ended, Ended)
    assert (ended.state, ended.progress.done if ended.progress else None) == ("finished", 6)
    assert noting.threads == {"nas-callback-noting"}
    search(run, total=8, callbacks=[noting])
    assert noting.started[1].earlier == 6
    assert [event.position for event in noting.events[7:9] if isinstance(event, Evaluated)] == [7, 8]


def test_figures_have_names_with_what_they_are_about_and_are_finite(tmp_path: Path) -> None:
    noting = Noting()
    search(make_run(tmp_path / "a"), total=6, work=Judge(fails=True), callbacks=[noting])
    for event in noting.events[:-1]:
        assert isinstance(event, Evaluated)
        figures = event_figures(event)
        assert figures["search/done"] == event.progress.done
        assert ("candidate/accuracy" in figures) == (event.evaluation.status == "complete")
        assert "candidate/seconds" in figures
    assert figures["search/best.accuracy"] == event.progress.best["accuracy"]


def test_a_callback_that_raises_is_told_once_and_the_others_and_the_search_go_on(tmp_path: Path) -> None:
    notes: list[str] = []
    broken, closed, well = Noting(name="broken", fails_at=(1, 2, 3)), Noting(name="closed", opens=False), Noting()
    history = search(make_run(tmp_path / "a"), total=8, callbacks=[broken, closed, well], note=notes.append)
    assert len(history) == 8
    assert len(broken.events) == len(well.events) == 9
    assert sorted(notes) == [
        "callbacks.broken failed, the search goes on: SystemExit: I am off",
        "callbacks.broken: 3 events failed and 0 were left out",
        "callbacks.closed failed, the search goes on: ConnectionError: no such host",
    ]


def test_a_callback_that_hangs_is_left_behind(tmp_path: Path) -> None:
    hanging, well = Noting(name="hanging", hangs_at=0), Noting()
    deliveries = Deliveries([hanging, well], Started(folder=tmp_path, name="a"))
    begin = time.monotonic()
    for _ in range(3):
        deliveries.put(Ended(state="stopped"))
    assert time.monotonic() - begin < 0.5
    deliveries.close(seconds=0.3)
    assert time.monotonic() - begin < 5
    assert deliveries.notes() == ["callbacks.hanging did not end in time and was left behind"]
    assert len(well.events) == 3


def test_a_slow_callback_misses_events_instead_of_holding_them_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.run.callbacks.delivery._LONGEST_QUEUE", 5)
    hanging = Noting(name="slow", hangs_at=0)
    deliveries = Deliveries([hanging], Started(folder=tmp_path, name="a"))
    for _ in range(20):
        deliveries.put(Ended(state="stopped"))
    assert deliveries.notes() == ["callbacks.slow is too slow: events are left out"]
    deliveries.close(seconds=0)
    # The one at hand was taken out of the queue before or after it was full.
    assert re.search("0 events failed and 1[45] were left out", deliveries.notes()[-1])


def test_a_missing_package_is_one_line_with_what_to_do() -> None:
    with pytest.raises(UserError, match=r"^callbacks\.x: no_such_thing is not installed; pip install no_such_thing$"):
        check_package("x", "no_such_thing")
    with pytest.raises(UserError, match=r"^callbacks\.x: json\.nothing cannot be imported: "):
        load("x", "json", "json.nothing")


def test_fields_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="no mode named 'onlin'; did you mean online"):
        WeightsAndBiases(mode="onlin")
    with pytest.raises(UserError, match="must be a plain word"):
        Prometheus(prefix="a b")
