"""Step 3 of a search: what the budgets leave, and what the run will cost, before anything is trained."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from nas.commands.display import Display
from nas.commands.settings import RunOptions
from nas.commands.setup import Setup, quantity
from nas.deploy.deployed import CandidateEvaluate
from nas.errors import UserError
from nas.problem.evaluation import Candidate, Fidelity
from nas.space.moves import sample
from nas.strategy.forecast import Forecast, Range, forecast
from nas.strategy.halving import Halving
from nas.strategy.screening import BUILDABLE, Screen
from nas.units import counted, format_seconds

_STREAM = 2  # of the seed; 0 and 1 are the loop's
_PROBE_IMAGES = 256
_PROBES = 2
_TRAINING_TO_JUDGING = 4  # what an image costs to train on, relative to judging it


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A forecast with the time it will take.

    Attributes:
        forecast: shares and ranges.
        search_seconds: that the search will take, roughly.
        finish_seconds: that training the front in full will take, roughly.
    """

    forecast: Forecast
    search_seconds: float
    finish_seconds: float

    def to_record(self, setup: Setup) -> dict[str, object]:
        """The ``forecast`` of a manifest."""
        found, texts = self.forecast, {budget.key: str(budget) for budget in setup.budgets}
        return {
            "num_samples": found.share.total,
            "exhaustive": found.exhaustive,
            "share": found.share.value,
            "share_low": found.share.low,
            "share_high": found.share.high,
            "budgets": {texts.get(key, key): share.value for key, share in found.shares.items()},
            "ranges": {
                key: {**asdict(spans), "min": spans.minimum, "max": spans.maximum}
                for key, spans in found.ranges.items()
            },
            "seconds": self.search_seconds + self.finish_seconds,
        }


def make_plan(setup: Setup, screen: Screen, evaluate: CandidateEvaluate, display: Display, *, workers: int) -> Plan:
    """Forecasts what the budgets leave and how long the run will take, and shows both.

    Raises:
        UserError: nothing in the space keeps the budgets.
    """
    rng = np.random.default_rng([setup.settings.seed, _STREAM])
    found = forecast(screen, setup.space, setup.objectives, rng)
    found.require_feasible()
    for key, spans in found.ranges.items():
        if _is_a_goal(setup, key):
            display.say("range", _range_line(setup, key, spans))
    if setup.budgets or found.shares[BUILDABLE].value < 1:
        share = found.share
        interval = "" if found.exhaustive else f" (95 % interval {share.low:.1%} to {share.high:.1%})"
        display.say("fits", f"{share.value:.1%} of the space meets every budget{interval}")
    seconds = _epoch_seconds(setup, screen, evaluate, rng)
    run = setup.settings.run
    candidates, finalists = run.candidates + run.random_baseline, min(run.front, run.candidates)
    search_seconds = _search_epochs(run, candidates, workers) * seconds
    finish_seconds = math.ceil(finalists / workers) * run.final_epochs * seconds
    total = format_seconds(search_seconds + finish_seconds)
    display.say(
        "plan",
        f"{_search_text(run, candidates)}, then up to {finalists} x {run.final_epochs} in full, "
        f"{workers} worker{'s' if workers > 1 else ''}: about {total}",
    )
    return Plan(forecast=found, search_seconds=search_seconds, finish_seconds=finish_seconds)


def _search_epochs(run: RunOptions, candidates: int, workers: int) -> float:
    """Epochs at full resolution on all data that a worker trains for. From a checkpoint, epochs behind are skipped."""
    total, behind = 0.0, 0
    for fidelity, count in _rungs(run, candidates):
        ahead = max(0, fidelity.epochs - behind)
        total += math.ceil(count / workers) * fidelity.cost * ahead / fidelity.epochs
        if run.checkpoints:
            behind = fidelity.epochs
    return total


def _search_text(run: RunOptions, candidates: int) -> str:
    """``24 candidates x 6 epochs``, ``24 candidates x 2 epochs, 8 x 6, 2 x 18``"""
    (first, count), *others = _rungs(run, candidates)
    return ", ".join(
        [
            f"{counted(count, 'candidate')} x {counted(first.epochs, 'epoch')}",
            *(f"{more} x {fidelity.epochs}" for fidelity, more in others),
        ]
    )


def _rungs(run: RunOptions, candidates: int) -> list[tuple[Fidelity, int]]:
    """Fidelities with the number of candidates expected at each, but for those that get none."""
    expected = Halving(rungs=run.rungs, eta=run.eta).expected(candidates)
    return [(fidelity, count) for fidelity, count in zip(run.rungs, expected, strict=True) if count]


def _is_a_goal(setup: Setup, key: str) -> bool:
    return any(goal.key == key for goal in setup.goals)


def _range_line(setup: Setup, key: str, spans: Range) -> str:
    low, middle, high = (quantity(setup, key, value) for value in (spans.minimum, spans.median, spans.maximum))
    name, _, device = key.partition(".")
    owner = f" on {device}" if device and len(setup.devices) > 1 else ""
    return f"{name}{owner}  {low} to {high}, half below {middle}"


def _epoch_seconds(setup: Setup, screen: Screen, evaluate: CandidateEvaluate, rng: np.random.Generator) -> float:
    """Seconds an epoch takes: a line through two trainings over MACs, at the mean of what keeps the budgets."""
    rows = sample(setup.space, 512, rng)
    screening = screen(rows)
    kept = np.flatnonzero(screening.feasible if screening.feasible.any() else screening.buildable)
    if len(kept) == 0:
        return math.nan
    macs = screening.predicted["macs"][kept]
    order = np.argsort(macs)
    small, large = order[len(order) // 4], order[(3 * len(order)) // 4]
    try:
        low = _probe(setup, evaluate, rows[kept[small]])
        high = _probe(setup, evaluate, rows[kept[large]]) if large != small else low
    except (UserError, ArithmeticError, RuntimeError):
        return math.nan  # the search will say what is wrong with it
    slope = max(0.0, high - low) / max(macs[large] - macs[small], 1.0)
    return float(low + slope * (macs.mean() - macs[small]))


def _probe(setup: Setup, evaluate: CandidateEvaluate, row: np.ndarray) -> float:
    """Seconds an epoch of one architecture takes, from a few batches."""
    num_train = len(setup.task.data.splits["train"])
    share = min(1.0, _PROBE_IMAGES / num_train)
    candidate = Candidate(
        index=0,
        architecture=setup.space.architecture(row),
        fidelity=Fidelity(epochs=1, data_share=share),
        seed=setup.settings.seed,
    )
    # The first training also pays for what is only done once, in torch and in the task.
    seconds = min(evaluate.train(candidate).fit.seconds for _ in range(_PROBES))
    num_judged = len(setup.task.data.splits["validation"])
    return seconds * num_train / (share * num_train + num_judged / _TRAINING_TO_JUDGING)
