"""Step 2 of a search: what predicts the latency of each device, for each precision that is searched on or exported.

Responsible for where a predictor comes from: a stored one that fits, a calibration now where the device can be reached,
or an estimate from its card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nas.commands.by_precision import ByPrecision, OfBuilt, weights_of
from nas.commands.calibrate import Calibrated, CalibrationRun, calibrate, stored_models
from nas.commands.display import Display
from nas.commands.locate_device import stored_files
from nas.commands.setup import Setup, device_precision, searched_precisions
from nas.commands.subject import Subject
from nas.device.card import Device, Precision
from nas.device.operators_store import load_operators, operators_file
from nas.device.predictor import LatencyPredictor
from nas.device.roofline import RooflinePredictor
from nas.device.store import PredictorMisfitError
from nas.device.where.places import Nowhere, Offline
from nas.errors import UserError
from nas.strategy.screening import Predictor


class Estimate(LatencyPredictor, Protocol):
    """A prediction that says how wide its bound is."""

    def bound_text(self, confidence: float) -> str:
        """E.g. ``2.8 times the estimate``."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceModels:
    """What predicts the latencies of a device.

    Attributes:
        device: that they belong to.
        calibrated: precision -> latency model that was fitted to measurements.
        estimated: precision -> prediction without measured networks of the space: from a model of the device's
            kernels, else from its card.
        precisions: that a search bounds and minimises; empty: the device's own. Predictors are asked about what is
            built, rows of ``space.undeployed``.
    """

    device: Device
    calibrated: Mapping[Precision, Calibrated]
    estimated: Mapping[Precision, Estimate]
    precisions: tuple[Precision, ...] = ()

    @property
    def key(self) -> str:
        """Of the metric: ``latency_ms.<device>``."""
        return f"latency_ms.{self.device.name}"

    @property
    def energy_key(self) -> str:
        """Of the metric: ``energy_mj.<device>``."""
        return f"energy_mj.{self.device.name}"

    @property
    def measurable(self) -> bool:
        """Whether files can be timed on it now."""
        return not isinstance(self.device.where, Nowhere | Offline)

    @property
    def searched(self) -> LatencyPredictor:
        """For the precision that a search bounds and minimises, the first one where there are several."""
        found = self.predictor((self.precisions or (self.device.precision,))[0])
        assert found is not None
        return found

    @property
    def anchor_ms(self) -> float | None:
        """The anchor's undisturbed latency at the calibration; None where there was none."""
        known = (model.anchor_ms for model in self.calibrated.values())
        return next((level for level in known if level is not None), None)

    def predictor(self, precision: Precision) -> LatencyPredictor | None:
        """For files of this precision; None where nothing predicts them."""
        if precision in self.calibrated:
            return self.calibrated[precision].predictor
        return self.estimated.get(precision)

    def source(self, precision: Precision) -> str:
        """``calibrated``, ``operators`` or ``estimated``."""
        if precision in self.calibrated:
            return "calibrated"
        return "estimated" if isinstance(self.estimated.get(precision), RooflinePredictor) else "operators"

    def to_record(self) -> dict[str, object]:
        """Its entry in ``latency_models`` of a manifest, by precision."""
        records: dict[str, object] = {str(name): model.to_record() for name, model in self.calibrated.items()}
        return {**{str(name): {"source": self.source(name)} for name in self.estimated}, **records}


def latency_models(setup: Setup, display: Display) -> tuple[DeviceModels, ...]:
    """What predicts latencies on each device of the search, in their order.

    Raises:
        UserError: a device that cannot be measured and has neither a latency model for the space nor peak rates in its
            card, or whose calibration fails.
    """
    return tuple(_models_of(setup, device, display) for device in setup.devices)


def _models_of(setup: Setup, device: Device, display: Display) -> DeviceModels:
    subject = Subject.of(setup, device)
    deploy = setup.settings.deploy
    searched = searched_precisions(setup.space, device, deploy)
    exported = () if setup.space.precisions else [device_precision(name, deploy) for name in deploy.precisions]
    wanted = list(dict.fromkeys([*searched, *exported]))
    refresh = setup.settings.calibration.refresh
    found = {} if refresh else stored_models(subject, wanted, display)
    missing = [precision for precision in wanted if precision not in found]
    estimated = {} if refresh else _of_operators(subject, missing, display)
    missing = [precision for precision in missing if precision not in estimated]
    if missing and isinstance(device.where, Nowhere | Offline):
        estimated |= _of_card(subject, missing, display)
        if not {*searched} <= {*found, *estimated}:
            raise _cannot_know(device, setup)
    elif missing:
        run = CalibrationRun(
            options=setup.settings.calibration, confidence=setup.settings.confidence, seed=setup.settings.seed
        )
        found |= calibrate(subject, missing, run, display)
    models = DeviceModels(
        device=device,
        calibrated={precision: found[precision] for precision in wanted if precision in found},
        estimated=estimated,
        precisions=searched,
    )
    _tell(models, setup, display)
    return models


def _of_operators(subject: Subject, precisions: Sequence[Precision], display: Display) -> dict[Precision, Estimate]:
    """Predictions from a model of the device's kernels (`nas calibrate operators=true`), where one is stored."""
    found: dict[Precision, Estimate] = {}
    for precision in precisions:
        for file in stored_files(subject.device.name, operators_file(precision)):
            try:
                model = load_operators(file, device=subject.device, precision=precision)
            except PredictorMisfitError as reason:
                display.note(f"a stored model of operators does not fit: {reason.where}: {reason.problem}")
                continue
            found[precision] = model.predictor(subject.scope(precision), subject.costs)
            break
    return found


def _of_card(subject: Subject, precisions: Sequence[Precision], display: Display) -> dict[Precision, Estimate]:
    found: dict[Precision, Estimate] = {}
    for precision in precisions:
        try:
            found[precision] = RooflinePredictor.for_scope(subject.scope(precision), subject.costs)
        except UserError as reason:
            display.note(f"no estimate of {precision} latencies on {subject.device.name}: {reason.problem}")
    return found


def _cannot_know(device: Device, setup: Setup) -> UserError:
    offline = isinstance(device.where, Offline)
    command = f"nas calibrate device={device.name} space={setup.space.name}" + (" where=offline" if offline else "")
    problem = f"{device.name} has no latency model for {setup.space.name} on this input, and its card gives no estimate"
    return UserError("device", problem, f"measure it: {command}")


def _tell(models: DeviceModels, setup: Setup, display: Display) -> None:
    several = len(setup.devices) > 1
    for precision in (*models.calibrated, *models.estimated):
        role = " (searched)" if precision in models.precisions else ""
        name = f"{models.device.name} {precision}" if several else precision
        if precision in models.calibrated:
            predictor = models.calibrated[precision].predictor
            bound = f"{setup.settings.confidence:.0%} bound {predictor.bound_text(setup.settings.confidence)}"
            display.say("latency", f"{name}{role}: {predictor.quality}; {bound}")
        else:
            estimate = models.estimated[precision]
            bound = f"{setup.settings.confidence:.0%} bound {estimate.bound_text(setup.settings.confidence)}"
            basis = {
                "operators": "predicted from its kernels, no network of this space measured",
                "estimated": "estimated from the device's card, not measured",
            }[models.source(precision)]
            display.say("latency", f"{name}{role}: {basis}; {bound}")


def row_predictor(
    setup: Setup, ask: Callable[[Precision], Predictor], *, precision: Precision | None = None
) -> Predictor:
    """What predicts a figure of the rows of the searched space.

    Args:
        setup: of the search.
        ask: precision -> predictor of what is built.
        precision: of the files that are meant; None: the one that each row chooses, which is the device's where rows
            choose none.
    """
    if precision is not None or not setup.space.precisions:
        assert precision is not None, "rows of this space choose no precision"
        predictor = ask(precision)
        return OfBuilt(rows=setup.deployed.rows, predictor=predictor) if setup.chooses_file else predictor
    own = {name: ask(device_precision(name, setup.settings.deploy)) for name in setup.space.precisions}
    return ByPrecision(
        rows=setup.deployed.rows,
        costs=setup.costs,
        predictors=own,
        shares={name: weights_of(predictor) for name, predictor in own.items()},
    )


def latency_of_rows(setup: Setup, on: DeviceModels) -> Predictor:
    """Latencies of the rows of the searched space on a device, each in the precision that it is searched in."""

    def known(precision: Precision) -> Predictor:
        found = on.predictor(precision)
        assert found is not None, "a model of every precision that is searched"
        return found

    return row_predictor(setup, known, precision=None if setup.space.precisions else on.device.precision)
