"""Options of a command (`--quiet`, `--config-dir DIR`), checked before Hydra sees them.

Responsible for one line where Hydra's own parser would print its usage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nas.cli.composed import check_groups, check_override
from nas.errors import UserError, unknown_name
from nas.locate import resource_folder

_SHORT = {"--quiet": "display=quiet", "--json": "display=json", "--dry-run": "run.forecast_only=true"}
_FLAGS = ("--help", "-h", "--multirun", "-m", "--resolve", "--shell-completion", "-sc", "--hydra-help", "--version")
_FOLDER = ("--config-dir", "-cd")
_CONFIG = ("--cfg", "-c")
_SHOWN = ("job", "hydra", "all")  # what --cfg can show


def checked_arguments(command: str, arguments: Sequence[str]) -> list[str]:
    """The arguments as Hydra takes them: options first, our own short forms written out, all known and complete.

    Args:
        command: for errors, e.g. ``nas search``.
        arguments: behind the command.

    Raises:
        UserError: an option that is not known or lacks its value, a folder that is not there, or a field without name.
    """
    # Hydra's parser takes no overrides behind an option that follows on overrides.
    options: list[str] = []
    overrides: list[str] = []
    rest = list(arguments)
    groups = frozenset(path.name for path in resource_folder("conf").iterdir() if path.is_dir())
    while rest:
        argument = rest.pop(0)
        name, _, value = argument.partition("=")
        if argument in _SHORT and (command, argument) != ("nas calibrate", "--dry-run"):
            overrides.append(_SHORT[argument])
        elif argument in _FLAGS:
            options.append(argument)
        elif name in (*_FOLDER, *_CONFIG):
            if "=" not in argument:
                value = rest.pop(0) if rest else ""
            _check_value(name, value)
            options += [name, value]
        elif argument.startswith("-"):
            raise unknown_name(command, "option", argument, [*_SHORT, *_FLAGS, *_FOLDER, *_CONFIG])
        elif not name.strip("+~ "):
            raise UserError(f"argument '{argument}'", "must name a field", "give it as field=value")
        else:
            check_override(argument, groups)
            overrides.append(argument)
    return [*options, *overrides]


def check_fields(config: Mapping[str, object], known: Sequence[str], *, level: str = "") -> None:
    """Refuses what ``+field=value`` adds to a level of a config, and misses what ``~field`` takes from it.

    Args:
        config: the level.
        known: names of its fields.
        level: where it lies, for errors: empty for the root, else e.g. ``tune.``.

    Raises:
        UserError: a field too much, or one that is missing.
    """
    for name in config:
        if name not in known:
            raise unknown_name(f"{level}{name}", "field", name, known)
    for name in known:
        if name not in config:
            raise UserError(f"{level}{name}", "must be there, got nothing", f"leave out ~{level}{name}")


def config_folder(arguments: Sequence[str]) -> str | None:
    """The folder with the user's own groups that arguments name; None where they name none."""
    for place, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name in _FOLDER:
            return value or next(iter(arguments[place + 1 :]), None)
    return None


def _check_value(name: str, value: str) -> None:
    if name in _FOLDER:
        if not (value and Path(value).is_dir()):
            raise UserError(name, f"must be followed by a folder, got '{value}'", "one that holds e.g. data/mine.yaml")
        check_groups(Path(value))
    if name in _CONFIG and value not in _SHOWN:
        raise UserError(name, f"must be followed by one of {', '.join(_SHOWN)}, got '{value}'")


def given_run(config: Mapping[str, object], *, writes_to: str) -> Path:
    """The run folder that ``run=`` names; one at an address is fetched.

    Args:
        config: as composed.
        writes_to: the field that says where results go. They go beside the run where it says nothing, which is no place
            for them if the run is a copy in a cache.

    Raises:
        UserError: there is no run at the address, or nothing says where results go.
    """
    from nas.run.mirror import at_hand  # late: `--help` need not wait for it
    from nas.train.storage import is_address

    run = str(config["run"])
    if is_address(run) and config.get(writes_to) is None:
        problem = f"must be given where the run is at an address, {run}"
        raise UserError(writes_to, problem, f"give {writes_to}=<a folder on this machine>")
    if is_address(str(config.get(writes_to))):
        raise UserError(writes_to, f"must be on this machine, got the address {config[writes_to]}")
    return at_hand(run, where="run")
