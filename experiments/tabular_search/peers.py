"""Optimisers of other libraries on the same tables, each as its own library runs it.

Responsible for a fair comparison: a peer proposes, is told both objectives, and pays only for rows of the table that
are new to it. What is known before an evaluation is of no use to them: they are black-box optimisers.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from table import TableProblem

from nas.strategy.problem import Population

Proposals = Callable[[TableProblem, int, int, "Told"], Iterator[Population]]
"""(problem, budget, seed, told) -> rows; what came of a row can be looked up in ``told`` once the next is asked for."""

Told = dict[bytes, tuple[float, float]]
PATIENCE = 200  # proposals in a row that bring nothing new, after which a new row is drawn for the peer


def optuna_peer(make: Callable[[int], object]) -> Proposals:
    """A sampler of Optuna on the choices as categories."""

    def propose(problem: TableProblem, budget: int, seed: int, told: Told) -> Iterator[Population]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        space = problem.table.space
        kinds = {
            f"{k:04d}": optuna.distributions.CategoricalDistribution(range(choice.num_options))
            for k, choice in enumerate(space.choices)
        }
        study = optuna.create_study(sampler=make(seed), directions=["minimize", "minimize"])
        while True:
            trial = study.ask(kinds)
            row = np.array([trial.params[name] for name in kinds], dtype=np.int16)
            yield row
            outcome = told.get(row.tobytes())
            if outcome is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, outcome)

    return propose


def pymoo_peer(name: str) -> Proposals:
    """A genetic algorithm of pymoo on option indices."""

    def propose(problem: TableProblem, budget: int, seed: int, told: Told) -> Iterator[Population]:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.algorithms.moo.sms import SMSEMOA
        from pymoo.core.evaluator import Evaluator
        from pymoo.core.problem import Problem
        from pymoo.operators.crossover.ux import UX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling
        from pymoo.problems.static import StaticProblem

        tops = [choice.num_options - 1 for choice in problem.table.space.choices]
        task = Problem(n_var=len(tops), n_obj=2, xl=np.zeros(len(tops)), xu=np.array(tops), vtype=int)
        kind = {"nsga2": NSGA2, "sms-emoa": SMSEMOA}[name]
        algorithm = kind(
            pop_size=20,
            sampling=IntegerRandomSampling(),
            crossover=UX(),
            mutation=PM(vtype=float, repair=RoundingRepair()),
            eliminate_duplicates=True,
        )
        algorithm.setup(task, seed=seed, verbose=False)
        while True:
            asked = algorithm.ask()
            rows = np.rint(asked.get("X")).astype(np.int16)
            yield from rows
            worst = np.full(2, 1e9)
            values = np.array([told.get(row.tobytes(), worst) for row in rows])
            Evaluator().eval(StaticProblem(task, F=values), asked)
            algorithm.tell(infills=asked)

    return propose


def _sampler(name: str, **settings: object) -> Callable[[int], object]:
    def make(seed: int) -> object:
        import optuna

        return getattr(optuna.samplers, name)(seed=seed, **settings)

    return make


PEERS: dict[str, tuple[str, Proposals]] = {
    "optuna-tpe": ("optuna", optuna_peer(_sampler("TPESampler", multivariate=True))),
    "optuna-tpe-default": ("optuna", optuna_peer(_sampler("TPESampler"))),
    "optuna-nsga2": ("optuna", optuna_peer(_sampler("NSGAIISampler", population_size=20))),
    "optuna-nsga3": ("optuna", optuna_peer(_sampler("NSGAIIISampler", population_size=20))),
    "optuna-gp": ("optuna", optuna_peer(_sampler("GPSampler", deterministic_objective=True))),
    "pymoo-nsga2": ("pymoo", pymoo_peer("nsga2")),
    "pymoo-sms-emoa": ("pymoo", pymoo_peer("sms-emoa")),
}
"""Name -> the library it needs, and how it proposes."""


def is_installed(name: str) -> bool:
    """Whether a peer's library is there."""
    return importlib.util.find_spec(PEERS[name][0]) is not None
