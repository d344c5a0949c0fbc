from __future__ import annotations

import math

import pytest

from nas.errors import UserError
from nas.problem.goals import Budget, Objective, budgets_from, objectives_from
from nas.problem.metrics import METRICS, metric_named


def test_a_metric_of_a_device_carries_its_name_in_the_key() -> None:
    assert METRICS["latency"].key("pixel-3") == "latency_ms.pixel-3"
    assert METRICS["accuracy"].key("pixel-3") == "accuracy"


def test_the_table_is_keyed_by_what_users_write_and_names_are_unique() -> None:
    assert all(short == metric.short for short, metric in METRICS.items())
    assert len({metric.name for metric in METRICS.values()}) == len(METRICS)


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"budget\.x: no metric named 'latencie'; did you mean latency\?") as caught:
        metric_named("latencie", where="budget.x")
    assert all(short in caught.value.advice for short in METRICS)


def test_objectives_turn_what_is_maximised_into_a_cost() -> None:
    accuracy, latency = objectives_from(["accuracy", "latency"], device="d")
    assert accuracy == Objective(key="accuracy", metric=METRICS["accuracy"])
    assert (accuracy.sign, latency.sign) == (-1.0, 1.0)
    assert latency.key == "latency_ms.d"


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ([], "must name at least one metric"),
        (["accuracy", "accuracy"], "must name each metric once"),
        (["accuracy", "speed"], "no metric named 'speed'"),
        (["latency", "macs"], "must hold a metric that is learned by training"),
    ],
)
def test_objectives_that_make_no_search_are_refused(names: list[str], part: str) -> None:
    with pytest.raises(UserError, match=part) as caught:
        objectives_from(names, device="d")
    assert caught.value.where == "objectives"


def test_budgets_are_read_in_canonical_units_and_none_is_left_out() -> None:
    limits = {"latency": "0.4 ms", "size": None, "memory": "64 KiB", "macs": "40 M", "accuracy": "95 %"}
    latency, memory, macs, accuracy = budgets_from(limits, device="d", confidence=0.9)
    assert (latency.key, latency.limit, latency.confidence) == ("latency_ms.d", 0.4, 0.9)
    assert (memory.key, memory.limit, memory.confidence) == ("peak_activation_bytes", 65536.0, None)
    assert (macs.limit, accuracy.limit) == (40e6, 0.95)


@pytest.mark.parametrize(
    ("limits", "where"),
    [({"latency": "12 MB"}, "budget.latency"), ({"accuracy": "100 %"}, "budget.accuracy"), ({"x": "1"}, "budget.x")],
)
def test_a_budget_that_cannot_be_meant_is_refused_at_its_field(limits: dict[str, object], where: str) -> None:
    with pytest.raises(UserError) as caught:
        budgets_from(limits, device="d", confidence=0.95)
    assert caught.value.where == where


@pytest.mark.parametrize("confidence", [0.0, 0.49, 1.0, math.nan])
def test_a_confidence_outside_of_its_range_is_refused(confidence: float) -> None:
    with pytest.raises(UserError, match=r"confidence: must be at least 0\.5 and below 1"):
        budgets_from({"latency": "1 ms"}, device="d", confidence=confidence)


def test_a_budget_holds_up_to_and_at_its_limit_and_never_for_nan() -> None:
    latency = Budget(key="latency_ms.d", metric=METRICS["latency"], limit=0.4, confidence=0.95)
    accuracy = Budget(key="accuracy", metric=METRICS["accuracy"], limit=0.9)
    assert [latency.holds(value) for value in (0.4, 0.3, 0.5, math.nan)] == [True, True, False, False]
    assert [accuracy.holds(value) for value in (0.9, 0.95, 0.8, math.nan)] == [True, True, False, False]


def test_a_budget_reads_as_a_person_would_say_it() -> None:
    latency = Budget(key="latency_ms.d", metric=METRICS["latency"], limit=0.4, confidence=0.95)
    accuracy = Budget(key="accuracy", metric=METRICS["accuracy"], limit=0.9)
    assert str(latency) == "latency <= 0.4 ms with 95% confidence"
    assert str(accuracy) == "accuracy >= 90.0 %"


def test_energy_and_memories_of_a_device_are_metrics_like_its_latency() -> None:
    limits = {"energy": "250 uJ", "ram": "256 KiB", "flash": "1 MB"}
    energy, ram, flash = budgets_from(limits, device="d", confidence=0.9)
    assert (energy.key, energy.limit, energy.confidence) == ("energy_mj.d", 0.25, 0.9)
    assert (ram.key, ram.limit, ram.confidence) == ("ram_bytes.d", 262144.0, None)
    assert (flash.key, flash.limit, flash.confidence) == ("flash_bytes.d", 1e6, None)
    assert str(energy) == "energy <= 250 uJ with 90% confidence"
    assert objectives_from(["accuracy", "energy"], device="d")[1].key == "energy_mj.d"


def test_with_several_devices_a_metric_of_a_device_means_each_of_them() -> None:
    keys = [objective.key for objective in objectives_from(["accuracy", "latency", "macs"], device=["a", "b"])]
    assert keys == ["accuracy", "latency_ms.a", "latency_ms.b", "macs"]
    budgets = budgets_from({"latency": "2 ms", "size": "1 MB"}, device=["a", "b"], confidence=0.95)
    assert [budget.key for budget in budgets] == ["latency_ms.a", "latency_ms.b", "size_bytes"]
    assert str(budgets[1]) == "latency on b <= 2 ms with 95% confidence"
    assert str(budgets[2]) == "size <= 1 MB"


def test_an_objective_or_a_budget_may_name_its_device() -> None:
    assert [objective.key for objective in objectives_from(["accuracy", "latency.b"], device=["a", "b"])] == [
        "accuracy", "latency_ms.b",
    ]  # fmt: skip
    given = {"latency": {"a": "2 ms", "b": "5 ms"}, "energy.a": "1 mJ", "ram": {"a": None}}
    found = {budget.key: budget.limit for budget in budgets_from(given, device=["a", "b"], confidence=0.95)}
    assert found == {"latency_ms.a": 2.0, "latency_ms.b": 5.0, "energy_mj.a": 1.0}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"latency": {"c": "2 ms"}}, "budget.latency.c: no device of this search named 'c'"),
        ({"latency.c": "2 ms"}, "budget.latency.c: no device of this search named 'c'"),
        ({"macs": {"a": "2 M"}}, "budget.macs.a: must name no device, macs belongs to none, got 'a'"),
        ({"latency": {"a": "2 MB"}}, "budget.latency.a: must be in a unit of time"),
        ({"latency": "2 ms", "latency.a": "1 ms"}, "budget.latency.a: must be given once"),
    ],
)
def test_a_budget_on_a_device_that_cannot_be_meant_is_refused(limits: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        budgets_from(limits, device=["a", "b"], confidence=0.95)
    assert str(caught.value).startswith(message)


def test_a_metric_is_not_an_objective_twice_by_two_names() -> None:
    with pytest.raises(UserError, match="must name each metric once"):
        objectives_from(["accuracy", "latency", "latency.a"], device=["a", "b"])
