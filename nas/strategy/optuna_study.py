"""A study in Optuna's terms, made from a part of the history and thrown away after one proposal.

Responsible for the translation: rows to trials and back. The history stays the only state, so that a resumed search
continues as if it had not been interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from nas.problem.front import elite
from nas.space.choice import Choice
from nas.space.moves import canonical
from nas.space.space import SearchSpace
from nas.strategy.problem import Population

_SOME_TIME = datetime(2000, 1, 1)  # a finished trial must have times; no sampler looks at them


def make_study(sampler: optuna.samplers.BaseSampler, *, num_objectives: int) -> optuna.Study:
    """An empty in-memory study that minimises; Optuna's log level is what it was before."""
    with _quiet():
        return optuna.create_study(sampler=sampler, directions=["minimize"] * num_objectives)


def best_and_latest(
    costs: NDArray[np.float64], judged: NDArray[np.int64], size: int, *, num_best: int
) -> NDArray[np.int64]:
    """At most ``size`` positions out of ``judged``, rising: the ``num_best`` best, and the latest of the others."""
    if len(judged) <= size:
        return judged
    best = judged[elite(costs[judged], num_best)]
    latest = judged[~np.isin(judged, best)][len(best) - size :]
    return np.sort(np.concatenate([best, latest]))


def make_trials(
    space: SearchSpace,
    rows: Population,
    costs: NDArray[np.float64] | None,
    rng: np.random.Generator,
    *,
    system_attrs: Mapping[str, object] | None = None,
) -> list[FrozenTrial]:
    """Rows (n, m) as complete trials with ``costs`` (n, k), or as running ones where there are no costs.

    Optuna learns jointly only from parameters that all trials have. An inactive choice therefore gets a random option:
    it says nothing there, and inherited into an active place it is a fair draw.
    """
    distributions = distributions_of(space)
    columns = _columns(space)
    return [
        _Trial(
            number=-1,
            trial_id=-1,
            state=TrialState.RUNNING if costs is None else TrialState.COMPLETE,
            value=None,
            values=None if costs is None else costs[position].tolist(),
            datetime_start=_SOME_TIME,
            datetime_complete=None if costs is None else _SOME_TIME,
            params={name: options[column] for name, column in columns},
            distributions=distributions,
            user_attrs={},
            system_attrs=dict(system_attrs or {}),
            intermediate_values={},
        )
        for position, options in enumerate(_filled(space, rows, rng).tolist())
    ]


class _Trial(FrozenTrial):  # type: ignore[misc]  # optuna is not followed by the type checker
    """A trial that a study takes as it is: copying it with all its distributions would be half of a proposal's cost."""

    def __deepcopy__(self, memo: dict[int, object]) -> _Trial:
        return self


def ask_rows(study: optuna.Study, space: SearchSpace, n: int, rng: np.random.Generator) -> Population:
    """(n, m) canonical rows that the study's sampler suggests next; the study counts them as running."""
    distributions = distributions_of(space)
    rows = _filled(space, np.full((n, len(space.choices)), -1, dtype=np.int16), rng)
    for row in rows:
        params = study.ask(fixed_distributions=distributions).params
        for name, column in _columns(space):
            row[column] = params[name]
    return canonical(space, rows)


def distributions_of(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The choices that have more than one option, as distributions of option indices."""
    return {name: _distribution(space.choices[column]) for name, column in _columns(space)}


def _columns(space: SearchSpace) -> list[tuple[str, int]]:
    """Parameter name and column of each choice with more than one option; names sort like columns."""
    return [(f"{column:05d}", column) for column, choice in enumerate(space.choices) if len(choice.options) > 1]


def _distribution(choice: Choice) -> BaseDistribution:
    num_options = len(choice.options)
    return IntDistribution(0, num_options - 1) if choice.ordered else CategoricalDistribution(range(num_options))


def _filled(space: SearchSpace, rows: Population, rng: np.random.Generator) -> Population:
    """The rows with a random option wherever a choice is inactive."""
    num_options = np.array([len(choice.options) for choice in space.choices])
    drawn = rng.integers(num_options, size=rows.shape)
    return np.where(rows < 0, drawn, rows).astype(np.int16)


@contextmanager
def _quiet() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(level, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
