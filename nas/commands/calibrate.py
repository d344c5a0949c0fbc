"""Latency models of a device: stored ones, or measured and fitted now. `nas calibrate`, and step 2 of a search.

Responsible for what is measured when. Every measurement is kept as soon as it is taken, so that an interrupted
calibration goes on, and one with more samples adds to what is there.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.commands.display import Display
from nas.commands.locate_device import device_folders, stored_files
from nas.commands.settings import CalibrationOptions
from nas.commands.subject import Subject
from nas.commands.transfer import better_of
from nas.deploy.untrained import export_untrained
from nas.device.card import Precision
from nas.device.codecs import StoredPredictor
from nas.device.host import host_facts
from nas.device.measurements import Measured, MeasurementFile
from nas.device.model_card import write_model_card
from nas.device.predictor import MIN_RANDOM, CostPredictor, fit_predictor
from nas.device.protocol import Measurement, TimingProtocol
from nas.device.samples import Plan, choose_samples
from nas.device.store import PredictorMisfitError, load_predictor, save_predictor
from nas.device.transfer import TransferPredictor
from nas.device.where.measure import measure_on
from nas.device.where.places import Local
from nas.errors import UserError
from nas.run.folder import check_place
from nas.units import counted, format_quantity, format_seconds

_STREAM, _TRANSFER_STREAM = 3, 4  # of the seed
_FREE_BYTES = 1_000_000  # a latency model takes a hundredth of it


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrated:
    """A latency model, and where it is stored.

    Attributes:
        predictor: rows -> ms.
        file: that it was read from or written to.
        fitted: the model from exact features, which ``predictor`` is unless other devices helped; None for a model that
            was not fitted now.
    """

    predictor: StoredPredictor
    file: Path
    fitted: CostPredictor | None = None

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


@dataclass(frozen=True, kw_only=True)
class CalibrationRun:
    """How a calibration is done.

    Attributes:
        options: how many samples, how thoroughly.
        confidence: of the bound that is reported.
        seed: of the choice of architectures.
    """

    options: CalibrationOptions
    confidence: float
    seed: int


def stored_models(subject: Subject, precisions: Sequence[Precision], display: Display) -> dict[Precision, Calibrated]:
    """The models of those precisions that have one that fits; says why one that is there does not."""
    found = {}
    for precision in precisions:
        scope = subject.scope(precision)
        for file in stored_files(subject.device.name, scope.file_name):
            try:
                found[precision] = Calibrated(predictor=load_predictor(file, subject.costs, scope=scope), file=file)
                break
            except PredictorMisfitError as reason:
                display.note(f"a stored latency model does not fit: {reason.where}: {reason.problem}")
    return found


def calibrate(
    subject: Subject, precisions: Sequence[Precision], run: CalibrationRun, display: Display
) -> dict[Precision, Calibrated]:
    """Measures what is not measured yet, fits a model for each precision and stores it.

    Architectures are drawn by ``run.seed``; those measured earlier, on the same machine by the same protocol, count.
    Models go to ``./latency_models/<device>/``, measurements beside them.

    Raises:
        UserError: the device cannot be reached or measured on, too few measurements settled, or a network cannot be
            exported. What was measured is kept.
    """
    return _Calibration(subject, precisions, run, display).run()


class _Calibration:
    """One call of `calibrate`: what its steps share."""

    def __init__(
        self, subject: Subject, precisions: Sequence[Precision], run: CalibrationRun, display: Display
    ) -> None:
        self.subject, self.precisions, self.how, self.display = subject, tuple(precisions), run, display
        self.protocol = TimingProtocol(blocks=run.options.blocks)
        self.folder = device_folders()[0] / subject.device.name
        self.stores = {
            precision: MeasurementFile(self._measurements(precision), self._record(precision))
            for precision in precisions
        }

    def run(self) -> dict[Precision, Calibrated]:
        check_place(self.folder, where="latency_models", needed=_FREE_BYTES)
        options, subject = self.how.options, self.subject
        if options.refresh:
            for store in self.stores.values():
                store.forget()
        plan = choose_samples(
            subject.space, subject.costs, options.samples, np.random.default_rng([self.how.seed, _STREAM])
        )
        started = time.monotonic()
        missing = {precision: self._missing(precision, plan) for precision in self.precisions}
        self._announce(plan, missing)
        if any(missing.values()):
            self._measure(plan, missing)
        found = {precision: self._fit(precision) for precision in self.precisions}
        write_model_card(self.folder)
        took = format_seconds(time.monotonic() - started)
        self.display.say("latency", f"measured in {took}; stored in {self.folder}/")
        return found

    def _measurements(self, precision: Precision) -> Path:
        return self.folder / "measurements" / Path(self.subject.scope(precision).file_name).with_suffix(".jsonl").name

    def _record(self, precision: Precision) -> dict[str, object]:
        """What a file of measurements is about."""
        subject, device = self.subject, self.subject.device
        return {
            "space": subject.space.name,
            "space_digest": subject.space.digest,
            "input_shape": list(subject.input_shape),
            "num_classes": subject.num_classes,
            "precision": precision,
            "device": device.name,
            "threads": device.threads,
            "batch": device.batch,
            "protocol": self.protocol.describe(),
        }

    def _known(self, precision: Precision) -> list[Measured]:
        """What was measured on the machine that is there now, and settled."""
        return [one for one in self._latest(precision) if not one.note]

    def _latest(self, precision: Precision) -> list[Measured]:
        """What settled on the machine that is there now, and the last timing of each architecture that never did."""
        measured = self.stores[precision].read()
        if not measured:
            return []
        here = isinstance(self.subject.device.where, Local)
        # Of a machine elsewhere the newest measurement tells which it is.
        now = host_facts().fingerprint(self.subject.device.threads) if here else measured[-1].fingerprint
        usable = [one for one in measured if one.fingerprint == now]
        settled = [one for one in usable if not one.note]
        rows = {one.row for one in settled}
        return settled + list({one.row: one for one in usable if one.row not in rows}.values())

    def _missing(self, precision: Precision, plan: Plan) -> list[int]:
        """Places in the plan that are not measured yet; a row that stands there twice is measured twice."""
        known = Counter(one.row for one in self._known(precision))
        missing = []
        for place, row in enumerate(map(tuple, plan.population.tolist())):
            known[row] -= 1
            if known[row] < 0:
                missing.append(place)
        return missing

    def _announce(self, plan: Plan, missing: Mapping[Precision, Sequence[int]]) -> None:
        subject, count = self.subject, len(plan.population)
        distinct = len(np.unique(plan.population, axis=0))
        what = (
            counted(count, "architecture")
            if distinct == count
            else f"{counted(distinct, 'architecture')} in turns, {count} times in all,"
        )
        counts = {precision: len(places) for precision, places in missing.items()}
        if not any(counts.values()):
            text = f"all {distinct} architectures of {subject.space.name} are measured already"
        elif all(number == count for number in counts.values()):
            kinds = " and ".join(self.precisions)
            text = (
                f"no latency model of {subject.device.name} for {subject.space.name} on this input: "
                f"measuring {what} as {kinds}"
            )
        else:
            left = ", ".join(f"{number} of {count} as {precision}" for precision, number in counts.items() if number)
            text = f"going on with a calibration: {left} are to be measured"
        self.display.say("latency", text)

    def _measure(self, plan: Plan, missing: Mapping[Precision, Sequence[int]]) -> None:
        with tempfile.TemporaryDirectory(prefix="nas-calibration-") as scratch:
            files = self._export(plan, missing, Path(scratch))
            measure_on(
                self.subject.device,
                list(files),
                protocol=self.protocol,
                reference_ms=self._reference_ms(),
                progress=lambda done, total: self.display.progress("measure", done, total, text="files timed"),
                on_measured=lambda group: self._keep(group, files, plan),
            )

    def _export(
        self, plan: Plan, missing: Mapping[Precision, Sequence[int]], folder: Path
    ) -> dict[Path, tuple[Precision, int]]:
        """File -> its precision and place in the plan."""
        subject = self.subject
        files: dict[Path, tuple[Precision, int]] = {}
        places = sorted({place for wanted in missing.values() for place in wanted})
        for number, place in enumerate(places):
            own = folder / str(place)  # a row that stands in the plan twice has two files
            own.mkdir()
            written = export_untrained(
                subject.space.network(plan.population[place]),
                own,
                [precision for precision in self.precisions if place in missing[precision]],
                input_shape=subject.input_shape,
                num_classes=subject.num_classes,
                exporter=subject.deploy.exporter,
                allow=subject.allow,
            )
            files |= {file: (precision, place) for precision, file in written.items()}
            self.display.progress("export", number + 1, len(places), text="untrained networks to time")
        return files

    def _keep(self, group: Sequence[Measurement], files: Mapping[Path, tuple[Precision, int]], plan: Plan) -> None:
        """Stores the measurements of a group."""
        kept: dict[Precision, list[Measured]] = {}
        for measurement in group:
            precision, place = files[measurement.file]
            measured = Measured.of(
                measurement,
                row=plan.population[place].tolist(),
                random=bool(plan.random[place]),
                protocol=self.protocol.describe(),
                threads=self.subject.device.threads,
            )
            kept.setdefault(precision, []).append(measured)
        for precision, measured_now in kept.items():
            self.stores[precision].append(measured_now)

    def _reference_ms(self) -> float | None:
        """The anchor's latency in the newest measurements, which tells a machine that is slow throughout."""
        known = [one for precision in self.precisions for one in self._known(precision)]
        levels = [one.anchor_ms for one in known if np.isfinite(one.anchor_ms)]
        return min(levels) if levels else None

    def _fit(self, precision: Precision) -> Calibrated:
        latest = self._latest(precision)
        measured, refused = [one for one in latest if not one.note], [one for one in latest if one.note]
        num_random = sum(one.random for one in measured)
        if refused:
            self.display.note(
                f"{len(refused)} {precision} timings did not settle and are not used (the first: {refused[0].note}); "
                f"`nas calibrate` again measures them again"
            )
        if num_random < MIN_RANDOM:
            problem = f"must have {MIN_RANDOM} measured architectures drawn at random, {num_random} settled"
            raise UserError(f"calibration of {self.subject.device.name}", problem, "go on when the machine is quieter")
        fitted = fit_predictor(
            self.subject.costs,
            np.array([one.row for one in measured], dtype=np.int16),
            [one.latency_ms for one in measured],
            scope=self.subject.scope(precision),
            random=[one.random for one in measured],
            confidence=self.how.confidence,
            protocol=measured[-1].protocol,
            anchor_ms=measured[-1].anchor_ms,
            host=measured[-1].host,
            # Ties the model to this machine; one of a machine elsewhere is used wherever it is asked.
            fingerprint=measured[-1].fingerprint if isinstance(self.subject.device.where, Local) else {},
            time=measured[-1].time,
            num_unsettled=len(refused),
        )
        rng = np.random.default_rng([self.how.seed, _TRANSFER_STREAM])
        predictor = better_of(fitted, self.subject, precision, confidence=self.how.confidence, rng=rng)
        if isinstance(predictor, TransferPredictor):
            self.display.say("latency", f"{precision}: draws on the models of {', '.join(predictor.sources)}")
        file = self.folder / self.subject.scope(precision).file_name
        save_predictor(predictor, file)
        fastest, slowest = min(one.latency_ms for one in measured), max(one.latency_ms for one in measured)
        spans = f"{format_quantity(fastest, 'time')} to {format_quantity(slowest, 'time')}"
        distinct = len({one.row for one in measured})
        self.display.say("latency", f"{precision}: {distinct} architecture{'s' * (distinct > 1)}, {spans}")
        return Calibrated(predictor=predictor, file=file, fitted=fitted)
