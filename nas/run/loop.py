"""The search loop: propose, evaluate, record, and again, without waiting for the slowest.

Responsible for the order of things: an evaluation is on the disk before anything else happens with it, and nothing is
kept that does not follow from the history.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from nas.errors import UserError
from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.history import History
from nas.run.interrupts import interrupts_deferred
from nas.run.patience import Outage, Patience
from nas.run.progress import Progress, Tally
from nas.run.runner import Session, import_error_in
from nas.strategy.halving import Halving
from nas.strategy.ladder import Ladder
from nas.strategy.problem import Population, SearchProblem, SearchStrategy

# Streams of random numbers that one seed is split into.
_CANDIDATES, _PROPOSALS = 0, 1
_SAME_IMPORT_ERRORS = 3  # so many first failures alike mean that no candidate can ever run


class Store(Protocol):
    """Where evaluations are kept, e.g. `nas.problem.history.HistoryFile`."""

    def append(self, evaluation: Evaluation) -> None:
        """Keeps an evaluation durably before it returns."""
        ...


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How long and how a search goes on.

    Attributes:
        num_candidates: evaluations in the history at which it ends; failed ones and those of before count, further
            ones of an architecture at higher fidelities do not.
        fidelity: of every new architecture.
        seed: from which the seeds of candidates and the random numbers of proposals are derived.
        reference: objective key -> the value beyond which nothing counts in the hypervolume; see
            `nas.run.progress.FrontVolume`.
        progress: told at the beginning, and of each evaluation when the slot that it left is filled again.
        stop: asked before each proposal; once it is true, nothing new is begun.
        halving: the ladder that begins with ``fidelity``; None: nothing is promoted.
        stop_below: the history and a candidate about to be submitted -> its ``stop_below``.
        patience: how long to wait for a store that cannot be written.
    """

    num_candidates: int
    fidelity: Fidelity
    seed: int
    reference: Mapping[str, float] = field(default_factory=dict)
    progress: Callable[[Progress], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False
    halving: Halving | None = None
    stop_below: Callable[[History, Candidate], tuple[float, ...]] = lambda _history, _candidate: ()
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        assert self.halving is None or self.halving.entry == self.fidelity, "new architectures enter the lowest rung"


@dataclass(frozen=True, kw_only=True)
class LoopResult:
    """How a search ended.

    Attributes:
        final: the last moment.
        reason: ``complete``; ``exhausted``: the strategy found nothing new; ``stopped``: it was told to.
    """

    final: Progress
    reason: str


class Stopped(KeyboardInterrupt):
    """An interrupted search. Every finished evaluation is recorded.

    Args:
        recorded: evaluations in the history.
        total: evaluations at which it would have ended.
    """

    def __init__(self, recorded: int, total: int) -> None:
        super().__init__(f"stopped: {recorded} of {total} candidates are recorded")
        self.recorded = recorded
        self.total = total


def search_loop(
    problem: SearchProblem,
    strategy: SearchStrategy,
    session: Session,
    history: History,
    store: Store,
    *,
    options: LoopOptions,
) -> LoopResult:
    """Goes on with a search until its history is long enough.

    Slots are kept busy: as soon as an evaluation comes back, the next candidate is proposed from the history so far and
    the candidates still running. Where there is a ladder of fidelities, promotions come before new architectures, and
    the search ends when both are done; a promoted architecture gets a new index and keeps its seed. On a session with
    one slot the history follows from the seed alone, however often it was interrupted between evaluations.

    Args:
        problem: what to search for.
        strategy: what to try next.
        session: evaluates; it is left open, but for an interrupt, which closes it.
        history: what is known; it grows in place.
        store: gets each evaluation first.
        options: how long, from which seed.

    Raises:
        Stopped: on an interrupt (Ctrl-C).
        UserError: no worker can import what the candidates need, or the store cannot be written for longer than the
            search waits for it, or by another process as well.
    """
    tally = Tally(
        problem.objectives,
        total=options.num_candidates,
        reference=options.reference,
        earlier=history,
        halving=options.halving,
    )
    loop = _Loop(problem, strategy, session, history, store, options=options, tally=tally)
    try:
        return loop.run()
    except KeyboardInterrupt as interrupt:
        if isinstance(interrupt, Stopped):
            raise
        with interrupts_deferred():
            try:
                loop.record(session.wait(0), patience=Patience(seconds=0))
            finally:
                session.close()
        raise Stopped(tally.done, options.num_candidates) from None


class _Loop:
    """The state of one run of the loop; all of it follows from the history and the candidates in flight."""

    def __init__(
        self,
        problem: SearchProblem,
        strategy: SearchStrategy,
        session: Session,
        history: History,
        store: Store,
        *,
        options: LoopOptions,
        tally: Tally,
    ) -> None:
        self._problem = problem
        self._strategy = strategy
        self._session = session
        self._history = history
        self._store = store
        self._options = options
        self._tally = tally
        self._recorded = {evaluation.candidate.index for evaluation in history}
        self._unrecorded: deque[Evaluation] = deque()  # ended, not on the disk yet
        self._next_index = 1 + max(self._recorded, default=-1)
        self._first: list[Evaluation] = []
        self._ladder = (
            None
            if options.halving is None
            else Ladder(options.halving, problem.objectives, barred=self._over_budget(), history=history)
        )

    def run(self) -> LoopResult:
        stopping = False
        told: list[Evaluation | None] = [None]
        while True:
            stopping = stopping or self._options.stop()
            found_nothing = not stopping and self._fill()
            # Told only now, so that what is running is what goes on running.
            for evaluation in told:
                self._tell(evaluation)
            if not self._session.in_flight:
                break
            told = list(self.record(self._session.wait()))
            self._check_imports()
        reason = "stopped" if stopping else "exhausted" if found_nothing else "complete"
        if self._tally.done >= self._options.num_candidates:
            reason = "complete"
        final = self._tally.progress(running=0, num_slots=self._session.num_slots)
        return LoopResult(final=final, reason=reason)

    def record(self, evaluations: Sequence[Evaluation], *, patience: Patience | None = None) -> list[Evaluation]:
        """Keeps evaluations, first of all on the disk: each once, whatever the session gives and the store refuses.

        Args:
            evaluations: that have ended.
            patience: with a store that cannot be written; None: that of the options.

        Returns:
            What was kept.
        """
        self._unrecorded.extend(evaluations)
        kept = []
        while self._unrecorded:
            evaluation = self._unrecorded[0]
            if evaluation.candidate.index not in self._recorded:
                self._keep(evaluation, patience or self._options.patience)
                kept.append(evaluation)
            self._unrecorded.popleft()
        return kept

    def _keep(self, evaluation: Evaluation, patience: Patience) -> None:
        outage = Outage(patience)
        while True:
            try:
                with interrupts_deferred():
                    self._store.append(evaluation)
                    self._recorded.add(evaluation.candidate.index)
                    self._history.append(evaluation)
                    self._tally.add(evaluation)
                    if self._ladder is not None:
                        self._ladder.take(evaluation)
                break
            except UserError as error:
                outage.wait(error)
        outage.over()
        if len(self._first) < _SAME_IMPORT_ERRORS:
            self._first.append(evaluation)

    def _fill(self) -> bool:
        """Submits candidates to the free slots; True where the strategy found nothing for one that is needed."""
        for candidate in self._promoted():
            self._submit(candidate)
        begun = self._tally.done + sum(not self._is_promotion(candidate) for candidate in self._session.in_flight)
        free = min(self._session.room, self._options.num_candidates - begun)
        if free <= 0:
            return False
        rows = self._strategy.propose(self._problem, self._history, self._pending(), free, self._rng())
        for candidate in self._candidates(rows[:free]):
            self._submit(candidate)
        return len(rows) == 0

    def _submit(self, candidate: Candidate) -> None:
        self._session.submit(replace(candidate, stop_below=self._options.stop_below(self._history, candidate)))
        self._next_index += 1

    def _promoted(self) -> list[Candidate]:
        """What the free slots are given to first."""
        running, free = self._session.in_flight, self._session.room
        if self._ladder is None or free <= 0:
            return []
        return [
            replace(candidate, index=self._next_index + place, fidelity=fidelity)
            for place, (candidate, fidelity) in enumerate(self._ladder.promotions(running, free))
        ]

    def _is_promotion(self, candidate: Candidate) -> bool:
        return candidate.fidelity != self._options.fidelity

    def _over_budget(self) -> frozenset[str]:
        """Digests of earlier architectures that do not keep the budgets of now, which may be tighter than before."""
        if len(self._history) == 0:
            return frozenset()
        feasible = self._problem.screen(np.asarray(self._history.rows)).feasible
        return frozenset(
            evaluation.candidate.architecture.digest
            for evaluation, kept in zip(self._history, feasible, strict=True)
            if not kept
        )

    def _pending(self) -> Population:
        rows = [candidate.architecture.row for candidate in self._session.in_flight]
        return np.array(rows, dtype=np.int16).reshape(len(rows), len(self._problem.space.choices))

    def _rng(self) -> np.random.Generator:
        """Random numbers of the next proposal: the same after a resume as without an interrupt."""
        return np.random.default_rng([self._options.seed, _PROPOSALS, self._next_index])

    def _candidates(self, rows: Population) -> list[Candidate]:
        if len(rows) == 0:
            return []
        screening = self._problem.screen(rows)
        return [
            Candidate(
                index=self._next_index + place,
                architecture=self._problem.space.architecture(row),
                fidelity=self._options.fidelity,
                seed=candidate_seed(self._options.seed, self._next_index + place),
                predicted={key: float(values[place]) for key, values in screening.predicted.items()},
                upper={key: float(values[place]) for key, values in screening.upper.items()},
            )
            for place, row in enumerate(rows)
        ]

    def _tell(self, latest: Evaluation | None) -> None:
        num_slots = self._session.num_slots
        running = min(len(self._session.in_flight), num_slots)  # the rest is queued ahead
        self._options.progress(self._tally.progress(running=running, num_slots=num_slots, latest=latest))

    def _check_imports(self) -> None:
        """Ends a search in which the first candidates all failed with the same import error."""
        if len(self._first) < min(_SAME_IMPORT_ERRORS, self._options.num_candidates):
            return
        errors = {_import_error(evaluation) for evaluation in self._first}
        if len(errors) == 1 and (error := errors.pop()):
            raise UserError(
                "runner",
                f"no worker can import what the candidates need: {error}",
                "install it where the workers run, or name its package in allow so that it is sent to them",
            )


def _import_error(evaluation: Evaluation) -> str:
    """The import error that an evaluation failed with, or ""."""
    return import_error_in(evaluation.error) if evaluation.status != "complete" else ""


def candidate_seed(seed: int, index: int) -> int:
    """The seed of candidate ``index`` of a search: 31 bits, the same on every runner."""
    return int(np.random.SeedSequence([seed, _CANDIDATES, index]).generate_state(1)[0] >> 1)
