"""Step 2 of a search: a latency model for each precision, stored or newly measured."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from nas.commands.display import Display
from nas.commands.setup import Setup, device_folders
from nas.deploy.export import export_onnx
from nas.deploy.quantise import host_activations, quantise
from nas.deploy.samples import samples_of
from nas.device.card import Precision
from nas.device.host import host_facts
from nas.device.model_card import write_model_card
from nas.device.predictor import CostPredictor, Scope, fit_predictor
from nas.device.protocol import Measurement, TimingProtocol
from nas.device.samples import Plan, choose_samples
from nas.device.store import PredictorMisfitError, load_predictor, save_predictor
from nas.device.timing import measure
from nas.model.build import build
from nas.model.shapes import input_shape_of
from nas.run.folder import check_place
from nas.units import format_quantity, format_seconds

_STREAM = 3  # of the seed
_FREE_BYTES = 1_000_000  # a latency model takes a hundredth of it
_CALIBRATION_IMAGES = 32  # ranges do not change what a quantised operator costs


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrated:
    """A latency model, and where it is stored.

    Attributes:
        predictor: rows -> ms.
        file: that it was read from or written to.
    """

    predictor: CostPredictor
    file: Path

    @property
    def anchor_ms(self) -> float | None:
        """The anchor's latency when it was measured; None if that is not known."""
        anchor = self.predictor.calibration.anchor_ms
        return None if np.isnan(anchor) else anchor

    def to_record(self) -> dict[str, object]:
        """Its entry in ``latency_models`` of a manifest."""
        calibration = self.predictor.calibration
        return {
            "file": str(self.file),
            "quality": self.predictor.quality.to_record(),
            "points": calibration.points(),
            "protocol": calibration.protocol,
            "time": calibration.time,
            "num_unsettled": calibration.num_unsettled,
        }


def latency_models(setup: Setup, display: Display) -> dict[Precision, Calibrated]:
    """Precision -> latency model of the device, for every precision that is exported or searched on.

    A stored model is used if it is about the same space, input, device and machine; else architectures are drawn,
    exported, timed and a model is fitted and stored in ``./latency_models/<device>/``.
    """
    wanted: list[Precision] = list(dict.fromkeys([setup.device.precision, *setup.settings.deploy.precisions]))
    found: dict[Precision, Calibrated] = {}
    for precision in wanted:
        stored = None if setup.settings.calibration.refresh else _stored(setup, precision, display)
        if stored is not None:
            found[precision] = stored
    missing = [precision for precision in wanted if precision not in found]
    if missing:
        check_place(device_folders()[0] / setup.device.name, where="latency_models", needed=_FREE_BYTES)
        found |= _calibrate(setup, missing, display)
    for precision in wanted:
        model, searched = found[precision], precision == setup.device.precision
        factor = model.predictor.bound_factor(setup.settings.confidence)
        bound = f"{setup.settings.confidence:.0%} bound {factor - 1:.0%} above the prediction"
        display.say("latency", f"{precision}{' (searched)' if searched else ''}: {model.predictor.quality}; {bound}")
    return {precision: found[precision] for precision in wanted}


def _scope(setup: Setup, precision: Precision) -> Scope:
    return Scope(
        space=setup.space,
        input_shape=setup.task.input_shape,
        num_classes=setup.task.num_classes,
        device=setup.device,
        precision=precision,
    )


def _stored(setup: Setup, precision: Precision, display: Display) -> Calibrated | None:
    scope = _scope(setup, precision)
    for folder in device_folders():
        file = folder / setup.device.name / scope.file_name
        if not file.is_file():
            continue
        try:
            return Calibrated(predictor=load_predictor(file, setup.costs, scope=scope), file=file)
        except PredictorMisfitError as reason:
            display.note(f"a stored latency model does not fit: {reason.where}: {reason.problem}")
    return None


def _calibrate(setup: Setup, precisions: Sequence[Precision], display: Display) -> dict[Precision, Calibrated]:
    options = setup.settings.calibration
    rng = np.random.default_rng([setup.settings.seed, _STREAM])
    plan = choose_samples(setup.space, setup.costs, options.samples, rng)
    started = time.monotonic()
    display.say(
        "latency",
        f"no latency model of {setup.device.name} for {setup.space.name} on this input: measuring "
        f"{len(plan.population)} architectures as {' and '.join(precisions)}",
    )
    protocol = TimingProtocol(blocks=options.blocks)
    with tempfile.TemporaryDirectory(prefix="nas-calibration-") as scratch:
        files = _export(setup, plan, precisions, Path(scratch), display)
        timed = measure(
            [file for one in files.values() for file in one],
            device=setup.device,
            protocol=protocol,
            progress=lambda done, total: display.progress("measure", done, total, text="files in onnxruntime"),
        )
    found = {}
    count = len(plan.population)
    for place, precision in enumerate(files):
        own = timed[place * count : (place + 1) * count]
        found[precision] = _fit(setup, precision, plan, own, protocol, display)
    folder = next(iter(found.values())).file.parent
    write_model_card(folder)
    display.say("latency", f"measured in {format_seconds(time.monotonic() - started)}; stored in {folder}/")
    return found


def _export(
    setup: Setup, plan: Plan, precisions: Sequence[Precision], folder: Path, display: Display
) -> Mapping[Precision, list[Path]]:
    """Files of untrained networks, which take as long as trained ones do, by precision."""
    settings, shape = setup.settings, setup.task.input_shape
    files: dict[Precision, list[Path]] = {precision: [] for precision in precisions}
    for number, row in enumerate(plan.population):
        network = setup.space.network(row)
        module = build(network, input_shape=shape, num_classes=setup.task.num_classes, allow=tuple(settings.allow))
        float_file = folder / f"{number}.float32.onnx"
        export_onnx(module, input_shape_of(network, shape), float_file, exporter=settings.deploy.exporter)
        if "float32" in files:
            files["float32"].append(float_file)
        if "int8" in files:
            images = samples_of(setup.task, network, num_calibration=_CALIBRATION_IMAGES).calibration
            file = folder / f"{number}.int8.onnx"
            activations = settings.deploy.activations or host_activations()
            quantise(float_file, file, images, activations=activations)
            files["int8"].append(file)
        display.progress("export", number + 1, len(plan.population), text="untrained networks to time")
    return files


def _fit(
    setup: Setup,
    precision: Precision,
    plan: Plan,
    timed: Sequence[Measurement],
    protocol: TimingProtocol,
    display: Display,
) -> Calibrated:
    host = host_facts()
    unsettled = [measurement for measurement in timed if not measurement.settled]
    if unsettled:
        display.note(
            f"{len(unsettled)} of {len(timed)} {precision} timings did not settle (the first: {unsettled[0].note}); "
            f"expect a wide bound, and use calibration.refresh=true when the machine is quiet"
        )
    predictor = fit_predictor(
        setup.costs,
        plan.population,
        [measurement.latency_ms for measurement in timed],
        scope=_scope(setup, precision),
        random=plan.random,
        confidence=setup.settings.confidence,
        protocol=protocol.describe(),
        anchor_ms=timed[0].anchor_ms,
        host=host.to_record(),
        fingerprint=host.fingerprint(setup.device.threads),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        num_unsettled=len(unsettled),
    )
    file = device_folders()[0] / setup.device.name / _scope(setup, precision).file_name
    save_predictor(predictor, file)
    fastest, slowest = min(m.latency_ms for m in timed), max(m.latency_ms for m in timed)
    spans = f"{format_quantity(fastest, 'time')} to {format_quantity(slowest, 'time')}"
    display.say("latency", f"{precision}: {len(timed)} architectures, {spans}")
    return Calibrated(predictor=predictor, file=file)
