"""`nas calibrate`: a latency model for a device and a space, without a search."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from nas.commands.calibrate import Calibrated, CalibrationRun, calibrate
from nas.commands.display import Display, Silent
from nas.commands.locate_device import device_folders
from nas.commands.locate_space import find_space
from nas.commands.operators import OperatorsRun, calibrate_operators
from nas.commands.quality_table import quality_table
from nas.commands.settings import CalibrateSettings
from nas.commands.setup import describe
from nas.commands.subject import Subject, device_precision
from nas.device.advice import recommend_for
from nas.device.card import PRECISIONS, Device, Precision, load_device
from nas.device.operators import OperatorsModel
from nas.device.where.places import Offline
from nas.errors import UserError, unknown_name
from nas.model.check import check_space
from nas.model.population_costs import PopulationCosts
from nas.space import SearchSpace
from nas.train.task import image_classification
from nas.units import counted

_INPUT = re.compile(r"^\s*(\d+)\s*x\s*(\d+)\s*x\s*(\d+)\s*$")


def calibrate_device(
    settings: CalibrateSettings | None = None, *, display: Display | None = None, **given: Any
) -> dict[Precision, Calibrated]:
    """Measures a device on architectures of a space, and fits and stores a latency model for each precision.

    Args:
        settings: what to do; None: the defaults with ``given``.
        display: is told what happens; None: nobody.
        given: fields of `CalibrateSettings`, in place of ``settings``.

    Raises:
        UserError: something that the user gave does not fit, the device cannot be reached, or too little settled.
    """
    if settings is None:
        settings = CalibrateSettings(**given)
    elif given:
        raise UserError("calibrate", "takes either settings or their fields, got both")
    display = display or Silent()
    if settings.operators:
        calibrate_kernels(settings, display)
        return {}
    space = find_space(settings.space) if isinstance(settings.space, str) else settings.space
    subject = _subject(space, settings, display)
    precisions = _precisions(settings, subject.device, shipped=space.precisions)
    run = CalibrationRun(options=settings.calibration, confidence=settings.confidence, seed=settings.seed)
    found = calibrate(subject, precisions, run, display)
    _show(found, settings.confidence, display)
    return found


def calibrate_kernels(settings: CalibrateSettings, display: Display) -> dict[Precision, OperatorsModel]:
    """Measures short chains of layers on a device, and stores a model of its kernels for each precision."""
    device = _device(settings)
    display.say("device", describe(device))
    run = OperatorsRun(
        probes=settings.probes,
        blocks=settings.calibration.blocks,
        refresh=settings.calibration.refresh,
        seed=settings.seed,
        exporter=settings.deploy.exporter,
    )
    precisions = _precisions(settings, device, shipped=())
    models = calibrate_operators(device, precisions, run, display)
    display.say("model", f"{device_folders()[0] / device.name}/   it serves every space; searches use it by themselves")
    return models


def _device(settings: CalibrateSettings) -> Device:
    device = load_device(settings.device, device_folders())
    if settings.where is None:
        return device
    if settings.where != "offline":
        raise unknown_name("where", "place", settings.where, ["offline"])
    return replace(device, where=Offline(folder=Path("latency_models") / device.name / "offline"))


def _subject(space: SearchSpace, settings: CalibrateSettings, display: Display) -> Subject:
    device = _device(settings)
    if settings.input is None:
        task = image_classification(settings.data.load())
        shape, classes = task.input_shape, task.num_classes
    else:
        shape, classes = _input_shape(settings.input), settings.classes or 0
    allow = tuple(settings.allow)
    check_space(space, input_shape=shape, num_classes=classes, allow=allow)
    size = "x".join(map(str, shape))
    display.say("space", f"{space.name}  {counted(space.size, 'architecture')} on {size}, {classes} classes")
    display.say("device", describe(device))
    return Subject(
        space=space.undeployed,
        input_shape=shape,
        num_classes=classes,
        costs=PopulationCosts(space.undeployed, input_shape=shape, num_classes=classes, allow=allow),
        device=device,
        deploy=settings.deploy,
        allow=allow,
    )


def _input_shape(text: str) -> tuple[int, int, int]:
    match = _INPUT.match(text)
    if match is None:
        raise UserError("input", f"must be channels x height x width, got {text!r}", "e.g. 3x32x32")
    channels, height, width = (int(size) for size in match.groups())
    return channels, height, width


def _precisions(settings: CalibrateSettings, device: Device, *, shipped: Sequence[str]) -> Sequence[Precision]:
    if settings.precisions is None:
        names = shipped or settings.deploy.precisions
        exported = [device_precision(name, settings.deploy) for name in names]
        return list(dict.fromkeys([device.precision, *exported]))
    for name in settings.precisions:
        if name not in PRECISIONS:
            raise unknown_name("precisions", "precision", name, PRECISIONS)
    if not settings.precisions:
        raise UserError("precisions", "must name at least one, got none", f"known are {', '.join(PRECISIONS)}")
    return [known for known in get_args(Precision) if known in settings.precisions]


def _show(found: dict[Precision, Calibrated], confidence: float, display: Display) -> None:
    models = {precision: calibrated.predictor for precision, calibrated in found.items()}
    table = quality_table(models, confidence, width=shutil.get_terminal_size((120, 24)).columns)
    figures = {
        precision: {"file": str(calibrated.file), "quality": calibrated.predictor.quality.to_record()}
        for precision, calibrated in found.items()
    }
    display.result("\n" + table + "\n", {"models": figures})
    for precision, calibrated in found.items():
        if calibrated.fitted is not None:
            display.say("advice", f"{precision}: {recommend_for(calibrated.fitted, confidence)}")
        display.say("model", str(calibrated.file))
