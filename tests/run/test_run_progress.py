from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.front import hypervolume
from nas.problem.goals import objectives_from
from nas.run.progress import FrontVolume, Tally
from nas.space.architecture import Architecture

OBJECTIVES = objectives_from(["accuracy", "latency"], device="d")
KEY = "latency_ms.d"


def evaluation(accuracy: float, latency: float, *, status: str = "complete", seconds: float = 2.0) -> Evaluation:
    candidate = Candidate(
        index=0,
        architecture=Architecture(row=(0,), choices={}, digest="0"),
        fidelity=Fidelity(epochs=1),
        seed=0,
        predicted={KEY: latency},
    )
    return Evaluation(candidate=candidate, status=status, metrics={"accuracy": accuracy}, seconds=seconds)  # type: ignore[arg-type]


def test_the_hypervolume_is_the_share_of_the_box_between_ideal_and_reference() -> None:
    volume = FrontVolume(OBJECTIVES, {KEY: 2.0})
    assert volume.value == 0
    volume.add(evaluation(0.5, 1.0))
    assert volume.value == pytest.approx(0.25)
    volume.add(evaluation(0.75, 1.5))  # adds 0.25 of accuracy over a quarter of the latencies
    assert volume.value == pytest.approx(0.25 + 0.25 * 0.25)
    volume.add(evaluation(1.0, 0.0))
    assert volume.value == pytest.approx(1.0)


def test_failed_missing_and_too_slow_evaluations_add_nothing() -> None:
    volume = FrontVolume(OBJECTIVES, {KEY: 2.0})
    for other in (
        evaluation(0.9, 0.1, status="failed"),
        evaluation(math.nan, 0.1),
        evaluation(0.9, math.nan),
        evaluation(0.9, 2.5),
    ):
        volume.add(other)
        assert volume.value == 0


def test_without_a_reference_there_is_no_hypervolume() -> None:
    volume = FrontVolume(OBJECTIVES, {})
    volume.add(evaluation(0.9, 0.1))
    assert math.isnan(volume.value)


@given(points=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 3)), min_size=1, max_size=30))
def test_the_growing_hypervolume_equals_that_of_all_points_at_once(points: list[tuple[float, float]]) -> None:
    volume = FrontVolume(OBJECTIVES, {KEY: 2.0})
    for accuracy, latency in points:
        volume.add(evaluation(accuracy, latency))
    costs = np.array([(-accuracy, latency / 2) for accuracy, latency in points])
    assert volume.value == pytest.approx(hypervolume(costs, [0.0, 1.0]), abs=1e-12)


def test_the_tally_counts_keeps_the_best_and_reckons_the_time_left() -> None:
    tally = Tally(OBJECTIVES, total=10, reference={}, earlier=[evaluation(0.5, 1.0, seconds=1.0)])
    tally.add(evaluation(0.9, 3.0, seconds=3.0))
    tally.add(evaluation(0.99, 0.1, status="timeout", seconds=2.0))
    moment = tally.progress(running=2, num_slots=2)
    assert (moment.done, moment.failed, moment.running, moment.total) == (3, 1, 2, 10)
    assert moment.best == {"accuracy": 0.9, KEY: 1.0}
    assert moment.seconds_left == pytest.approx(2.0 * 7 / 2)
