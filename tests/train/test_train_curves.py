"""Learning curves, and the rate at which trainings are stopped by mistake."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from nas.problem.evaluation import Candidate, Evaluation, Fidelity, Status
from nas.problem.goals import objectives_from
from nas.problem.history import History
from nas.problem.records import evaluation_from_record, evaluation_to_record
from nas.space.architecture import Architecture
from nas.space.space import SearchSpace
from nas.train.curves import StopRule, gains, largest_gains
from nas.train.curves_watch import HopelessError, watch
from nas.train.evaluate import TrainingEvaluate
from nas.train.fit import fit
from nas.train.recipe import Recipe
from nas.train.task import ImageClassification

KEY = "latency_ms.d"
OBJECTIVES = objectives_from(["accuracy", "latency"], device="d")
EPOCHS = 6
FIDELITY = Fidelity(epochs=EPOCHS)


def candidate(index: int, latency: float, *, stop_below: tuple[float, ...] = (), epochs: int = EPOCHS) -> Candidate:
    return Candidate(
        index=index,
        architecture=Architecture(row=(index,), choices={}, digest=f"{index:04x}"),
        fidelity=Fidelity(epochs=epochs),
        seed=index,
        predicted={KEY: latency},
        stop_below=stop_below,
    )


def ended(of: Candidate, curve: tuple[float, ...], *, status: Status = "complete") -> Evaluation:
    metrics = {"accuracy": curve[-1]} if status == "complete" else {}
    return Evaluation(candidate=of, status=status, metrics=metrics, curve=curve)


def curves(n: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``(n,)`` latencies and ``(n, EPOCHS)`` curves like those of cells: slow and fast learners, dearer is better."""
    latency = rng.uniform(1, 10, n)
    end = 0.93 - 0.25 * np.exp(-latency / 3) - 0.06 * rng.gamma(1.0, 1.0, n)
    speed = rng.lognormal(0.0, 0.4, n) / (0.7 + 0.06 * latency)
    steps = np.arange(1, EPOCHS + 1)
    rise = 1 - np.exp(-speed[:, None] * steps) * (EPOCHS - steps) / EPOCHS
    noise = 0.01 * rng.standard_normal((n, EPOCHS))
    noise[:, -1] = 0.0
    return latency, np.clip(end[:, None] * rise + noise, 0.05, 1.0)


def simulate(rule: StopRule, n: int, rng: np.random.Generator) -> tuple[float, float]:
    """Share of trainings stopped by mistake, and share of epochs saved, over a search of ``n`` candidates."""
    latency, found = curves(n, rng)
    history = History()
    mistakes, saved = 0, 0
    for k in range(n):
        fresh = candidate(k, latency[k])
        below = rule(OBJECTIVES, history, fresh)
        hit = next((e for e in range(min(len(below), EPOCHS - 1)) if found[k, e] < below[e]), None)
        rivals = [
            e.metrics["accuracy"]
            for e in history
            if e.status == "complete" and latency[e.candidate.index] <= latency[k]
        ]
        if hit is None:
            history.append(ended(replace(fresh, stop_below=below), tuple(found[k])))
        else:
            saved += EPOCHS - hit - 1
            mistakes += found[k, -1] >= max(rivals)
            history.append(ended(replace(fresh, stop_below=below), tuple(found[k, : hit + 1]), status="stopped"))
    return mistakes / n, saved / (n * EPOCHS)


def test_no_more_trainings_are_stopped_by_mistake_than_stated_and_many_epochs_are_saved() -> None:
    rng = np.random.default_rng(0)
    outcomes = np.array([simulate(StopRule(rate=0.05), 100, rng) for _ in range(30)])
    mistakes, saved = outcomes.mean(axis=0)
    assert mistakes <= 0.05
    assert saved >= 0.1


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_the_largest_gain_is_exceeded_as_often_as_stated(rate: float) -> None:
    rng = np.random.default_rng(1)
    exceeded = []
    for _ in range(400):
        _, found = curves(41, rng)
        rises = found[:, -1:] - found[:, :-1]
        most = largest_gains(rises[:-1], rate)
        assert most is not None
        exceeded.append(bool((rises[-1] > most).any()))
    # Conformal: at most the rate, plus the error of 400 draws and of the common scale.
    assert np.mean(exceeded) == pytest.approx(rate, abs=0.035)


@given(num=st.integers(0, 60), rate=st.sampled_from([0.05, 0.1, 0.5]))
def test_a_rate_needs_its_number_of_trainings(num: int, rate: float) -> None:
    found = np.random.default_rng(num).uniform(0, 1, (num, 3))
    most = largest_gains(found, rate)
    # A 1e-9 for rates that binary fractions only approximate.
    assert (most is None) == (math.ceil((num + 1) * (1 - rate)) > num)


def test_an_epoch_without_values_stops_nobody() -> None:
    found = np.random.default_rng(0).uniform(0, 0.1, (40, 2))
    found[3, 0] = np.nan
    most = largest_gains(found, 0.05)
    assert most is not None
    assert np.isinf(most[0])
    assert np.isfinite(most[1])
    assert largest_gains(np.full((40, 2), np.nan), 0.05) is None


def learned(n: int = 40, *, latency: float = 5.0, epochs: int = EPOCHS) -> History:
    """Trainings that gain 0.1 a step and end at 0.9, at one latency."""
    curve = tuple(0.9 - 0.1 * (epochs - 1 - k) for k in range(epochs))
    return History(ended(candidate(k, latency, epochs=epochs), curve) for k in range(n))


def test_a_candidate_must_come_within_the_largest_gain_of_the_best_that_costs_no_more() -> None:
    below = StopRule(rate=0.05)(OBJECTIVES, learned(), candidate(41, 6.0))
    assert below == pytest.approx((0.4, 0.5, 0.6, 0.7, 0.8), abs=0.01)


def test_the_cheapest_is_never_hopeless_and_neither_is_each_fourth() -> None:
    rule = StopRule(rate=0.05)
    assert rule(OBJECTIVES, learned(), candidate(41, 4.9)) == ()
    assert rule(OBJECTIVES, learned(), candidate(44, 6.0)) == ()
    assert rule(OBJECTIVES, learned(18), candidate(19, 6.0)) == ()


def test_only_trainings_of_the_same_fidelity_that_were_free_to_end_count() -> None:
    rule = StopRule(rate=0.05)
    assert rule(OBJECTIVES, learned(epochs=3), candidate(41, 6.0)) == ()
    watched = History(
        ended(replace(e.candidate, stop_below=(0.1,)), e.curve) if e.candidate.index % 4 else e for e in learned()
    )
    assert rule(OBJECTIVES, watched, candidate(41, 6.0)) == ()


def test_without_a_known_cost_nothing_is_hopeless() -> None:
    unknown = replace(candidate(41, 6.0), predicted={})
    assert StopRule(rate=0.05)(OBJECTIVES, learned(), unknown) == ()
    assert StopRule(rate=0.05)(OBJECTIVES[1:], learned(), candidate(41, 6.0)) == ()


def test_curves_of_another_length_teach_nothing() -> None:
    assert gains(list(learned(3, epochs=4)), EPOCHS).shape == (0, EPOCHS - 1)
    assert gains(list(learned(3)), EPOCHS) == pytest.approx(np.tile([0.5, 0.4, 0.3, 0.2, 0.1], (3, 1)))


def test_curves_and_thresholds_are_kept_in_the_history_and_older_runs_have_none() -> None:
    stopped = ended(candidate(1, 2.0, stop_below=(0.0, 0.5)), (0.2, 0.4), status="stopped")
    record = evaluation_to_record(stopped)
    assert (record["curve"], record["stop_below"]) == ([0.2, 0.4], [0.0, 0.5])
    assert evaluation_from_record(record) == stopped
    plain = replace(ended(candidate(1, 2.0), (0.5,)), curve=())
    older = {key: value for key, value in evaluation_to_record(plain).items() if key not in ("curve", "stop_below")}
    assert evaluation_from_record(older) == plain
    resumed = evaluation_to_record(ended(candidate(1, 2.0), (math.nan, 0.5)))
    assert resumed["curve"] == [None, 0.5]
    assert math.isnan(evaluation_from_record(resumed).curve[0])


RECIPE = Recipe(learning_rate=0.05, batch_size=32)


def test_a_watched_training_is_the_same_to_the_last_bit(
    few_digits: ImageClassification, small_net: Callable[..., nn.Module]
) -> None:
    weights = []
    for watched in (False, True):
        module = small_net()
        found = fit(module, few_digits, RECIPE, fidelity=Fidelity(epochs=3), seed=0, watched=watched)
        assert (len(found.curve) == 3) == watched
        weights.append((module.state_dict(), found.train_losses, found.metrics["accuracy"]))
    (one, losses, accuracy), (other, other_losses, other_accuracy) = weights
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (losses, accuracy) == (other_losses, other_accuracy)
    assert found.curve[-1] == accuracy


def test_a_training_below_its_threshold_ends_there_and_leaves_its_checkpoint(
    few_digits: ImageClassification, small_net: Callable[..., nn.Module], tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(HopelessError, match=r"^stopped after epoch 2 of 4: [\d.]+% validation accuracy") as caught:
        fit(
            small_net(), few_digits, RECIPE, fidelity=Fidelity(epochs=4), seed=0, stop_below=(0.0, 1.01, 1.0),
            checkpoint=path,
        )  # fmt: skip
    assert len(caught.value.curve) == 2
    resumed = fit(small_net(), few_digits, RECIPE, fidelity=Fidelity(epochs=4), seed=0, watched=True, checkpoint=path)
    assert resumed.resumed_epochs == 2
    assert [math.isnan(value) for value in resumed.curve] == [True, True, False, False]


def test_the_last_epoch_is_never_stopped(few_digits: ImageClassification, small_net: Callable[..., nn.Module]) -> None:
    found = fit(small_net(), few_digits, RECIPE, fidelity=Fidelity(epochs=1), seed=0, stop_below=(1.01,))
    assert found.curve == (found.metrics["accuracy"],)


def test_what_is_watched_holds_all_classes_and_is_the_same_for_all(digits: ImageClassification) -> None:
    one, other = (
        watch(digits, "validation", size=(8, 8), num_trained=1200, device=torch.device("cpu")) for _ in range(2)
    )
    assert len(one.labels) == 100
    assert torch.equal(one.pixels, other.pixels)
    assert set(one.labels.tolist()) == set(range(10))
    assert len(watch(digits, "validation", size=(8, 8), num_trained=10**6, device=torch.device("cpu")).labels) == len(
        digits.data.splits["validation"]
    )


SPACE = SearchSpace.from_template(
    {
        "name": "digits",
        "network": [
            {"op": "conv", "channels": {"choose": [2, 4, 8, 16]}, "kernel": {"choose": [1, 3]}, "stride": 2},
            {"op": "conv", "channels": {"choose": [2, 8, 16]}, "kernel": 3},
            {"op": "classifier"},
        ],
    }
)


def test_real_trainings_are_stopped_and_recorded_with_their_curve(few_digits: ImageClassification) -> None:
    evaluate = TrainingEvaluate(space=SPACE, task=few_digits, recipe=RECIPE)
    fresh = Candidate(index=0, architecture=SPACE.architecture((3, 1, 2)), fidelity=Fidelity(epochs=3), seed=1)
    whole = evaluate(fresh)
    assert (whole.status, len(whole.curve), whole.curve[-1]) == ("complete", 3, whole.metrics["accuracy"])
    stopped = evaluate(replace(fresh, stop_below=(0.0, 1.01)))
    assert (stopped.status, stopped.metrics, stopped.curve) == ("stopped", {}, whole.curve[:2])
    assert stopped.error.startswith("stopped after epoch 2 of 3: ")
    assert evaluate(replace(fresh, fidelity=Fidelity(epochs=1))).curve != ()
    assert replace(evaluate, watched=False)(fresh).curve == ()


def test_real_digits_runs_lose_no_more_than_stated(few_digits: ImageClassification) -> None:
    evaluate = TrainingEvaluate(space=SPACE, task=few_digits, recipe=RECIPE)
    rng = np.random.default_rng(0)
    rows = np.array([(a, b, c) for a in range(4) for b in range(2) for c in range(3)])
    trained = []
    for index, row in enumerate(rows):
        fresh = Candidate(
            index=index,
            architecture=SPACE.architecture(tuple(int(option) for option in row)),
            fidelity=Fidelity(epochs=3),
            seed=index,
            predicted={KEY: float(1 + row.sum())},
        )
        trained.append(evaluate(fresh))
    rule, mistakes, stopped = StopRule(rate=0.2), 0, 0
    shuffles = 20
    for _ in range(shuffles):
        history = History()
        for place, choice in enumerate(rng.permutation(len(trained))):
            found = replace(trained[choice], candidate=replace(trained[choice].candidate, index=place))
            below = rule(OBJECTIVES, history, found.candidate)
            told = replace(found, candidate=replace(found.candidate, stop_below=below))
            if any(value < least for value, least in zip(found.curve[:-1], below, strict=False)):
                stopped += 1
                rivals = [
                    e.metrics["accuracy"]
                    for e in history
                    if e.status == "complete" and e.candidate.predicted[KEY] <= found.candidate.predicted[KEY]
                ]
                mistakes += found.metrics["accuracy"] >= max(rivals)
                told = replace(told, status="stopped", metrics={})
            history.append(told)
    assert stopped > 0
    assert mistakes <= 0.2 * shuffles * len(trained)
