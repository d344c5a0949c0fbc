"""Hydra at the border: argv -> composed config, and Hydra's errors -> one line.

Responsible for running a task under `hydra.main` with the shipped `conf` folder and a user's `--config-dir`.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nas.cli.options import config_folder
from nas.errors import UserError, unknown_name
from nas.locate import resource_folder


def run_under_hydra(name: str, arguments: list[str], task: Callable[[dict[str, object], Sequence[str]], None]) -> None:
    """Composes the config ``name`` from ``arguments`` and calls ``task(config, overrides)``, once a job of a sweep.

    Raises:
        UserError: whatever Hydra finds wrong with the arguments.
        Exception: what the task raised; in a sweep, the first of them, after all jobs.
    """
    folder = resource_folder("conf")
    errors: list[Exception] = []

    def run(config: DictConfig) -> None:
        # Hydra would print an error of its own and, in a sweep, drop the jobs behind the one that failed.
        try:
            task(_plain(config), [str(override) for override in HydraConfig.get().overrides.task])
        except Exception as error:
            errors.append(error)

    decorated = hydra.main(version_base="1.3", config_path=str(folder), config_name=name)(run)
    # A sweep leaves a file of Hydra's behind, which is nothing to a user.
    with TemporaryDirectory(prefix="nas-sweep-") as scratch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="hydra")
        try:
            with _argv([f"nas {name}", *arguments, f"hydra.sweep.dir='{scratch}'"]):
                decorated()
        except (HydraException, OmegaConfBaseException) as error:
            raise _as_user_error(error, name, arguments) from error
        except yaml.YAMLError as error:
            problem = f"is not plain YAML, {' '.join(str(error).split())}"
            raise UserError(config_folder(arguments) or "config", problem, "correct the file of the group") from error
        except ValueError as error:  # not the task's, those are in `errors`
            raise _no_such_option(arguments) or UserError("config", " ".join(str(error).split())) from error
        finally:
            GlobalHydra.instance().clear()
    if errors:
        raise errors[0]


def _no_such_option(arguments: Sequence[str]) -> UserError | None:
    """The error for a group that is given what is no name, e.g. ``recipe=3``; Hydra does not say which."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        known = _options(key)
        if known and value not in known:
            return unknown_name(key, key, value, known)
    return None


def _names_options(argument: str) -> bool:
    """Whether it chooses what a group has, one (``data=folder``) or several (``callbacks=[mlflow,wandb]``)."""
    group, _, value = argument.partition("=")
    several = value.startswith("[") and value.endswith("]")
    names = [name.strip() for name in value[1:-1].split(",")] if several else [value]
    return set(names) <= set(_options(group))


def _options(group: str) -> list[str]:
    """Names of the shipped options of a group; [] where it is none."""
    return [file.stem for file in (resource_folder("conf") / group).glob("*.yaml")] if group else []


def _plain(config: DictConfig) -> dict[str, object]:
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "config"
        raise UserError(str(key), str(error).splitlines()[0]) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@contextmanager
def _argv(arguments: list[str]) -> Iterator[None]:
    # Hydra reads sys.argv, and prints errors itself unless it is told to raise them.
    before, flag = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = arguments, "1"
    try:
        yield
    finally:
        sys.argv = before
        if flag is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = flag


def _as_user_error(error: Exception, name: str, arguments: Sequence[str]) -> UserError:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return unknown_name(group or "config", group or "config", option, error.options or _options(group))
    if isinstance(error, OverrideParseException):
        return UserError(
            f"argument '{error.override}'", "is not of the form field=value", "quote values with odd characters"
        )
    text = " ".join(str(error).split())
    cause = " ".join(str(error.__cause__).split()) if error.__cause__ else ""
    missing = re.search(r"(?:Key|Could not override) '([^']+)'", text) or re.search(r"Key '([^']+)'", cause)
    if missing:
        full = re.search(r"full_key: ([\w.\[\]-]+)", f"{text} {cause}")
        return _unknown_field(full.group(1) if full else missing.group(1), name, arguments)
    several = re.search(r"Ambiguous value for argument '([^=']+)=", text)
    if several:
        advice = "several runs need --multirun, a list is written field=[a,b]"
        return UserError(several.group(1), "has several values, but one is expected", advice)
    twice = re.search(r"An item is already at '([^']+)'", text)
    if twice:
        return UserError(twice.group(1), "is there already and cannot be added", f"give {twice.group(1)}=value")
    group = re.search(r"Could not override '([^']+)'\.\s*No match in the defaults list", text)
    if group:
        return _unknown_field(group.group(1), name, arguments)
    if isinstance(error, CompactHydraException) and cause:
        text = f"{text} {cause}"
    field = re.search(r"full_key: ([\w.\[\]-]+)", text)
    return UserError(field.group(1) if field else "config", re.sub(r"\s*(?:full_key|object_type)[:=] ?\S*", "", text))


def _unknown_field(key: str, name: str, arguments: Sequence[str]) -> UserError:
    """The error for a field that the config does not have: lists the fields of the deepest known level."""
    # The groups as they were chosen: data=folder has other fields than the default.
    chosen = [argument for argument in arguments if _names_options(argument)]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(resource_folder("conf"))):
        node: object = OmegaConf.to_container(hydra.compose(name, overrides=chosen), resolve=False)
    parts, depth = key.split("."), 0
    while depth < len(parts) and isinstance(node, dict) and parts[depth] in node:
        node, depth = node[parts[depth]], depth + 1
    level = ".".join(parts[:depth])
    known = [str(field) for field in node if field != "_target_"] if isinstance(node, dict) else []
    wrong = parts[depth] if depth < len(parts) else parts[-1]
    return unknown_name(f"{level}.{wrong}" if level else wrong, f"field in {level}" if level else "field", wrong, known)
