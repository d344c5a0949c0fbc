"""When trials are looked at, what that costs, and the trial that no scheduler touches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import TrialScheduler

from nas.run.tuning_schedulers import (
    FIELDS,
    SCHEDULERS,
    SPARED,
    TOKEN,
    TRIAL,
    Explore,
    SchedulerName,
    Scheduling,
    Sparing,
)
from nas.run.tuning_space import Interval


def scheduling(name: SchedulerName, *, epochs: int = 30, grace: int = 3, interval: int = 10) -> Scheduling:
    return Scheduling(name=name, epochs=epochs, grace=grace, eta=3, interval=interval)


def test_looks_are_where_the_schedulers_decide() -> None:
    assert scheduling("asha").milestones == (3, 9, 27, 30)
    assert scheduling("pbt").milestones == (10, 20, 30)
    assert scheduling("none").milestones == (30,)


def test_only_a_population_takes_states_over() -> None:
    assert [scheduling(name).takes_over for name in SCHEDULERS] == [name == "pbt" for name in SCHEDULERS]


def test_the_epochs_of_asha_are_those_of_its_rungs() -> None:
    # The spared one for 30; of 9 others 9 for 3, 3 for 6 more, 1 for 18 more, a third for 3 more.
    assert scheduling("asha").expected_epochs(10) == pytest.approx(30 + 27 + 18 + 18 + 1)
    assert scheduling("none").expected_epochs(10) == 300


@given(
    epochs=st.integers(1, 200), grace=st.integers(1, 200), trials=st.integers(1, 50), name=st.sampled_from(SCHEDULERS)
)
def test_milestones_rise_to_the_end_and_nothing_costs_more_than_all(
    epochs: int, grace: int, trials: int, name: SchedulerName
) -> None:
    plan = scheduling(name, epochs=epochs, grace=grace, interval=grace)
    assert plan.milestones[-1] == epochs
    assert list(plan.milestones) == sorted(set(plan.milestones))
    assert epochs <= plan.expected_epochs(trials) <= trials * epochs + 1e-6


@dataclass
class Trial:
    config: dict[str, Any]
    status: str = "PENDING"


@dataclass
class Controller:
    trials: list[Trial] = field(default_factory=list)

    def get_trials(self) -> list[Trial]:
        return self.trials


class Strict(TrialScheduler):  # type: ignore[misc]
    """Stops whatever it is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Trial] = []

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        self.told.append(trial)
        return str(self.STOP)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        return tune_controller.get_trials()[-1]


def trials() -> tuple[Trial, Trial]:
    def trial(spared: bool) -> Trial:
        return Trial(config={TRIAL: {SPARED: spared, FIELDS: {}, TOKEN: "0"}})

    return trial(True), trial(False)


@pytest.mark.parametrize("informed", [True, False])
def test_the_spared_trial_goes_on_whatever_the_scheduler_says(informed: bool) -> None:
    strict, (spared, other) = Strict(), trials()
    sparing = Sparing(strict, informed=informed)
    assert sparing.on_trial_result(None, spared, {}) == "CONTINUE"
    assert sparing.on_trial_result(None, other, {}) == "STOP"
    assert [one is spared for one in strict.told] == ([True, False] if informed else [False])


def test_the_spared_trial_begins_first() -> None:
    spared, other = trials()
    sparing = Sparing(Strict(), informed=False)
    assert sparing.choose_trial_to_run(Controller([other, spared])) is spared
    spared.status = "RUNNING"
    assert sparing.choose_trial_to_run(Controller([spared, other])) is other


def test_a_taken_over_state_gets_other_settings_and_a_name_of_its_own() -> None:
    explore = Explore({"rate": Interval(low=0.01, high=1.0, log=True)}, seed=0)
    given_config = {TRIAL: {SPARED: False, FIELDS: {"rate": 0.1}, TOKEN: "0"}}
    first, second = explore(given_config), explore(given_config)
    assert first[TRIAL][FIELDS]["rate"] != 0.1
    assert len({"0", first[TRIAL][TOKEN], second[TRIAL][TOKEN]}) == 3
    assert given_config[TRIAL][FIELDS] == {"rate": 0.1}
