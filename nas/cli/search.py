"""`nas search`: arguments -> settings -> the command."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nas.cli.hydra_run import run_under_hydra
from nas.cli.options import checked_arguments, config_folder
from nas.errors import UserError

_NOT_RESUMED = {"run.resume", "run.name", "run.folder", "run.forecast_only", "display"}


def run_search(arguments: list[str]) -> int:
    """Runs `nas search` with Hydra arguments. Returns the exit code; raises `UserError` for the user's mistakes."""
    checked = checked_arguments("nas search", with_resumed_arguments(arguments))
    groups = config_folder(checked)
    own = {} if groups is None else {"config_dir": str(Path(groups).resolve())}

    def run(config: dict[str, object], overrides: Sequence[str]) -> None:
        if _resumed(arguments):
            refuse_taken_over(config, arguments)
        _search_with(config, overrides, own)

    run_under_hydra("search", checked, run)
    return 0


def refuse_taken_over(config: Mapping[str, object], given: Sequence[str]) -> None:
    """Refuses fields of a resumed run that would run code or send something, unless they are given again now.

    A run folder may come from somebody else. What its manifest says chooses among what is installed here, and no more.

    Args:
        config: as composed.
        given: arguments of now, without those of the run.

    Raises:
        UserError: such a field has a value that was not given now.
    """
    from nas.run.folder import GIVEN_AGAIN

    keys = {_split(argument)[0] for argument in given}
    own_groups = config_folder(given) is not None
    for field in GIVEN_AGAIN:
        group, _, name = field.partition(".")
        node = config.get(group)
        value = node.get(name) if name and isinstance(node, Mapping) else None if name else node
        named = any(key == field or key.startswith((f"{field}.", f"{field}@")) for key in keys)
        chosen = group in keys and (own_groups or config_folder(with_resumed_arguments(given)) is None)
        if value and not named and not chosen:
            problem = f"the run was begun with {field}={_plain(value)}, which a run folder cannot decide"
            raise UserError("run.resume", problem, f"give {field}=... again if you trust where the folder comes from")


def _plain(value: object) -> str:
    text = f"[{','.join(map(str, value))}]" if isinstance(value, list | tuple | Mapping) else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _search_with(config: dict[str, object], overrides: Sequence[str], own: Mapping[str, object]) -> None:
    # Imported late: composing, and `--help`, must not wait for torch.
    from nas.cli.display import display_named
    from nas.cli.settings import settings_from_config
    from nas.commands.search import search

    if config.get("allow"):
        _import_from_here()
    settings = settings_from_config(config)
    display = display_named(str(config["display"]))
    options = [f"--config-dir={own['config_dir']}"] if own else []
    command = shlex.join(["nas", "search", *options, *overrides])
    record = {"command": command, "overrides": list(overrides), "config": config, **own}
    search(settings, display=display, record=record)


def _import_from_here() -> None:
    """Finds modules that ``allow`` names in the current folder: an installed `nas` does not look there by itself."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def with_resumed_arguments(arguments: Sequence[str]) -> list[str]:
    """Puts what the run that is resumed was told before what is given now; what is given now wins.

    Raises:
        UserError: the folder that is to be resumed holds no readable manifest.
    """
    resumed = _resumed(arguments)
    if not resumed:
        return list(arguments)
    from nas.run.mirror import at_hand  # late, as above

    file = at_hand(resumed[-1].strip("'\""), where="run.resume") / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        earlier = [str(override) for override in manifest["overrides"]]
    except FileNotFoundError as error:
        raise UserError("run.resume", f"must be a run folder, but there is no {file}") from error
    except (KeyError, TypeError) as error:
        raise UserError("run.resume", f"must be a run folder, but {file} is not the manifest of a run") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("run.resume", f"cannot read {file}: {error}") from error
    odd = next((override for override in earlier if override.startswith("-") or "hydra" in _split(override)[0]), None)
    if odd is not None:
        raise UserError("run.resume", f"must hold fields of nas as overrides in {file}, got {odd!r}", "do not trust it")
    given = {_split(argument)[0] for argument in arguments}
    # A group chosen anew brings its own fields: the old group's ones would not fit.
    kept = [
        override
        for override in earlier
        if (key := _split(override)[0]) not in given | _NOT_RESUMED
        and not any(key.startswith(f"{name}.") for name in given)
    ]
    groups = manifest.get("config_dir")
    if isinstance(groups, str) and config_folder(arguments) is None:
        kept = ["--config-dir", groups, *kept]
    return [*kept, *arguments]


def _resumed(arguments: Sequence[str]) -> list[str]:
    """Run folders that arguments say to go on with; the last one holds."""
    return [value for key, value in map(_split, arguments) if key == "run.resume" and value not in ("null", "")]


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return re.sub(r"^[+~]+", "", key), value


def as_mapping(config: Mapping[str, object], key: str) -> Mapping[str, object]:
    """The sub-config ``key``. Raises `UserError` where the user replaced it by something else."""
    node = config.get(key)
    if not isinstance(node, Mapping):
        raise UserError(key, f"must be a group of fields, got {node!r}")
    return {str(name): value for name, value in node.items()}
