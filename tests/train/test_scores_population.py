"""Scores of populations, and what they keep a strategy from training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from nas.errors import UserError
from nas.model.costs import network_costs
from nas.problem.goals import objectives_from
from nas.problem.history import History
from nas.space.moves import enumerate_rows, sample
from nas.space.space import SearchSpace
from nas.strategy.problem import Population, Screening, SearchProblem
from nas.strategy.random_search import RandomSearch
from nas.train.scores import population as population_module
from nas.train.scores.population import PopulationScores
from nas.train.scores.preselect import Preselect
from nas.train.task import ImageClassification

SPACE = SearchSpace.from_template(
    {
        "name": "small",
        "input": {"resolution": {"choose": [1.0, 1.5]}},
        "network": [
            {"name": "a", "op": "conv", "channels": {"choose": [4, 8]}, "kernel": {"choose": [1, 3]}},
            {"name": "b", "op": "conv", "channels": 8, "groups": {"choose": [1, 4]}},
            {"choose": ["identity", {"op": "conv", "channels": 16, "stride": 2}], "name": "c"},
            {"op": "classifier"},
        ],
    }
)
NAMES = ["macs", "naswot", "synflow", "expressivity", "trainability"]
NONE = np.zeros((0, SPACE.num_choices), dtype=np.int16)


@pytest.fixture(scope="module")
def scores(digits: ImageClassification) -> PopulationScores:
    return PopulationScores(SPACE, digits, NAMES, batch_size=16)


def test_each_network_is_scored_once(digits: ImageClassification, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    compute = population_module.score_network
    monkeypatch.setattr(
        population_module, "score_network", lambda *args, **given: calls.append(1) or compute(*args, **given)
    )
    fresh = PopulationScores(SPACE, digits, NAMES, batch_size=16)
    rows = sample(SPACE, 5, np.random.default_rng(0))
    distinct = len({SPACE.architecture(row).digest for row in rows})
    first, again = fresh(rows), fresh(rows[::-1])
    assert len(calls) == len(fresh) == distinct
    for name in NAMES:
        np.testing.assert_array_equal(first[name], again[name][::-1])


def test_scores_do_not_depend_on_what_was_scored_before(digits: ImageClassification, scores: PopulationScores) -> None:
    rows = sample(SPACE, 4, np.random.default_rng(1))
    together = scores(rows)
    alone = PopulationScores(SPACE, digits, NAMES, batch_size=16)(rows[-1:])
    assert {name: values[0] for name, values in alone.items()} == {name: together[name][-1] for name in NAMES}


def test_an_empty_population_has_empty_scores(scores: PopulationScores) -> None:
    assert {name: values.shape for name, values in scores(NONE).items()} == dict.fromkeys(NAMES, (0,))


def test_networks_are_scored_at_their_own_resolution(scores: PopulationScores) -> None:
    row = {"resolution": 1.0, "a.channels": 4, "a.kernel": 3, "b.groups": 1, "c": "identity"}
    rows = [SPACE.row({**row, "resolution": resolution}) for resolution in (1.0, 1.5)]
    small, large = scores(np.stack(rows))["macs"]
    linear = 8 * 10
    assert (large - linear) == pytest.approx((small - linear) * 1.5**2)


def test_a_network_that_cannot_be_built_has_nan_and_no_exception(digits: ImageClassification) -> None:
    space = SearchSpace.from_template(
        {
            "name": "misfit",
            "network": [{"op": "conv", "channels": 6, "groups": {"choose": [1, 5]}}, {"op": "classifier"}],
        }
    )
    values = PopulationScores(space, digits, ["macs", "naswot"], batch_size=8)(enumerate_rows(space))
    assert np.isfinite(values["macs"]).tolist() == [True, False]
    assert np.isfinite(values["naswot"]).tolist() == [True, False]


def test_scoring_leaves_the_random_state_alone(digits: ImageClassification) -> None:
    before = torch.get_rng_state()
    PopulationScores(SPACE, digits, NAMES, batch_size=8)(enumerate_rows(SPACE)[:1])
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_score_or_too_small_a_batch_is_refused(digits: ImageClassification) -> None:
    with pytest.raises(UserError, match="nope"):
        PopulationScores(SPACE, digits, ["nope"])
    with pytest.raises(UserError, match="at least 4"):
        PopulationScores(SPACE, digits, ["macs"], batch_size=3)


WIDTHS = list(range(1, 33))
FLAT = SearchSpace.from_template(
    {
        "name": "flat",
        "network": [{"op": "conv", "channels": {"choose": WIDTHS}}, {"op": "conv", "kernel": {"choose": [1, 3, 5, 7]}}],
    }
)


def screen(rows: Population) -> Screening:
    cost = np.array(WIDTHS, dtype=np.float64)[rows[:, 0]]
    return Screening(feasible=cost <= 24, buildable=np.ones(len(rows), dtype=bool), predicted={"macs": cost})


PROBLEM = SearchProblem(space=FLAT, objectives=objectives_from(["accuracy", "macs"], device="x"), screen=screen)
NOTHING = np.zeros((0, 2), dtype=np.int16)


@dataclass(frozen=True)
class Quality:
    """A score that depends more on the cost than on the kernel, and is NaN for the largest kernel."""

    asked: list[int] = field(default_factory=list)

    def __call__(self, rows: Population) -> Mapping[str, np.ndarray]:
        self.asked.append(len(rows))
        values = 0.5 * rows[:, 0] + rows[:, 1]
        return {"quality": np.where(rows[:, 1] == 3, np.nan, values)}


def proposals(strategy: Preselect, n: int = 6, *, seeds: int = 20) -> Population:
    drawn = [strategy.propose(PROBLEM, History(), NOTHING, n, np.random.default_rng(seed)) for seed in range(seeds)]
    assert all(len(rows) == n for rows in drawn)
    return np.concatenate(drawn)


def test_rows_are_judged_against_rows_of_like_cost() -> None:
    chosen = proposals(Preselect(strategy=RandomSearch(), scores=Quality(), reference=300, neighbours=12))
    plain = proposals(replace(Preselect(strategy=RandomSearch(), scores=Quality()), until=0))
    middle = [1, 2]  # better kernels; 0 is poor and 3 has no score
    share = np.isin(chosen[:, 1], middle).mean()
    assert np.isin(plain[:, 1], middle).mean() == pytest.approx(0.5, abs=0.1)
    assert share > 0.65
    # The dearest network scores 12 above the cheapest, the kernels differ by 2: yet cheap rows are not passed over.
    assert chosen[:, 0].mean() == pytest.approx(plain[:, 0].mean(), abs=1.5)


def test_a_strategy_is_left_alone_after_the_first_evaluations() -> None:
    scores = Quality()
    proposals(Preselect(strategy=RandomSearch(), scores=scores, until=0))
    assert scores.asked == []


def test_equal_arguments_give_equal_proposals() -> None:
    strategy = Preselect(strategy=RandomSearch(), scores=Quality())
    np.testing.assert_array_equal(proposals(strategy), proposals(strategy))


def test_all_that_is_left_is_proposed_even_if_it_scores_badly() -> None:
    strategy = Preselect(strategy=RandomSearch(), scores=Quality())
    everything = 24 * 4
    rows = strategy.propose(PROBLEM, History(), NOTHING, everything, np.random.default_rng(0))
    assert len(np.unique(rows, axis=0)) == everything


@pytest.mark.parametrize("wrong", [{"share": 1.0}, {"share": 0}, {"until": -1}, {"neighbours": 99}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        Preselect(strategy=RandomSearch(), scores=Quality(), **wrong)


def test_the_network_that_is_scored_is_the_one_that_would_be_trained(scores: PopulationScores) -> None:
    rows = sample(SPACE, 6, np.random.default_rng(4))
    expected = [network_costs(SPACE.network(row), input_shape=(1, 8, 8), num_classes=10).macs for row in rows]
    assert scores(rows)["macs"].tolist() == expected
