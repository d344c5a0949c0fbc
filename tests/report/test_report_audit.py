from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from nas.report.agreement import Finals, agreements, finals_of, rank_agreement
from nas.report.attribution import attribution
from nas.report.chance import against_chance, random_band
from nas.report.evaluations import Evaluations, reference_box
from nas.report.judged import coded, fidelity_text, judged
from nas.report.neighbours import neighbours
from nas.report.records import Record
from nas.report.relaxing import relaxing

KEY = "latency_ms.here"
NO_FINALS = Finals(epochs=None, validation={}, test={})


def record(name: str, accuracy: float | None, latency: float = 1.0, **fields: Any) -> Record:
    return {
        "digest": name,
        "status": "failed" if accuracy is None else "complete",
        "metrics": {} if accuracy is None else {"accuracy": accuracy},
        "predicted": {KEY: latency},
        "upper": {KEY: 1.1 * latency},
        "fidelity": {"epochs": 6, "resolution": 1.0, "data_share": 1.0},
        **fields,
    }


def budget(limit: float, key: str = KEY) -> dict[str, Any]:
    return {"key": key, "limit": limit, "text": f"{key} {limit}"}


def test_architectures_are_taken_once_and_at_the_fidelity_that_most_have() -> None:
    low = {"epochs": 2}
    records = [record("a", 0.5, fidelity=low), record("b", 0.6, fidelity=low), record("c", 0.7), record("a", 0.8)]
    records += [record("d", None), record("d", 0.1), record("d", None)]
    found = judged(records)
    assert found.digests == ("c", "a", "d")
    assert found.accuracy.tolist() == [0.7, 0.8, 0.1]
    assert fidelity_text(found.fidelity) == "6 epochs"
    assert fidelity_text((("data_share", 0.5), ("epochs", 3.0), ("resolution", 0.75))) == (
        "3 epochs, 50% of the data, resolution x 0.75"
    )


def test_a_budget_is_held_against_the_bound_and_a_cost_is_what_was_predicted() -> None:
    found = judged([record("a", 0.5, 2.0), record("b", 0.5, 2.0, upper={})])
    assert found.cost(KEY).tolist() == [2.0, 2.0]
    assert found.deciding(KEY).tolist() == [2.2, 2.0]
    assert np.isnan(found.cost("macs")).all()


def test_choices_that_the_manifest_lacks_are_coded_behind() -> None:
    records: list[Record] = [{"choices": {"k": "5", "new": "x"}}, {"choices": {"k": "9"}}, {"choices": None}]
    found = coded(records, [{"name": "k", "labels": ["3", "5"], "ordered": True}])
    assert found.names == ("k", "new")
    assert found.labels == (("3", "5", "9"), ("x",))
    assert found.codes.tolist() == [[1, 0], [2, -1], [-1, -1]]
    assert found.ordered == (True, False)


def test_the_interval_of_a_rank_correlation_is_that_of_bonett_and_wright() -> None:
    # By hand: r = 0.5, n = 28 has z = 0.549306, variance (1 + 0.125) / 25, so z from 0.133537 to 0.965076.
    rng = np.random.default_rng(0)
    for _ in range(4000):
        first, second = rng.permutation(28), np.arange(28.0)
        moved = np.where(rng.random(28) < 0.5, first, second)
        found = rank_agreement(moved.astype(np.float64), second)
        assert found is not None
        if abs(float(found["spearman"] or 0) - 0.5) < 0.002:
            break
    else:
        pytest.fail("no sample with that correlation")
    assert (found["spearman_low"], found["spearman_high"]) == pytest.approx((0.1327, 0.7473), abs=0.004)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=40))
def test_rank_correlations_are_those_of_scipy_within_their_intervals(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, dtype=np.float64).T
    found = rank_agreement(first, second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert found is None
        return
    assert found is not None
    assert found["spearman"] == pytest.approx(float(spearmanr(first, second).statistic))
    assert found["kendall"] == pytest.approx(float(kendalltau(first, second).statistic))
    for name in ("spearman", "kendall"):
        value, low, high = (found[f"{name}{part}"] for part in ("", "_low", "_high"))
        if len(pairs) < 5:
            assert low is None
        else:
            assert value is not None
            assert low is not None
            assert high is not None
            assert -1 <= low <= value <= high <= 1


def test_a_perfect_order_of_five_networks_is_no_certainty() -> None:
    found = rank_agreement(np.arange(5.0), np.arange(5.0))
    assert found is not None
    assert found["spearman"] == pytest.approx(1)
    assert (found["spearman_low"] or 1) < 0.8


def test_unknown_judgements_are_left_out_and_two_pairs_are_too_few() -> None:
    assert rank_agreement(np.array([1.0, 2.0, np.nan]), np.array([1.0, 2.0, 3.0])) is None


def test_short_trainings_are_held_against_each_final_judgement() -> None:
    records = [record(name, value) for name, value in zip("abcde", [0.1, 0.2, 0.3, 0.4, 0.5], strict=True)]
    models = {
        name: {"training": {"epochs": 30, "validation_accuracy": 0.9 - place / 10}} for place, name in enumerate("abc")
    }
    files = [
        {"digest": name, "precision": "float32", "accuracy": value}
        for name, value in zip("abc", [0.7, 0.8, 0.9], strict=True)
    ]
    rows = agreements(records, judged(records), finals_of(models, files), left_out={})
    assert [(row["cheap"], row["final"], row["n"], row["spearman"]) for row in rows] == [
        ("accuracy after 6 epochs", "validation accuracy in full after 30 epochs", 3, pytest.approx(-1)),
        ("accuracy after 6 epochs", "test accuracy of the float32 file", 3, pytest.approx(1)),
    ]


def test_rungs_are_held_against_the_next_and_scores_against_the_search() -> None:
    records = [
        record(name, value, fidelity={"epochs": epochs}, predicted={"macs": 1 / value, "score.naswot": value})
        for epochs, values in ((2, [0.1, 0.2, 0.3, 0.4]), (6, [0.3, 0.2, 0.1]))
        for name, value in zip("abcd", values, strict=False)
    ]
    rows = agreements(records, judged(records), NO_FINALS, left_out={"a": 0.1, "b": 0.3, "c": 0.2, "d": 0.9})
    found = {(row["kind"], row["cheap"]): (row["n"], row["spearman"]) for row in rows}
    assert found == {
        ("rung", "accuracy after 2 epochs"): (3, pytest.approx(-1)),
        ("model", "model of the other networks"): (4, pytest.approx(0.8)),
        ("score", "multiply-accumulates alone"): (4, pytest.approx(-1)),
        ("score", "score naswot"): (4, pytest.approx(1)),
    }


def draws(count: int, seed: int, best: float = 1.0) -> Evaluations:
    rng = np.random.default_rng(seed)
    records = [record(str(place), float(best * rng.random()), float(rng.uniform(0.1, 1))) for place in range(count)]
    return Evaluations(records=tuple(records), objectives=("accuracy", KEY))


def test_random_orders_agree_on_the_first_draws_average_and_on_the_end() -> None:
    baseline = Evaluations(
        records=(record("a", 0.5, 0.5), record("b", 0.5, 0.5), record("c", None)), objectives=("accuracy", KEY)
    )
    band = random_band(baseline, (np.array([-1.0, 0.0]), np.array([0.0, 1.0])))
    assert band is not None
    # Each of the two is worth 0.5 x 0.5; the third is none, so the first draw finds it in two of three orders.
    assert band["position"] == [1, 2, 3]
    assert band["mean"][0] == pytest.approx(0.25 * 2 / 3, abs=0.06)
    assert band["mean"][1:] == [0.25, 0.25]
    assert (band["low"][0], band["high"][0]) == (0.0, 0.25)


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 60), st.integers(0, 1000))
def test_the_band_rises_and_holds_its_mean(count: int, seed: int) -> None:
    baseline = draws(count, seed)
    band = random_band(baseline, (np.array([-1.0, 0.0]), np.array([0.0, 1.0])))
    assert band is not None
    assert band["position"][-1] == count
    for name in ("mean", "low", "high"):
        assert np.all(np.diff(band[name]) >= -1e-12), name
    assert band["low"][-1] == pytest.approx(band["high"][-1])
    assert np.all(np.array(band["low"]) <= np.array(band["high"]) + 1e-12)


def test_a_better_search_is_ahead_of_chance_and_says_how_soon() -> None:
    search, baseline = draws(40, 1), draws(40, 2, best=0.5)
    found = against_chance(search, baseline, reference_box([search, baseline], {}))
    assert found is not None
    assert found["shared"] == 40
    assert found["search"] > found["random"]
    assert found["reached_after"] < 40
    assert found["random_needs"] is None


def test_the_random_draws_themselves_are_not_ahead_of_chance() -> None:
    baseline = draws(40, 2)
    found = against_chance(baseline, baseline, reference_box([baseline], {}))
    assert found is not None
    assert found["search"] == pytest.approx(found["random"])
    assert found["random_needs"] is not None


def test_without_a_baseline_nothing_is_said_about_chance() -> None:
    search = draws(5, 0)
    assert against_chance(search, draws(0, 0), reference_box([search], {})) is None
    assert against_chance(search, draws(9, 0), None) is None


def chosen(name: str, accuracy: float | None, latency: float, **choices: str) -> Record:
    return record(name, accuracy, latency, choices=choices)


def test_the_nearest_cheaper_network_differs_in_the_fewest_choices() -> None:
    records = [
        chosen("best", 0.9, 4.0, depth="2", kernel="5", width="16", inner="a"),
        chosen("near", 0.7, 3.0, depth="2", kernel="3", width="16", inner="a"),
        chosen("nearer", 0.8, 2.0, depth="1", kernel="5", width="16"),
        chosen("far", 0.85, 3.0, depth="1", kernel="3", width="8", inner="a"),
        chosen("failed", None, 1.0, depth="2", kernel="5", width="16", inner="a"),
    ]
    found = neighbours(judged(records), [], [KEY], shipped=["best"], num_images=100)
    assert found is not None
    (pair,) = found["pairs"]
    # One choice differs in both; the one that takes nothing else with it is nearer.
    assert (pair["member"]["digest"], pair["neighbour"]["digest"]) == ("best", "near")
    assert pair["changes"] == [{"name": "kernel", "from": "5", "to": "3"}]
    assert pair["switched"] == []
    fewer = neighbours(judged([records[0], *records[2:]]), [], [KEY], shipped=["best"], num_images=None)
    assert fewer is not None
    assert fewer["pairs"][0]["neighbour"] == {"digest": "nearer", "accuracy": 0.8, "interval": None, "cost": 2.0}
    assert fewer["pairs"][0]["switched"] == ["inner"]


def test_without_exported_files_the_front_of_the_search_is_looked_at_and_its_cheapest_has_no_neighbour() -> None:
    records = [chosen("a", 0.9, 4.0, k="1"), chosen("b", 0.8, 2.0, k="2"), chosen("c", 0.7, 3.0, k="3")]
    found = neighbours(judged(records), [], ["macs", KEY], shipped=[], num_images=100)
    assert found is not None
    assert found["cost"] == KEY
    assert [pair["member"]["digest"] for pair in found["pairs"]] == ["a", "b"]
    assert found["pairs"][-1]["neighbour"] is None
    assert neighbours(judged(records), [], ["macs"], shipped=[], num_images=100) is None


def test_the_worth_of_a_budget_is_the_best_within_it_and_around_it() -> None:
    accuracies = {0.5: 0.6, 0.85: 0.7, 0.98: 0.75, 1.15: 0.8, 2.0: 0.9}
    records = [record(str(bound), value, bound / 1.1) for bound, value in accuracies.items()]
    (found,) = relaxing(judged([*records, record("x", None, 0.1)]), [budget(1.0)], cost=KEY, num_images=100)
    assert found["curve"]["limit"] == pytest.approx(list(accuracies))
    assert found["curve"]["value"] == list(accuracies.values())
    assert (found["best"]["value"], found["best"]["spent"]) == (0.75, pytest.approx(0.98))
    assert found["tighter"]["value"] == 0.6
    assert found["looser"]["value"] == 0.8
    assert (found["beyond"], found["best_beyond"]["value"], found["binds"]) == (2, 0.9, True)


def test_other_budgets_hold_and_nothing_beyond_is_made_up() -> None:
    records = [
        record(name, value, 0.5, predicted={KEY: 0.5, "size_bytes": size})
        for name, value, size in (("a", 0.6, 10), ("b", 0.9, 99))
    ]
    latency, size = relaxing(judged(records), [budget(1.0), budget(50.0, "size_bytes")], cost=KEY, num_images=None)
    assert latency["best"]["digest"] == "a"
    assert (latency["looser"], latency["beyond"], latency["binds"]) == (None, 0, False)
    assert (size["best"]["digest"], size["best_beyond"]["digest"], size["beyond"]) == ("a", "b", 1)
    assert size["looser"]["digest"] == "a"


def test_an_accuracy_budget_is_traded_for_the_leading_cost() -> None:
    records = [record("a", 0.95, 3.0), record("b", 0.91, 2.0), record("c", 0.85, 1.0)]
    (found,) = relaxing(judged(records), [budget(0.9, "accuracy")], cost=KEY, num_images=100)
    assert found["target"] == KEY
    assert (found["steps"]["tighter"], found["steps"]["looser"]) == pytest.approx((0.92, 0.88))
    assert (found["best"]["value"], found["tighter"]["value"], found["best_beyond"]["value"]) == (2.0, 3.0, 1.0)
    assert found["curve"] == {"limit": [0.95, 0.91, 0.85], "value": [3.0, 2.0, 1.0]}


def test_a_latency_is_put_down_to_the_choice_that_makes_it_and_noise_to_none() -> None:
    rng = np.random.default_rng(0)
    choices = [{"name": name, "labels": ["1", "2", "4"], "ordered": True} for name in ("width", "depth", "idle")]
    records = []
    for place in range(60):
        width, depth, idle = (str(rng.choice(["1", "2", "4"])) for _ in range(3))
        latency = int(width) ** 2 * (1 + 0.1 * int(depth))
        records.append(chosen(str(place), float(rng.random()), latency, width=width, depth=depth, idle=idle))
    found = attribution(judged(records), choices, [KEY, "macs"])
    accuracy, latency_part, macs = found.part["figures"]
    assert not accuracy["tells"]
    assert latency_part["tells"]
    assert [choice["name"] for choice in latency_part["choices"]][:2] == ["width", "depth"]
    steps = [option["effect"] for option in latency_part["choices"][0]["options"]]
    assert (1 + steps[2]) / (1 + steps[0]) == pytest.approx(16, rel=0.1)
    assert "fewer than" in macs["reason"]
    assert len(found.left_out) == 60


def test_a_long_history_is_taken_apart_from_a_stated_number_of_networks() -> None:
    rng = np.random.default_rng(0)
    records = [
        chosen(
            str(place),
            float(rng.random()),
            float(rng.random() + 0.1),
            **{f"c{k}": str(rng.integers(3)) for k in range(20)},
        )
        for place in range(12_000)
    ]
    started = time.process_time()
    found = attribution(judged(records), [], [KEY]).part["figures"][0]
    assert time.process_time() - started < 10
    assert (found["n"], found["used"]) == (12_000, 300)
