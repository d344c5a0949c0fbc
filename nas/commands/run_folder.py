"""The run folder of a search: its first manifest, and going on with one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import is_dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from nas.commands.latency import DeviceModels
from nas.commands.plan import Plan
from nas.commands.run_place import new_place, resumed_place
from nas.commands.setup import Setup
from nas.errors import UserError
from nas.problem.history import iterate_history
from nas.run.environment import environment
from nas.run.folder import RunFolder
from nas.run.identity import data_record, space_record
from nas.space.moves import is_canonical
from nas.space.space import SearchSpace

_DIGESTS = 200  # of a history that are held against their rows


def check_resumable(setup: Setup) -> None:
    """Refuses to go on with a run of another space or other data, one that runs, or one whose history does not fit.

    Raises:
        UserError: it is one of these.
    """
    run = setup.settings.run
    if run.resume is not None:
        path = resumed_place(run.resume).path
        folder = RunFolder.resume(path, space=space_record(setup.space), data=data_record(setup.task.data))
        check_history(setup.space, folder.history_file)
        with folder.locked():
            pass


def check_history(space: SearchSpace, path: Path) -> None:
    """Refuses a history with rows that the space does not have, or digests that are not those of their rows.

    Of a long history so many digests are looked at, evenly spread: each takes building a network's description.

    Raises:
        UserError: it is one, or cannot be read.
    """
    known = [
        (evaluation.candidate.index, evaluation.candidate.architecture.digest, np.array(row, dtype=np.int16))
        for evaluation in iterate_history(path)
        for row in [evaluation.candidate.architecture.row]
    ]
    if not known:
        return
    rows = np.stack([row for _, _, row in known])
    if rows.shape[1] != len(space.choices):
        problem = f"has {rows.shape[1]} choices a row, the space {space.name} has {len(space.choices)}"
        raise UserError(str(path), problem, "give the space that the run was begun with")
    strange = np.flatnonzero(~is_canonical(space, rows))
    if len(strange):
        index = known[int(strange[0])][0]
        raise UserError(str(path), f"candidate {index} is no row of the space {space.name}", "the file was changed")
    for place in np.unique(np.linspace(0, len(known) - 1, min(len(known), _DIGESTS)).astype(int)):
        index, found, row = known[int(place)]
        wanted = space.architecture(row).digest
        if wanted != found:
            problem = f"candidate {index} must have the digest {wanted} by its row, got {found}"
            raise UserError(str(path), problem, "the file was changed, or written by another version of nas")


def open_folder(
    setup: Setup,
    plan: Plan,
    models: Sequence[DeviceModels],
    record: Mapping[str, object],
    stack: ExitStack,
    *,
    note: Callable[[str], None],
) -> RunFolder:
    """The run folder, made or resumed, with what is known so far in its manifest.

    Args:
        setup: what the run is about.
        plan: its forecast.
        models: its latency models.
        record: ``command``, ``overrides`` and ``config`` for the manifest.
        stack: gets the folder's lock, which is taken before anything in a resumed folder is written, and the copying to
            its address.
        note: is told what the user should know, now and later on another thread.

    Raises:
        UserError: a folder that exists, one that another process writes, or one that cannot be resumed with this space
            and data.
    """
    run = setup.settings.run
    space, data = space_record(setup.space), data_record(setup.task.data)
    sections: dict[str, object] = {
        "command": record.get("command", "nas.search(...)"),
        "overrides": record.get("overrides", []),
        "config_dir": record.get("config_dir"),
        "config": record.get("config") or _config(setup.settings),
        "seed": setup.settings.seed,
        "objectives": [goal.key for goal in setup.objectives],
        "budgets": [
            {"key": budget.key, "limit": budget.limit, "confidence": budget.confidence, "text": str(budget)}
            for budget in setup.budgets
        ],
        "devices": [{"name": device.name, "card": _config(device)} for device in setup.devices],
        "latency_models": {on.device.name: on.to_record() for on in models},
        "forecast": plan.to_record(setup),
        "finished": None,
        **environment(),
    }
    if run.resume is not None:
        held = resumed_place(run.resume)
        folder = RunFolder.resume(held.path, space=space, data=data)
        stack.enter_context(folder.locked())
        changed = _changed_goals(folder.manifest(), sections)
        if changed:
            note(changed)
        folder.update({**sections, "address": held.address})
    else:
        held = new_place(run, f"{date.today().isoformat()}-{setup.task.data.name}")
        folder = RunFolder.create(held.path, {**sections, "address": held.address, "space": space, "data": data})
        stack.enter_context(folder.locked())
    stack.enter_context(held.copied(note))
    return folder


def _changed_goals(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What is said when a run goes on with other goals: earlier evaluations stay, and are held against the new ones."""
    changed = [key for key in ("objectives", "budgets", "devices") if before.get(key) != now[key]]
    return f"going on with other {' and '.join(changed)}; earlier evaluations are kept" if changed else ""


def _config(value: object) -> Any:
    """Settings as plain JSON, with the classes of the groups."""
    if is_dataclass(value) and not isinstance(value, type):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        held = {name: getattr(value, name) for name in value.__dataclass_fields__}
        return {"_target_": kind, **{name: _config(item) for name, item in held.items()}}
    if isinstance(value, Mapping):
        return {str(key): _config(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_config(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
