"""`nas export`: arguments -> settings -> the command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nas.cli.hydra_run import run_under_hydra
from nas.cli.instantiate import instantiate
from nas.cli.options import check_fields, checked_arguments, given_run
from nas.cli.search import as_mapping
from nas.errors import UserError, unknown_name

_FIELDS = (
    "run", "targets", "models", "precisions", "out", "archive", "golden_only", "images", "keep_rejected", "profile",
    "measure", "device", "workers", "licence", "allow", "display",
)  # fmt: skip
_GROUPS = ("data", "deploy")
# What single fields of a group are put over where the run does not tell what it had.
_FALLBACKS: dict[str, dict[str, object]] = {"deploy": {"_target_": "nas.deploy.options.DeployOptions"}}
_COMPLETE, _PARTIAL = 0, 1


def run_export(arguments: list[str]) -> int:
    """Runs `nas export` with Hydra arguments.

    Returns:
        The exit code: 0 where everything that was asked for is there, 1 where something is missing.

    Raises:
        UserError: the user's mistakes; nothing is written.
    """
    codes: list[int] = []
    run_under_hydra(
        "export",
        checked_arguments("nas export", _over_the_runs(arguments)),
        lambda config, overrides: codes.append(_export_with(config, overrides)),
    )
    return max(codes, default=_COMPLETE)  # none after --help


def _over_the_runs(arguments: Sequence[str]) -> list[str]:
    """Fields of a group that is not chosen as Hydra takes them: they are put over what the run had."""
    if "--dry-run" in arguments:
        raise unknown_name("nas export", "option", "--dry-run", ["--help", "--quiet", "--json", "--config-dir"])
    chosen = {argument.partition("=")[0] for argument in arguments}
    return [
        f"+{argument}" if group in _GROUPS and dot and group not in chosen else argument
        for argument in arguments
        for group, dot, _ in [argument.partition("=")[0].partition(".")]
    ]


def _export_with(config: dict[str, object], overrides: Sequence[str]) -> int:
    # Imported late: composing, and `--help`, must not wait for torch.
    from nas.cli.display import display_named
    from nas.commands.export import export
    from nas.commands.export_inputs import run_record
    from nas.commands.export_settings import ExportSettings
    from nas.deploy.bundle.write import licences_from

    check_fields({name: value for name, value in config.items() if name not in _GROUPS}, _FIELDS)
    display = display_named(str(config["display"]))
    allow = _names(config, "allow")
    if allow and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # an installed `nas` does not look here by itself
    run = given_run(config, writes_to="out")
    record = run_record(run)
    settings = ExportSettings(
        run=run,
        targets=_names(config, "targets"),
        models=_models(config),
        precisions=None if config["precisions"] is None else _names(config, "precisions"),
        out=None if config["out"] is None else Path(str(config["out"])),
        images=config["images"],  # type: ignore[arg-type]  # checked by the settings
        measure=_truth(config, "measure"),
        device=str(config["device"]),
        profile=_truth(config, "profile"),
        licences=licences_from(as_mapping(config, "licence")),
        workers=config["workers"],  # type: ignore[arg-type]  # likewise
        keep_rejected=_truth(config, "keep_rejected"),
        archive=_truth(config, "archive"),
        allow=allow,
        **_groups(config, record, allow, golden_only=_truth(config, "golden_only")),  # type: ignore[arg-type]
    )
    result = export(settings, display=display, command=shlex.join(["nas", "export", *overrides]))
    return _PARTIAL if result.missing else _COMPLETE


def _groups(
    config: Mapping[str, object], record: Mapping[str, object], allow: Sequence[str], *, golden_only: bool
) -> dict[str, object]:
    """Data and options: as given, else as the run had them; what the run does not tell is left out."""
    stored = record.get("config")
    before = stored if isinstance(stored, Mapping) else {}
    found: dict[str, object] = {}
    for group in _GROUPS:
        node = config.get(group) or before.get(group)
        if isinstance(node, Mapping) and "_target_" not in node:  # single fields, without a choice of the group
            node = {**(before.get(group) or _FALLBACKS.get(group, {})), **node}
        if node is None or (group == "data" and golden_only):
            continue
        try:
            found[group] = instantiate(node, where=group, allow=allow)
        except UserError as error:
            if config.get(group):
                raise
            advice = "give allow=[...] again, " if before.get("allow") else ""
            raise UserError(
                f"run: {error.where}", error.problem, f"{advice}give {group}=..., or golden_only=true"
            ) from error
    return found


def _models(config: Mapping[str, object]) -> str | tuple[str, ...]:
    given = config["models"]
    if isinstance(given, Sequence) and not isinstance(given, str):
        return tuple(str(digest) for digest in given)
    return str(given)


def _truth(config: Mapping[str, object], key: str) -> bool:
    value = config[key]
    if not isinstance(value, bool):
        raise UserError(key, f"must be true or false, got {value!r}")
    return value


def _names(config: Mapping[str, object], key: str) -> tuple[str, ...]:
    node = config.get(key)
    given = [node] if isinstance(node, str) else node
    if not isinstance(given, Sequence) or not all(isinstance(item, str) for item in given):
        raise UserError(key, f"must be a list of names, got {node!r}", f"e.g. {key}=[name,name]")
    return tuple(str(item) for item in given)
