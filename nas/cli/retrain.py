"""`nas retrain`: arguments, and what the run was told -> settings -> the command."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.cli.hydra_run import run_under_hydra
from nas.cli.instantiate import instantiate
from nas.cli.options import check_fields, checked_arguments, given_run
from nas.cli.search import as_mapping
from nas.errors import UserError

if TYPE_CHECKING:
    from nas.commands.settings import SearchSettings

_OF_RUN = ("space", "device", "objectives", "budget", "confidence", "seed", "data", "recipe", "deploy", "compress")
_OWN = (
    "run", "models", "epochs", "tune", "gpus_per_trial", "folder", "name", "resume", "forecast_only", "runner", "allow",
    "display",
)  # fmt: skip
# What may be said anew when a retraining is gone on with: how it is run, not what comes of it.
_ANEW = ("resume", "runner", "allow", "display", "tune.restore")
_GROUPS = ("data", "recipe", "deploy", "compress")
_RAY = "nas.run.ray_runner.RayRunner"
_SHORT = {"--dry-run": "forecast_only=true"}


def run_retrain(arguments: list[str]) -> int:
    """Runs `nas retrain` with Hydra arguments. Returns the exit code; raises `UserError` for the user's mistakes."""
    given = [_SHORT.get(argument, argument) for argument in arguments]
    run_under_hydra("retrain", checked_arguments("nas retrain", given), _retrain_with)
    return 0


def _retrain_with(config: dict[str, object], overrides: Sequence[str]) -> None:
    # Imported late: composing, and `--help`, must not wait for torch.
    from nas.cli.display import display_named
    from nas.commands.retrain import retrain
    from nas.commands.retrain_settings import RetrainSettings

    config = {**dict.fromkeys(_GROUPS), **config}  # a group that is null is not there at all
    check_fields(config, (*_OWN, *_OF_RUN))
    display = display_named(str(config["display"]))
    told: dict[str, object] = {"command": shlex.join(["nas", "retrain", *overrides]), "overrides": list(overrides)}
    if config["resume"] is not None:
        config, told = _resumed(config, overrides)
    elif config["run"] is None:
        raise UserError("run", "must name a run folder, got nothing", "give run=runs/<name>, or resume=<folder>")
    config["run"] = given_run(config, writes_to="folder")
    config = _completed(config)
    allow = _allowed(config)
    search = _search_settings(config, allow)
    settings = RetrainSettings(
        run=Path(str(config["run"])),
        search=search,
        models=_models(config["models"]),
        epochs=config["epochs"],  # type: ignore[arg-type]  # checked by the settings
        tune=_tune(config),
        compress=_compress(config, allow),
        gpus_per_trial=config["gpus_per_trial"],  # type: ignore[arg-type]  # likewise
        folder=_path(config["folder"]),
        name=None if config["name"] is None else str(config["name"]),
        resume=_path(config["resume"]),
        forecast_only=config["forecast_only"],  # type: ignore[arg-type]  # likewise
    )
    # Whoever goes on may stand in another folder.
    kept = {**config, "run": str(settings.run.resolve()), "resume": None}
    retrain(settings, display=display, record={**told, "config": kept})


def _completed(config: Mapping[str, object]) -> dict[str, object]:
    """The config with what the run was told, where nothing else is given."""
    from nas.commands.export_inputs import run_record

    run = Path(str(config["run"]))
    before = run_record(run).get("config")
    if not isinstance(before, Mapping):
        problem = f"{run} must be the folder of a search, its manifest says nothing of space and data"
        raise UserError("run", problem, "give runs/<name>")
    own = {name: config[name] if config[name] is not None else before.get(name) for name in _OF_RUN}
    for name in ("space", "data", "recipe", "deploy", "device", "objectives"):
        if own[name] is None:
            raise UserError(name, f"must be given, {run} does not say it", f"give {name}=...")
    defaults = {"budget": {}, "confidence": 0.95, "seed": 0, "compress": None}
    return {**config, **{name: defaults.get(name) if own[name] is None else own[name] for name in own}}


def _resumed(config: Mapping[str, object], overrides: Sequence[str]) -> tuple[dict[str, object], dict[str, object]]:
    """What the retraining was told that is gone on with, and by which command; now only how it is run can be said.

    Raises:
        UserError: no retraining, or something is given that would make another one of it.
    """
    folder = Path(str(config["resume"]))
    file = folder / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        stored = manifest["config"]
        told: dict[str, object] = {"command": str(manifest["command"]), "overrides": list(manifest["overrides"])}
        earlier = {name: stored[name] for name in (*_OWN, *_OF_RUN)}
        tune = dict(stored["tune"])
    except FileNotFoundError:
        raise UserError("resume", f"must be the folder of a retraining, but there is no {file}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError("resume", f"must be the folder of a retraining, but {file} is not of one") from error
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if not any(key == name or key.startswith(f"{name}.") for name in _ANEW):
            rule = f"cannot be given together with resume, which goes on with what {folder} was told"
            raise UserError(key, rule, f"only {', '.join(_ANEW)} can be said anew")
    anew = {name: config[name] for name in ("resume", "runner", "allow", "display")}
    return {**earlier, **anew, "tune": {**tune, "restore": as_mapping(config, "tune").get("restore", True)}}, told


def _search_settings(config: Mapping[str, object], allow: Sequence[str]) -> SearchSettings:
    from nas.commands.settings import SearchSettings

    seed, confidence = config["seed"], config["confidence"]
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UserError("seed", f"must be a whole number, got {seed!r}")
    if not isinstance(confidence, int | float) or isinstance(confidence, bool):
        raise UserError("confidence", f"must be a number, got {confidence!r}", "0.95 is usual")
    runner = as_mapping(config, "runner")
    if runner.get("_target_") != _RAY:
        advice = "runner=ray runner.workers=1 trains one at a time"
        raise UserError("runner", "must be ray: trials are Ray Tune's", advice)
    groups: dict[str, Any] = {
        name: instantiate(config[name], where=name, allow=allow) for name in ("data", "recipe", "deploy", "runner")
    }
    device = config["device"]
    return SearchSettings(
        space=str(config["space"]),
        device=_names(device, "device") if isinstance(device, list) else str(device),
        objectives=_names(config["objectives"], "objectives"),
        budget=as_mapping(config, "budget"),
        confidence=float(confidence),
        seed=seed,
        allow=allow,
        **groups,
    )


def _tune(config: Mapping[str, object]) -> Any:
    from nas.commands.retrain_settings import TuneOptions

    given = as_mapping(config, "tune")
    check_fields(given, [one.name for one in fields(TuneOptions)], level="tune.")
    return TuneOptions(**given)  # type: ignore[arg-type]  # it checks itself


def _compress(config: Mapping[str, object], allow: Sequence[str]) -> Any:
    from nas.train.compression.options import CompressOptions

    node = config["compress"]
    made = CompressOptions() if node is None else instantiate(node, where="compress", allow=allow)
    if not isinstance(made, CompressOptions):
        raise UserError("compress", f"must be options of compression, got {type(made).__name__}")
    return made


def _allowed(config: Mapping[str, object]) -> tuple[str, ...]:
    allow = _names(config["allow"], "allow")
    if allow and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # an installed `nas` does not look here by itself
    return allow


def _models(given: object) -> str | tuple[str, ...]:
    return tuple(str(digest) for digest in given) if isinstance(given, list | tuple) else str(given)


def _path(given: object) -> Path | None:
    return None if given is None else Path(str(given))


def _names(node: object, where: str) -> tuple[str, ...]:
    given = [node] if isinstance(node, str) else node
    if not isinstance(given, Sequence) or not all(isinstance(item, str) for item in given):
        raise UserError(where, f"must be a list of names, got {node!r}", f"e.g. {where}=[name,name]")
    return tuple(str(item) for item in given)
