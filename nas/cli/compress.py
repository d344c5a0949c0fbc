"""`nas compress`: arguments -> settings -> the command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.cli.hydra_run import run_under_hydra
from nas.cli.instantiate import instantiate
from nas.cli.options import check_fields, checked_arguments
from nas.cli.search import as_mapping
from nas.errors import UserError, unknown_name

_FIELDS = (
    "model", "input", "mean", "std", "budget", "precisions", "prune", "sparsity", "epochs", "seed", "targets", "device",
    "bundle", "licence", "out", "allow", "display", "data", "recipe", "deploy", "compress",
)  # fmt: skip
_GROUPS = ("data", "recipe", "deploy", "compress")
_ACCEPTED, _NONE = 0, 1


def run_compress(arguments: list[str]) -> int:
    """Runs `nas compress` with Hydra arguments.

    Returns:
        The exit code: 0 where a file may be shipped and keeps every budget, 1 where none does, or where the bundle of
        those that do could not be written.

    Raises:
        UserError: the user's mistakes; nothing is written.
    """
    if "--dry-run" in arguments:
        raise unknown_name("nas compress", "option", "--dry-run", ["--help", "--quiet", "--json", "--config-dir"])
    codes: list[int] = []
    run_under_hydra(
        "compress",
        checked_arguments("nas compress", arguments),
        lambda config, overrides: codes.append(_compress_with(config, overrides)),
    )
    return max(codes, default=_ACCEPTED)  # none after --help


def _compress_with(config: Mapping[str, object], overrides: Sequence[str]) -> int:
    # Imported late: composing, and `--help`, must not wait for torch.
    from nas.cli.display import display_named
    from nas.commands.compress import compress
    from nas.commands.compress_settings import CompressSettings
    from nas.deploy.bundle.write import licences_from

    check_fields(config, _FIELDS)
    if config["model"] is None:
        raise UserError("model", "must be given, got nothing", "e.g. model=my_nets:trained allow=[my_nets]")
    display = display_named(str(config["display"]))
    allow = _list(config, "allow")
    if allow and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # an installed `nas` does not look here by itself
    groups = {name: instantiate(config[name], where=name, allow=allow) for name in _GROUPS}
    settings = CompressSettings(
        model=str(config["model"]),
        input=_text(config, "input"),
        mean=_numbers(config, "mean"),
        std=_numbers(config, "std"),
        budget=as_mapping(config, "budget"),
        precisions=_list(config, "precisions"),
        prune=_list(config, "prune"),
        sparsity=_list(config, "sparsity"),
        epochs=config["epochs"],  # type: ignore[arg-type]  # checked by the settings
        seed=config["seed"],  # type: ignore[arg-type]  # likewise
        targets=_list(config, "targets"),
        device=str(config["device"]),
        bundle=config["bundle"],  # type: ignore[arg-type]  # likewise
        licences=licences_from(as_mapping(config, "licence")),
        out=_text(config, "out"),
        allow=allow,
        **groups,  # type: ignore[arg-type]  # instantiate() cannot know the classes that YAML names
    )
    result = compress(settings, display=display, command=shlex.join(["nas", "compress", *overrides]))
    missing = not result.accepted or (settings.bundle and result.bundle is None)
    return _NONE if missing else _ACCEPTED


def _text(config: Mapping[str, object], key: str) -> str | None:
    return None if config[key] is None else str(config[key])


def _numbers(config: Mapping[str, object], key: str) -> Any:
    """A number, or several, as the settings check them."""
    value = config[key]
    return tuple(value) if isinstance(value, list) else value


def _list(config: Mapping[str, object], key: str) -> tuple[Any, ...]:
    """A list, as the settings check what is in it; a single value counts as one."""
    node = config[key]
    if node is None or isinstance(node, Mapping):
        raise UserError(key, f"must be a list, got {node!r}", f"{key}=[] is none")
    return tuple(node) if isinstance(node, list) else (node,)
