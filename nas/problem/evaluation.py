"""Candidates and what became of them: the records that the history is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nas.space.architecture import Architecture

Status = Literal["complete", "failed", "infeasible", "timeout", "stopped"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fidelity:
    """How cheaply a candidate is judged.

    Attributes:
        epochs: passes over the training share.
        resolution: multiple of the network's own input resolution.
        data_share: share of the training split, in (0, 1].
    """

    epochs: int
    resolution: float = 1.0
    data_share: float = 1.0

    @property
    def cost(self) -> float:
        """Relative cost of training; orders fidelities totally."""
        return self.epochs * self.data_share * self.resolution**2


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An architecture to be judged.

    Attributes:
        index: its number in the search, from 0; unique within a run.
        architecture: what to build.
        fidelity: how much to spend.
        seed: of initialisation and data order.
        predicted: metric key -> expected value, for metrics known before training.
        upper: metric key -> upper bound at the search's confidence, for predicted metrics.
        stop_below: validation accuracy of each epoch, from the first, below which training ends; 0 where it goes on
            whatever comes, and behind the last value. Empty: it is trained to the end.
    """

    index: int
    architecture: Architecture
    fidelity: Fidelity
    seed: int
    predicted: Mapping[str, float] = field(default_factory=dict)
    upper: Mapping[str, float] = field(default_factory=dict)
    stop_below: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What came of a candidate.

    Attributes:
        candidate: what was judged.
        status: ``complete`` has metrics; ``failed`` (it raised, diverged, lost its worker too often), ``timeout``,
            ``infeasible`` (cannot be built for this input) and ``stopped`` (fell below ``candidate.stop_below``) say
            why in ``error``.
        metrics: metric key -> value as judged; may hold further figures (``loss``, ``train_accuracy``).
        seconds: wall time on the worker.
        error: one line, empty when complete.
        worker: where it ran (host and process).
        finished: end, as ISO 8601 in UTC.
        curve: validation accuracy after each epoch, on a part of the split but for the last; NaN for epochs that were
            taken over from a checkpoint. Empty where none was kept.
    """

    candidate: Candidate
    status: Status
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""
    worker: str = ""
    finished: str = ""
    curve: tuple[float, ...] = ()
