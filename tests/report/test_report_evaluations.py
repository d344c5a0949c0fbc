from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.goals import objectives_from
from nas.report.evaluations import (
    Evaluations,
    best_so_far,
    choice_shares,
    failed_places,
    failures,
    hypervolume_so_far,
    reference_box,
    sample_places,
)
from nas.report.records import Record
from nas.run.progress import FrontVolume
from nas.space.architecture import Architecture

OBJECTIVES = ("accuracy", "latency_ms.here")


def record(accuracy: float | None, latency: float = 1.0, **fields: object) -> Record:
    metrics = {} if accuracy is None else {"accuracy": accuracy}
    status = "failed" if accuracy is None else "complete"
    return {"status": status, "metrics": metrics, "predicted": {"latency_ms.here": latency}, **fields}


def evaluations(*records: Record) -> Evaluations:
    return Evaluations(records=records, objectives=OBJECTIVES)


def test_the_best_is_recorded_where_it_changes_and_at_the_end() -> None:
    history = evaluations(*map(record, [None, 0.5, 0.4, 0.7, 0.7, None]))
    assert best_so_far(history, "accuracy") == {"position": [2, 4, 6], "value": [0.5, 0.7, 0.7]}


def test_the_best_of_a_cost_is_its_smallest() -> None:
    history = evaluations(record(0.5, 3.0), record(0.5, 1.0), record(0.5, 2.0))
    assert best_so_far(history, "latency_ms.here")["value"] == [3.0, 1.0, 1.0]


@pytest.mark.parametrize("records", [(), (record(None),)])
def test_nothing_complete_has_no_best_and_no_front(records: tuple[Record, ...]) -> None:
    history = evaluations(*records)
    assert best_so_far(history, "accuracy") == {"position": [], "value": []}
    assert reference_box([history], {}) is None
    assert not history.on_front.any()
    assert len(sample_places(history)) == 0


def test_hypervolume_of_a_known_front() -> None:
    # In a box of accuracy 0 to 1 by 0 to 4 ms: 0.5 x 3/4, then 0.2 x 1/2 above it; beyond 4 ms nothing counts.
    history = evaluations(record(0.5, 1.0), record(0.7, 2.0), record(None), record(0.9, 5.0))
    box = reference_box([history], {"latency_ms.here": 4.0})
    assert box is not None
    curve = hypervolume_so_far(history, box)
    assert curve["position"] == [1, 2, 3, 4]
    assert curve["value"] == pytest.approx([0.375, 0.475, 0.475, 0.475])


def test_without_a_limit_the_largest_value_seen_bounds_the_box() -> None:
    box = reference_box([evaluations(record(0.5, 1.0)), evaluations(record(0.5, 3.0), record(None, 9.0))], {})
    assert box is not None
    assert [side.tolist() for side in box] == [[-1.0, 0.0], [0.0, 3.0]]


def test_the_hypervolume_is_the_one_that_the_run_shows_as_it_goes() -> None:
    rng = np.random.default_rng(3)
    pairs = rng.random((40, 2)).tolist()
    records = [record(accuracy if accuracy > 0.1 else None, latency) for accuracy, latency in pairs]
    limit = {"latency_ms.here": 0.8}
    volume = FrontVolume(objectives_from(["accuracy", "latency"], device="here"), limit)
    shown = []
    for item in records:
        architecture = Architecture(row=(0,), choices={}, digest="")
        candidate = Candidate(
            index=0, architecture=architecture, fidelity=Fidelity(epochs=1), seed=0, predicted=item["predicted"]
        )
        volume.add(Evaluation(candidate=candidate, status=item["status"], metrics=item["metrics"]))
        shown.append(volume.value)
    history = evaluations(*records)
    box = reference_box([history], limit)
    assert box is not None
    assert hypervolume_so_far(history, box)["value"] == pytest.approx(shown)


def test_measured_figures_go_before_predicted_ones() -> None:
    history = evaluations({**record(0.5, 3.0), "metrics": {"accuracy": 0.5, "latency_ms.here": 2.0}})
    assert history.values("latency_ms.here").tolist() == [2.0]


def test_the_front_leaves_out_what_lacks_a_figure() -> None:
    incomplete = {"status": "complete", "metrics": {"accuracy": 1.0}}
    history = evaluations(incomplete, record(0.5), record(None), record(0.4), record(0.5))
    assert history.on_front.tolist() == [False, True, False, False, True]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.floats(0, 1)), st.floats(0.1, 10)),
        min_size=1,
        max_size=60,
    ),
    st.integers(1, 20),
)
def test_hypervolume_never_falls_and_stays_a_share(items: list[tuple[float | None, float]], points: int) -> None:
    history = evaluations(*(record(accuracy, latency) for accuracy, latency in items))
    box = reference_box([history], {"latency_ms.here": 5.0})
    assert box is not None
    curve = hypervolume_so_far(history, box, num_points=points)
    assert len(curve["value"]) <= points
    assert curve["position"][-1] == len(items)
    assert np.all(np.diff(curve["value"]) >= -1e-12)
    assert all(0 <= value <= 1 + 1e-12 for value in curve["value"])


def test_a_front_found_in_chunks_is_the_front() -> None:
    rng = np.random.default_rng(0)
    items = rng.random((5000, 2))
    history = evaluations(*(record(float(a), float(b)) for a, b in items))
    best = -np.inf
    expected = set()
    for place in np.lexsort((-items[:, 0], items[:, 1])):
        if items[place, 0] > best:
            best = items[place, 0]
            expected.add(int(place))
    assert set(np.flatnonzero(history.on_front).tolist()) == expected


def test_failures_that_differ_in_numbers_only_are_one_kind() -> None:
    history = evaluations(
        record(None, error="NaN after 3 steps", index=7),
        record(None, error="out of memory", index=8),
        record(0.5),
        record(None, error="NaN after 12 steps", index=9),
        record(None, index=10),
    )
    assert [(kind["error"], kind["count"], kind["first"]) for kind in failures(history)] == [
        ("NaN after 3 steps", 2, 7),
        ("out of memory", 1, 8),
        ("no reason recorded", 1, 10),
    ]


def test_very_many_kinds_of_failures_are_summed_and_none_is_lost() -> None:
    letters = ["".join(chr(97 + int(digit)) for digit in f"{place:03d}") for place in range(300)]
    kinds = failures(evaluations(*(record(None, error=text) for text in letters)))
    assert len(kinds) == 41
    assert sum(kind["count"] for kind in kinds) == 300


def test_shares_count_options_of_the_front_and_of_the_reference() -> None:
    search = evaluations(
        record(0.9, 1.0, choices={"kernel": "3", "width": "8"}),
        record(0.5, 2.0, choices={"kernel": "5", "width": "8"}),
    )
    reference = evaluations(record(None, choices={"kernel": "5"}), record(0.1, choices={"kernel": "7"}))
    shares = choice_shares(search, reference, [{"name": "kernel", "labels": ["3", "5"], "ordered": True}])
    kernel, width = shares
    assert kernel["labels"] == ["3", "5", "7"]
    assert (kernel["front"], kernel["reference"], kernel["ordered"]) == ([1, 0, 0], [0, 1, 1], True)
    assert (width["name"], width["front"], width["reference_inactive"]) == ("width", [1], 2)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=80), st.integers(1, 30))
def test_a_sample_is_bounded_complete_and_holds_the_front(accuracies: list[float | None], limit: int) -> None:
    history = evaluations(*(record(accuracy, place + 1.0) for place, accuracy in enumerate(accuracies)))
    places = sample_places(history, limit=limit)
    assert len(places) == min(limit, int(history.complete.sum()))
    assert history.complete[places].all()
    front = set(np.flatnonzero(history.on_front).tolist())
    assert front <= set(places.tolist()) or len(front) > limit
    assert len(failed_places(history, limit=limit)) == min(limit, int((~history.complete).sum()))
