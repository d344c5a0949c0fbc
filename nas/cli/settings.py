"""Composed config -> `SearchSettings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TypeVar

from nas.cli.instantiate import instantiate
from nas.cli.search import as_mapping
from nas.commands.settings import CalibrationOptions, RunOptions, SearchSettings
from nas.errors import UserError, unknown_name

_T = TypeVar("_T")
_GROUPS = ("data", "strategy", "recipe", "runner", "deploy")


def settings_from_config(config: Mapping[str, object]) -> SearchSettings:
    """The settings that a composed `conf/search.yaml` describes. Raises `UserError` naming the field at fault."""
    _check_fields(config)
    allow = _names(config, "allow")
    groups = {name: instantiate(config.get(name), where=name, allow=allow) for name in _GROUPS}
    seed, confidence = config["seed"], config["confidence"]
    if not isinstance(confidence, int | float) or isinstance(confidence, bool):
        raise UserError("confidence", f"must be a number, got {confidence!r}", "0.95 is usual")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UserError("seed", f"must be a whole number, got {seed!r}")
    return SearchSettings(
        space=str(config["space"]),
        device=str(config["device"]),
        objectives=_names(config, "objectives"),
        budget=as_mapping(config, "budget"),
        confidence=float(confidence),
        seed=seed,
        run=_record(RunOptions, config, "run"),
        calibration=_record(CalibrationOptions, config, "calibration"),
        allow=allow,
        **groups,  # type: ignore[arg-type]  # instantiate() cannot know the classes that YAML names
    )


def _check_fields(config: Mapping[str, object]) -> None:
    """Refuses what ``+field=value`` adds to the root, and misses what ``~field`` takes from it."""
    known = [*(field.name for field in fields(SearchSettings)), "display"]
    for name in config:
        if name not in known:
            raise unknown_name(name, "field", name, known)
    for name in known:
        if name not in config:
            raise UserError(name, "must be there, got nothing", f"leave out ~{name}")


def _record(kind: type[_T], config: Mapping[str, object], key: str) -> _T:
    target = {"_target_": f"{kind.__module__}.{kind.__qualname__}", **as_mapping(config, key)}
    made = instantiate(target, where=key)
    assert isinstance(made, kind)
    return made


def _names(config: Mapping[str, object], key: str) -> tuple[str, ...]:
    node = config.get(key)
    if isinstance(node, str):
        node = [node]
    if not isinstance(node, Sequence) or not all(isinstance(item, str) for item in node):
        raise UserError(key, f"must be a list of names, got {node!r}", f"e.g. {key}=[name,name]")
    return tuple(str(item) for item in node)
