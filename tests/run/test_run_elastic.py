"""How many candidates are in flight while nodes come and go, and which of them show signs of life."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_workloads import candidate_of, complete

from nas.errors import UserError
from nas.problem.evaluation import Candidate, Evaluation
from nas.run.elastic import HANDOVER, LOOK_EVERY, SOON, STUCK_AFTER, Slots
from nas.run.pulse import Beat, beats
from nas.run.ray_address import why_not
from nas.run.ray_runner import RayRunner
from nas.run.runner import Workers
from nas.run.shipping import runtime_env


@dataclass
class Cluster:
    """A number of places, and a clock."""

    places: int | None = 4
    now: float = 0.0

    def slots(self, most: int | None = None) -> Slots:
        return Slots(lambda: self.places, most=most, clock=lambda: self.now)


def test_slots_follow_the_nodes_but_not_more_often_than_every_other_second() -> None:
    cluster = Cluster()
    slots = cluster.slots()
    assert slots.allowed(0) == 4
    cluster.places = 7
    slots.look()
    assert slots.allowed(4) == 4
    cluster.now += LOOK_EVERY
    slots.look()
    assert slots.allowed(4) == 7
    cluster.places, cluster.now = 2, cluster.now + LOOK_EVERY
    slots.look()
    assert slots.allowed(4) == 2


def test_a_cluster_without_nodes_or_without_an_answer_never_ends_a_search() -> None:
    cluster = Cluster()
    slots = cluster.slots()
    for places, expected in ((0, 1), (None, 1), (3, 3), (None, 3)):
        cluster.places, cluster.now = places, cluster.now + LOOK_EVERY
        slots.look()
        assert slots.allowed(0) == expected


def test_never_more_than_wanted() -> None:
    assert Cluster(places=9).slots(most=5).allowed(9) == 5


def test_where_others_hold_the_nodes_the_queue_shrinks_to_one_and_grows_again_when_they_are_gone() -> None:
    slots = Cluster(places=100).slots()
    assert slots.allowed(0) == 100
    for _ in range(40):
        slots.began(1.0)
    slots.stuck(STUCK_AFTER + 1)
    assert slots.allowed(40) == 41
    slots.began(SOON + 1)  # it had to wait: others are still there
    assert slots.allowed(41) == 42
    found = []
    for begun in range(42, 50):
        slots.began(0.1)
        found.append(slots.allowed(begun))
    assert found == [44, 47, 52, 61, 78, 100, 100, 100]


def test_short_candidates_are_queued_ahead_so_many_as_end_while_one_is_handed_over() -> None:
    slots = Cluster(places=8).slots()
    assert slots.ahead == 0  # nothing is known of them yet
    slots.ended(1.0)
    ending = 8 * HANDOVER
    assert ending <= slots.ahead == math.ceil(ending + 2 * math.sqrt(ending))
    for _ in range(100):
        slots.ended(0.001)
    assert slots.ahead == 8
    for _ in range(100):
        slots.ended(60.0)
    assert slots.ahead == 0


def test_nothing_is_queued_ahead_of_one_worker_nor_where_others_hold_the_nodes() -> None:
    one, many = Cluster(places=1).slots(), Cluster(places=8).slots()
    one.ended(0.1)
    many.ended(0.1)
    assert (one.ahead, many.ahead) == (0, 8)
    many.stuck(STUCK_AFTER + 1)
    assert many.ahead == 0
    for _ in range(3):
        many.began(0.1)
    assert many.ahead == 8


@given(
    st.lists(
        st.tuples(st.sampled_from(["look", "began", "stuck"]), st.integers(0, 30), st.integers(0, 40)), max_size=60
    )
)
def test_there_is_always_room_for_one_and_never_for_more_than_fit(events: list[tuple[str, int, int]]) -> None:
    cluster = Cluster()
    slots = cluster.slots(most=20)
    for event, number, seconds in events:
        if event == "look":
            cluster.places, cluster.now = number, cluster.now + LOOK_EVERY
            slots.look()
        elif event == "began":
            slots.began(seconds)
        else:
            slots.stuck(seconds)
        assert 1 <= slots.allowed(number) <= max(1, min(20, cluster.places or 0, slots.fitting))


def spin(candidate: Candidate) -> Evaluation:
    until, block = time.monotonic() + 0.6, bytes(1 << 20)
    while time.monotonic() < until:
        hashlib.sha256(block).digest()  # like training, it computes without holding the interpreter
    return complete(candidate, accuracy=0.5)


def doze(candidate: Candidate) -> Evaluation:
    time.sleep(0.6)
    return complete(candidate, accuracy=0.5)


def spin_elsewhere(candidate: Candidate) -> Evaluation:
    script = "import time\nuntil = time.time() + 0.6\nwhile time.time() < until: pass"
    subprocess.run([sys.executable, "-c", script], check=True)
    return complete(candidate, accuracy=0.5)


@pytest.mark.parametrize(("work", "lives"), [(spin, True), (doze, False), (spin_elsewhere, True)])
def test_computing_is_a_sign_of_life_here_or_in_a_process_of_its_own_and_waiting_is_none(
    work: object, lives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Processes that other tests have started in this one go on computing.
    children = psutil.Process.children
    others = {child.pid for child in children(psutil.Process(), recursive=True)}

    def own(process: psutil.Process, recursive: bool = False) -> list[psutil.Process]:
        return [child for child in children(process, recursive=recursive) if child.pid not in others]

    monkeypatch.setattr(psutil.Process, "children", own)
    *signs, end = beats(work, candidate_of(3), worker="here:1", every=0.1)  # type: ignore[arg-type]
    assert isinstance(end, Evaluation)
    assert (end.status, end.worker, end.candidate.index) == ("complete", "here:1", 3)
    assert all(isinstance(sign, Beat) for sign in signs)
    assert (len(signs) >= 2) == lives


def test_what_the_work_raises_is_a_failure_and_what_interrupts_it_passes() -> None:
    def fail(candidate: Candidate) -> Evaluation:
        raise ValueError("no such kernel")

    def interrupt(candidate: Candidate) -> Evaluation:
        raise KeyboardInterrupt

    (end,) = beats(fail, candidate_of(0), worker="w", every=5.0)
    assert isinstance(end, Evaluation)
    assert end.error == "ValueError: no such kernel"
    with pytest.raises(KeyboardInterrupt):
        list(beats(interrupt, candidate_of(0), worker="w", every=5.0))


def hang_first(candidate: Candidate) -> Evaluation:
    if candidate.index == 0:
        time.sleep(600)
    return spin(candidate)


def test_a_candidate_that_hangs_is_ended_tried_again_and_then_failed_while_others_go_on(local_ray: Workers) -> None:
    begin = time.monotonic()
    found: dict[int, Evaluation] = {}
    runner = RayRunner(workers=2, heartbeat="8 s", retries=1, time_limit=None)
    with runner.start() as workers, workers.open(hang_first) as session:
        for index in range(3):
            session.submit(candidate_of(index))
        while session.in_flight:
            found |= {evaluation.candidate.index: evaluation for evaluation in session.wait()}
    assert [found[index].status for index in range(3)] == ["failed", "complete", "complete"]
    assert found[0].error == "it hung: no sign of life for 8 s in each of 2 attempts"
    assert 16 <= time.monotonic() - begin < 90


def test_the_session_says_when_there_is_room_for_more(local_ray: Workers) -> None:
    with RayRunner(workers=2).start() as workers, workers.open(doze) as session:
        session._slots = Slots(  # type: ignore[attr-defined]
            iter([1, 2, 2, 2, 2, 2, 2, 2, 2]).__next__, most=None, clock=iter(range(0, 1000, 3)).__next__
        )
        assert session.num_slots == 1
        session.submit(candidate_of(0))
        assert session.wait() == []
        assert session.num_slots == 2


def test_workers_of_a_cluster_are_sent_this_package_the_users_and_what_was_asked_for(tmp_path: object) -> None:
    runner = RayRunner(address="auto", pip=["timm==1.0.9"], working_dir=str(tmp_path), env={"DATA": "/mnt"})
    sent = runtime_env(runner, ["run_workloads", "nas.model"], num_threads=2)
    assert [path.rsplit("/", 1)[1] for path in sent["py_modules"]] == ["nas", "run_workloads.py"]
    assert sent["env_vars"] == {"OMP_NUM_THREADS": "2", "DATA": "/mnt"}
    assert (sent["pip"], sent["working_dir"]) == (["timm==1.0.9"], str(tmp_path))
    assert "py_modules" not in runtime_env(RayRunner(address="auto", ship=False), [], num_threads=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pip": "timm"}, "runner.pip: must be a list"),
        ({"pip": ["-r x"]}, "got the option"),
        ({"env": {"RAY_AUTH_MODE": "disabled"}}, "runner.env: must leave RAY_AUTH_MODE alone"),
        ({"env": {"a b": "c"}}, "names of variables"),
        ({"working_dir": "/nowhere"}, "must be a folder"),
        ({"heartbeat": "1 ms"}, "runner.heartbeat: must be at least 0.5 s"),
    ],
)
def test_what_workers_cannot_be_sent_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RayRunner(address="auto", **fields)  # type: ignore[arg-type]


def test_what_is_of_use_on_a_cluster_only_is_told() -> None:
    with pytest.raises(UserError, match=r"runner\.pip: is of use on a cluster only"):
        RayRunner(pip=["timm"])


def test_other_versions_and_tokens_are_told_in_one_line() -> None:
    text = (
        "Version mismatch: The cluster was started with:\n    Ray: 2.50.0\n    Python: 3.11.7\n"
        "This process on node 10.0.0.1:0 was started with:\n    Ray: 2.60.0\n    Python: 3.12.1\n"
    )
    assert (
        why_not(RuntimeError(text)) == "it runs Ray 2.50.0 and Python 3.11.7, this process Ray 2.60.0 and Python 3.12.1"
    )
    assert "RAY_AUTH_TOKEN" in why_not(RuntimeError("Unauthenticated: missing token"))
    assert why_not(ValueError("something else\nmore")) == "ValueError: something else"
