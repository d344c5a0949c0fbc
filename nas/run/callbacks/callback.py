"""What a callback is: a frozen record in the config, which is told typed events on a thread of its own.

Responsible for the protocols and the events. A callback that raises or hangs cannot end or delay a search
(`nas.run.callbacks.delivery`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from nas.problem.evaluation import Evaluation
from nas.run.progress import Progress

EndState = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Started:
    """A search begins, or goes on.

    Attributes:
        folder: its run folder, which exists.
        name: of the run.
        objectives: metric keys, in order.
        manifest: as it is in the run folder.
        earlier: evaluations that are in the history already.
    """

    folder: Path
    name: str
    objectives: tuple[str, ...] = ()
    manifest: Mapping[str, object] = field(default_factory=dict)
    earlier: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluated:
    """An evaluation is recorded.

    Attributes:
        evaluation: what came of a candidate of the search.
        progress: how far the search is with it.
        queued: candidates in flight that have no slot yet.
        position: evaluations in the history, this one included: a step that never goes back, also after a resume.
    """

    evaluation: Evaluation
    progress: Progress
    queued: int
    position: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Ended:
    """The run is over for this process.

    Attributes:
        state: how it ended.
        reason: one line where it failed, else "".
        progress: the last one that was told; None where there was none.
    """

    state: EndState
    reason: str = ""
    progress: Progress | None = None


class Listener(Protocol):
    """Is told what happens in one run. May raise: that is told once, and it is told further events."""

    def __call__(self, event: Evaluated | Ended) -> None:
        """Takes an event in. Nothing comes after `Ended`, at which everything is to be closed."""
        ...


class Callback(Protocol):
    """A frozen record of whom to tell, that a config names by its ``_target_``."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def check(self) -> None:
        """Finds out, before anything is spent, whether it can be used.

        Raises:
            UserError: a package that it needs is missing, or a field does not fit.
        """
        ...

    def open(self, started: Started) -> Listener:
        """Begins to listen to a run. Called on the thread on which the listener will be."""
        ...
