"""Composed config -> `SearchSettings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TypeVar

from nas.cli.instantiate import instantiate
from nas.cli.options import check_fields
from nas.cli.search import as_mapping
from nas.commands.settings import CalibrateSettings, CalibrationOptions, RunOptions, SearchSettings
from nas.errors import UserError

_T = TypeVar("_T")
_CALIBRATION = ("samples", "blocks", "refresh")
_GROUPS = ("data", "strategy", "recipe", "runner", "deploy", "compress")


def settings_from_config(config: Mapping[str, object]) -> SearchSettings:
    """The settings that a composed `conf/search.yaml` describes. Raises `UserError` naming the field at fault."""
    check_fields(config, [*(field.name for field in fields(SearchSettings)), "display"])
    allow = _names(config, "allow")
    groups = {name: instantiate(config.get(name), where=name, allow=allow) for name in _GROUPS}
    seed, confidence = _seed_and_confidence(config)
    return SearchSettings(
        space=str(config["space"]),
        device=_names(config, "device"),
        objectives=_names(config, "objectives"),
        budget=as_mapping(config, "budget"),
        confidence=confidence,
        seed=seed,
        scores=_names(config, "scores"),
        run=_record(RunOptions, config, "run"),
        calibration=_record(CalibrationOptions, config, "calibration"),
        allow=allow,
        callbacks=tuple(
            instantiate(node, where=f"callbacks.{name}", allow=allow)  # type: ignore[misc]  # as below
            for name, node in as_mapping(config, "callbacks").items()
        ),
        **groups,  # type: ignore[arg-type]  # instantiate() cannot know the classes that YAML names
    )


def calibrate_settings_from_config(config: Mapping[str, object]) -> CalibrateSettings:
    """The settings that a composed `conf/calibrate.yaml` describes. Raises `UserError` naming the field at fault."""
    own = [field.name for field in fields(CalibrateSettings) if field.name != "calibration"]
    check_fields(config, [*own, *_CALIBRATION, "display"])
    allow = _names(config, "allow")
    groups = {name: instantiate(config.get(name), where=name, allow=allow) for name in ("data", "deploy")}
    options = {name: config[name] for name in _CALIBRATION}
    calibration = instantiate(
        {"_target_": f"{CalibrationOptions.__module__}.{CalibrationOptions.__qualname__}", **options}, where="calibrate"
    )
    seed, confidence = _seed_and_confidence(config)
    return CalibrateSettings(
        device=str(config["device"]),
        space=str(config["space"]),
        classes=config["classes"],  # type: ignore[arg-type]  # checked by the settings
        operators=config["operators"] is True,
        probes=config["probes"],  # type: ignore[arg-type]  # checked where it is used
        precisions=None if config["precisions"] is None else _names(config, "precisions"),
        calibration=calibration,  # type: ignore[arg-type]  # as below
        confidence=confidence,
        seed=seed,
        allow=allow,
        input=_text(config, "input"),
        where=_text(config, "where"),
        **groups,  # type: ignore[arg-type]  # instantiate() cannot know the classes that YAML names
    )


def _text(config: Mapping[str, object], key: str) -> str | None:
    return None if config[key] is None else str(config[key])


def _seed_and_confidence(config: Mapping[str, object]) -> tuple[int, float]:
    seed, confidence = config["seed"], config["confidence"]
    if not isinstance(confidence, int | float) or isinstance(confidence, bool):
        raise UserError("confidence", f"must be a number, got {confidence!r}", "0.95 is usual")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UserError("seed", f"must be a whole number, got {seed!r}")
    return seed, float(confidence)


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
