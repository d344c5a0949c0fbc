"""The earlier runs that a search begins with: reading them, and refusing those of another space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nas.commands.display import Display
from nas.commands.run_place import resumed_place
from nas.commands.setup import Setup
from nas.errors import UserError
from nas.problem.history import History, read_history
from nas.run.folder import RunFolder
from nas.run.mirror import at_hand

_WHERE = "run.warm_start"


def check_warm_start(setup: Setup, display: Display) -> None:
    """Refuses earlier runs that cannot be used before anything is spent, and says what there is. Raises `UserError`."""
    for name, history in zip(setup.settings.run.earlier_runs, earlier_histories(setup), strict=True):
        judged = int(history.complete.sum())
        display.say("warm", f"{name}  {judged} results of {len(history)} candidates of an earlier search")


def earlier_histories(setup: Setup) -> tuple[History, ...]:
    """The histories of the earlier runs that the search was told of, in their order. The runs are not written to.

    Raises:
        UserError: no run folder, a run of another space, one without a result, or the run that is gone on with.
    """
    return tuple(_history(setup, at_hand(name, where=_WHERE)) for name in setup.settings.run.earlier_runs)


def _history(setup: Setup, path: Path) -> History:
    resume = setup.settings.run.resume
    if resume is not None and resumed_place(resume).path.resolve() == path.resolve():
        raise UserError(_WHERE, f"must name other runs than the one that is gone on with, got {path}")
    folder = RunFolder(path=path)
    try:
        space = folder.manifest().get("space")
    except UserError as error:
        raise UserError(_WHERE, error.problem, error.advice) from error
    theirs = dict(space) if isinstance(space, Mapping) else {}
    if theirs.get("digest") != setup.space.digest:
        ours = f"{setup.space.name} (digest {setup.space.digest})"
        problem = f"must be a run in the space {ours}, got {path} in {theirs.get('name')} ({theirs.get('digest')})"
        raise UserError(_WHERE, problem, f"search in space={theirs.get('name')}, or leave the run out")
    history, _ = read_history(folder.history_file, repair=False)
    if not history.complete.any():
        raise UserError(_WHERE, f"must be a run with results, but none of {path} is complete", "leave it out")
    return history
