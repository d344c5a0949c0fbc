"""Step 4 of a search: strategy, screen and workers, until the history is long enough."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nas.commands.display import Display
from nas.commands.plan import Plan
from nas.commands.setup import Setup, quantity
from nas.commands.warm_start import earlier_histories
from nas.problem.evaluation import Candidate
from nas.problem.goals import Objective
from nas.problem.history import History, HistoryFile, read_history
from nas.run.loop import LoopOptions, search_loop
from nas.run.progress import Progress, figure
from nas.run.runner import Session
from nas.strategy.fidelities import fitted_to
from nas.strategy.halving import Halving
from nas.strategy.problem import SearchProblem, SearchStrategy
from nas.train.curves import StopRule
from nas.units import format_seconds


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """What to explore with.

    Attributes:
        topic: shown before the progress: ``search``, ``baseline``.
        strategy: proposes.
        file: where evaluations go.
        candidates: architectures at which it ends.
        seed: of proposals and candidates.
        baseline: it is what the search is held against: no earlier run helps it, and no training is stopped early.
    """

    topic: str
    strategy: SearchStrategy
    file: Path
    candidates: int
    seed: int
    baseline: bool = False
    told: Callable[[Progress], None] = lambda _: None


def explore(
    setup: Setup, problem: SearchProblem, session: Session, plan: Plan, what: Exploration, display: Display
) -> History:
    """Goes on with the history in ``what.file``, which may be missing, and shows how it goes.

    Raises:
        Stopped: on an interrupt; every finished evaluation is recorded.
        UserError: see `nas.run.loop.search_loop`.
    """
    history, note = read_history(what.file)
    if note:
        display.note(note)

    def show(progress: Progress) -> None:
        text = progress_text(setup, progress)
        display.progress(what.topic, progress.done, progress.total, text=text, each=progress.latest is not None)
        what.told(progress)

    run = setup.settings.run
    halving = Halving(rungs=run.rungs, eta=run.eta)
    earlier = () if what.baseline else earlier_histories(setup)
    options = LoopOptions(
        num_candidates=what.candidates,
        fidelity=halving.entry,
        seed=what.seed,
        reference=_reference(setup, plan),
        progress=show,
        halving=halving if len(halving.rungs) > 1 else None,
        stop_below=_trained_to_the_end if what.baseline else _stop_rule(setup),
    )
    strategy = fitted_to(what.strategy, problem, halving.rungs, earlier=earlier)
    result = search_loop(problem, strategy, session, history, HistoryFile(what.file), options=options)
    if result.reason == "exhausted":
        display.note(f"nothing new was left to propose after {len(history)} candidates; the {what.topic} ends here")
    return history


def _stop_rule(setup: Setup) -> Callable[[History, Candidate], tuple[float, ...]]:
    """When a training of the search is hopeless."""
    rate = setup.settings.run.stop_hopeless
    if rate is None:
        return _trained_to_the_end
    rule = StopRule(rate=rate)
    return lambda history, candidate: rule(setup.objectives, history, candidate)


def _trained_to_the_end(history: History, candidate: Candidate) -> tuple[float, ...]:
    return ()


def progress_text(setup: Setup, progress: Progress) -> str:
    """``failed 0  running 2  best 97.8 %  hypervolume 0.81  0:40 left``, and the latest candidate."""
    parts = [f"failed {progress.failed}", f"running {progress.running}"]
    parts += [f"stopped {progress.stopped}"] if progress.stopped else []
    parts += [f"promoted {progress.promoted}"] if progress.promoted else []
    first = setup.objectives[0]
    if first.key in progress.best:
        parts.append(f"best {quantity(setup, first.key, progress.best[first.key])}")
    if not math.isnan(progress.hypervolume):
        parts.append(f"hypervolume {progress.hypervolume:.3f}")
    if not math.isnan(progress.seconds_left):
        parts.append(f"{format_seconds(progress.seconds_left)} left")
    latest = progress.latest
    if latest is not None:
        name = latest.candidate.architecture.digest[:6]
        if latest.status == "complete":
            figures = [quantity(setup, goal.key, figure(latest, goal.key)) for goal in setup.objectives]
            parts.append(f"[{name} {', '.join(figures)}{_epochs(setup, latest.candidate)}]")
        else:
            parts.append(f"[{name} {latest.status}: {latest.error}]")
    return "  ".join(parts)


def _epochs(setup: Setup, candidate: Candidate) -> str:
    """After how many epochs, where that differs."""
    return f", {candidate.fidelity.epochs} epochs" if len(setup.settings.run.rungs) > 1 else ""


def _reference(setup: Setup, plan: Plan) -> dict[str, float]:
    """The worst value that counts for each objective: its budget, else the largest value in the space."""
    limits = {budget.key: budget.limit for budget in setup.budgets}
    return {
        goal.key: limits.get(goal.key, plan.forecast.ranges[goal.key].maximum)
        for goal in setup.objectives
        if _is_bounded(goal) and goal.key in plan.forecast.ranges
    }


def _is_bounded(goal: Objective) -> bool:
    return goal.metric.known_before_training and not goal.metric.maximize
