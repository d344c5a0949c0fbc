"""Who stands where on a ladder of fidelities, kept up to date as evaluations come.

Responsible for asking `nas.strategy.halving` no more often than there is something new to say: what a promotion costs
must not grow with the length of a search. Everything here follows from the evaluations in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from itertools import pairwise

from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.front import cost_matrix
from nas.problem.goals import Objective
from nas.problem.history import History
from nas.strategy.halving import Halving, order_by_contribution

_RANKINGS = 64  # of a rung while its number of members doubles


class Ladder:
    """A ladder with the evaluations on it.

    Args:
        halving: the rungs.
        objectives: what is better.
        barred: digests that are not promoted, whatever they reach.
        history: what is known at the beginning.
    """

    def __init__(
        self,
        halving: Halving,
        objectives: Sequence[Objective],
        *,
        barred: Set[str] = frozenset(),
        history: Iterable[Evaluation] = (),
    ) -> None:
        self._halving = halving
        self._barred = barred
        self._rungs = {fidelity: _Rung(objectives, halving.eta) for fidelity in halving.rungs}
        for evaluation in history:
            self.take(evaluation)

    def take(self, evaluation: Evaluation) -> None:
        """Takes an evaluation in; one at a fidelity that is no rung changes nothing."""
        rung = self._rungs.get(evaluation.candidate.fidelity)
        if rung is not None:
            rung.take(evaluation)

    def promotions(self, running: Sequence[Candidate], n: int) -> list[tuple[Candidate, Fidelity]]:
        """Up to ``n`` candidates to judge at a higher fidelity, those nearest to the top first.

        What failed or was stopped is never promoted, and nothing is tried twice at one fidelity.

        Args:
            running: what is being judged.
            n: free slots.
        """
        found: list[tuple[Candidate, Fidelity]] = []
        taken = {candidate.architecture.digest for candidate in running} | self._barred
        rungs = self._halving.rungs
        for low, high in reversed(list(pairwise(rungs))):
            # Failed ones count as promoted: a second try would fail again. So does what runs anywhere else.
            done = self._rungs[high].digests
            for candidate in self._rungs[low].best():
                digest = candidate.architecture.digest
                if len(found) < n and digest not in done and digest not in taken:
                    found.append((candidate, high))
                    taken.add(digest)
        return found


class _Rung:
    def __init__(self, objectives: Sequence[Objective], eta: int) -> None:
        self._objectives = objectives
        self._eta = eta
        self._members = History()
        self._ranked = 0
        self._best: list[Candidate] = []
        self.digests: set[str] = set()

    def take(self, evaluation: Evaluation) -> None:
        self._members.append(evaluation)
        self.digests.add(evaluation.candidate.architecture.digest)

    def best(self) -> list[Candidate]:
        """The best ``1 / eta``, best first, when it was last ranked: below 128 members that is now."""
        count = len(self._members)
        # A rule on the number alone, so that a search that was interrupted ranks at the same moments.
        count -= count % max(1, (1 << max(0, count.bit_length() - 1)) // _RANKINGS)
        if count != self._ranked:
            self._ranked = count
            quota = count // self._eta
            places = order_by_contribution(cost_matrix(self._members, self._objectives)[:count], quota) if quota else ()
            self._best = [self._members[int(place)].candidate for place in places]
        return self._best
