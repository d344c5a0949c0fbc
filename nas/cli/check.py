"""`nas check`: arguments -> settings -> the command."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nas.cli.hydra_run import run_under_hydra
from nas.cli.instantiate import instantiate
from nas.cli.options import check_fields, checked_arguments
from nas.errors import UserError, unknown_name

_FIELDS = (
    "target", "precisions", "space", "run", "samples", "data", "input", "classes", "deploy", "seed", "allow", "display"
)  # fmt: skip
_RUNS, _LEAVES = 0, 1


def run_check(arguments: list[str]) -> int:
    """Runs `nas check` with Hydra arguments.

    Returns:
        The exit code: 0 where all operators run on the targets, 1 where one is refused or leaves the accelerator, or
        where one of several targets could not be asked. Operators that only run in a higher precision are shown, and
        change nothing.

    Raises:
        UserError: the user's mistakes.
    """
    if "--dry-run" in arguments:
        raise unknown_name("nas check", "option", "--dry-run", ["--help", "--quiet", "--json", "--config-dir"])
    codes: list[int] = []
    run_under_hydra(
        "check",
        checked_arguments("nas check", arguments),
        lambda config, overrides: codes.append(_check_with(config)),
    )
    return max(codes, default=_RUNS)  # none after --help


def _check_with(config: Mapping[str, object]) -> int:
    # Imported late: composing, and `--help`, must not wait for torch.
    from nas.cli.display import display_named
    from nas.commands.check import CheckSettings, check

    check_fields(config, _FIELDS)
    allow = _names(config, "allow")
    if allow and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # an installed `nas` does not look here by itself
    fields = {name: config[name] for name in _FIELDS if name != "display"}
    fields |= {"target": _names(config, "target"), "allow": allow, "space": str(config["space"])}
    if config["precisions"] is not None:
        fields["precisions"] = _names(config, "precisions")
    for name in ("run", "input"):
        fields[name] = None if config[name] is None else str(config[name])
    for name in ("data", "deploy"):
        fields[name] = instantiate(config[name], where=name, allow=allow)
    settings = CheckSettings(**fields)  # type: ignore[arg-type]  # checked above, and by the settings
    found = check(settings, display=display_named(str(config["display"])))
    return _RUNS if all(one.runs for one in found) else _LEAVES


def _names(config: Mapping[str, object], key: str) -> tuple[str, ...]:
    node = config[key]
    if isinstance(node, str):
        node = [node]
    if not isinstance(node, Sequence) or not all(isinstance(item, str) for item in node):
        raise UserError(key, f"must be a list of names, got {node!r}", f"e.g. {key}=[name,name]")
    return tuple(str(item) for item in node)
