"""The end of step 5 of a search: every exported file timed on every device that can be reached, and ``front.csv``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas.commands.by_precision import OfBuilt
from nas.commands.display import Display
from nas.commands.energy import file_energies, is_asked
from nas.commands.latency import DeviceModels, latency_of_rows
from nas.commands.screen import WORST
from nas.commands.setup import Setup
from nas.deploy.deployed import packed_size
from nas.deploy.manifest import NAME, FileEnergy, PredictedLatency, finish_manifest, read_manifest
from nas.device.card import PRECISIONS, Precision, precision_on_device
from nas.device.protocol import FULL, Measurement
from nas.device.where.measure import measure_on
from nas.errors import UserError
from nas.problem.evaluation import Candidate
from nas.problem.metrics import METRICS
from nas.run.folder import RunFolder
from nas.run.front import DeviceCost, FrontFile, broken_budgets, front_table, write_front_csv
from nas.space.moves import Population
from nas.strategy.screening import Predictor

_COMPRESSED = METRICS["compressed"].name


@dataclass(frozen=True, kw_only=True)
class _File:
    """An exported file of the front, with what its model's manifest says of it.

    Attributes:
        candidate: that it comes from.
        path: of the file.
        entry: of the file in the manifest.
        model: the manifest.
        reference_of: precision that the candidate is shipped in, where this file is only what that one is held
            against; "" for a file that may be shipped.
    """

    candidate: Candidate
    path: Path
    entry: Mapping[str, Any]
    model: Mapping[str, Any]
    reference_of: str = ""

    @property
    def row(self) -> Population:
        """``(1, m)``"""
        return np.array([self.candidate.architecture.row], dtype=np.int16)

    @property
    def precision(self) -> Precision:
        """As a device sees it."""
        quantisation = self.entry["quantisation"] or {}
        wanted = precision_on_device(str(self.entry["precision"]), quantisation.get("activations"))
        return next(name for name in PRECISIONS if name == wanted)


def measure_finalists(
    setup: Setup,
    folder: RunFolder,
    candidates: Sequence[Candidate],
    models: Sequence[DeviceModels],
    display: Display,
    *,
    units_ms: Mapping[str, float],
) -> list[FrontFile]:
    """Measures every exported file that was not yet, completes the manifests, and writes ``front.csv``.

    Called when no training runs: the machine should be quiet. A device that cannot be reached now is told about, and
    its figures stay empty; the next resume measures them.

    Args:
        setup: budgets and objectives.
        folder: that holds the models.
        candidates: whose models are the front.
        models: what predicts latencies, by device.
        display: shows progress.
        units_ms: metric key of a latency -> what counts as 1 in the worst over devices; {} where that is no goal.
    """
    for on in models:
        files = [file for candidate in candidates for file in _files_of(setup, folder, candidate)]
        measured = _measure(files, on, display) if on.measurable else {}
        asked = [(file.path, setup.deployed.rows.built(file.row), file.precision) for file in files]
        energies = file_energies(setup, on, asked, display)
        for candidate in candidates:
            own = [file for file in files if file.candidate is candidate]
            if own:
                _record(setup, folder, on, own, measured, energies)
    fronts = []
    for candidate in candidates:
        own = _files_of(setup, folder, candidate)
        rows = [_front_file(setup, folder, file, models, units_ms) for file in own]
        broken = {Path(row.path).name: text for row in rows if (text := broken_budgets(row, setup.budgets))}
        for file in own:
            if file.reference_of:
                broken[file.path.name] = _reference_text(file)
        if rows:
            path = folder.model(candidate.architecture.digest)
            finish_manifest(path, device=setup.device, measured={}, rejected=broken)
        fronts += rows
    table = front_table(
        fronts,
        keys=[key for on in models for key in _keys(setup, on)],
        choices=[choice.name for choice in setup.space.choices],
        objectives=setup.objectives,
        budgets=setup.budgets,
    )
    write_front_csv(table, folder.front_file)
    return fronts


def _measure(files: Sequence[_File], on: DeviceModels, display: Display) -> dict[Path, Measurement]:
    """File -> its timing, for those that have none yet."""
    name = on.device.name
    fresh = [file for file in files if not (file.entry["latencies"].get(name) or {}).get("measured")]
    try:
        timed = measure_on(
            on.device,
            [file.path for file in fresh],
            protocol=FULL,
            reference_ms=on.anchor_ms,
            progress=lambda done, total: display.progress("measure", done, total, text=f"files on {name}"),
        )
    except UserError as error:
        display.note(f"the files are not measured on {name}: {error}; resume the run to measure them")
        return {}
    unsettled = [measurement for measurement in timed if not measurement.settled]
    if unsettled:
        display.note(f"{len(unsettled)} of {len(timed)} latencies on {name} did not settle: {unsettled[0].note}")
    return {measurement.file: measurement for measurement in timed}


def _files_of(setup: Setup, folder: RunFolder, candidate: Candidate) -> list[_File]:
    path = folder.model(candidate.architecture.digest)
    if not (path / NAME).is_file():
        return []
    model, shipped = read_manifest(path), ""
    if setup.space.precisions:
        shipped = setup.space.network(candidate.architecture.row).deployment.file_precision
    return [
        _File(
            candidate=candidate,
            path=path / entry["path"],
            entry=entry,
            model=model,
            reference_of=shipped if shipped != entry["precision"] else "",
        )
        for entry in model["files"]
    ]


def _reference_text(file: _File) -> str:
    return f"the {file.entry['precision']} reference of a network that ships as {file.reference_of}"


def _record(
    setup: Setup,
    folder: RunFolder,
    on: DeviceModels,
    files: Sequence[_File],
    measured: Mapping[Path, Measurement],
    energies: Mapping[Path, FileEnergy],
) -> None:
    """Completes the manifest of a model by what is known of its files on a device."""
    candidate, row, confidence = files[0].candidate, files[0].row, setup.settings.confidence
    predicted = {}
    for file in files:
        predictor = _predictor(setup, on, file)
        if predictor is not None:
            predicted[file.path.name] = PredictedLatency(
                latency_ms=float(predictor.predict_ms(row)[0]),
                upper_ms=float(predictor.upper_ms(row, confidence)[0]),
                confidence=confidence,
                source=on.source(file.precision),
            )
    own = {file.path.name: measured[file.path] for file in files if file.path in measured}
    finish_manifest(
        folder.model(candidate.architecture.digest),
        device=on.device,
        measured=own,
        predicted=predicted,
        energies={file.path.name: energies[file.path] for file in files if file.path in energies},
    )


def _predictor(setup: Setup, on: DeviceModels, file: _File) -> Predictor | None:
    """What predicts a file from its candidate's row; None where nothing does."""
    if setup.space.precisions and not file.reference_of:
        return latency_of_rows(setup, on)
    found = on.predictor(file.precision)
    if found is None:
        return None
    return OfBuilt(rows=setup.deployed.rows, predictor=found) if setup.chooses_file else found


def _keys(setup: Setup, on: DeviceModels) -> list[str]:
    """Metric keys of what files cost on a device: latency, and energy where a goal is on it."""
    return [on.key, on.energy_key] if is_asked(setup, on) else [on.key]


def _front_file(
    setup: Setup,
    folder: RunFolder,
    file: _File,
    models: Sequence[DeviceModels],
    units_ms: Mapping[str, float],
) -> FrontFile:
    entry = file.entry
    on_device = {}
    for on in models:
        on_device[on.key] = _cost(entry["latencies"].get(on.device.name) or {}, "ms", measurable=on.measurable)
        energy = entry["energies"].get(on.device.name)
        if energy:
            on_device[on.energy_key] = _cost(energy, "mj", measurable=energy["measured"] is not None)
    shares = [on_device[key].figure / unit for key, unit in units_ms.items()]
    derived = {WORST: float(np.max(shares))} if shares else {}
    if any(goal.key == _COMPRESSED for goal in setup.goals):
        derived[_COMPRESSED] = float(packed_size(file.path))
    reasons = [text for text in (_reference_text(file) if file.reference_of else "", entry["quality_reason"]) if text]
    return FrontFile(
        architecture=file.candidate.architecture,
        precision=entry["precision"],
        accuracy=entry["accuracy"],
        on_device=on_device,
        derived=derived,
        macs=file.model["macs"],
        parameters=file.model["parameters"],
        size_bytes=entry["bytes"],
        peak_activation_bytes=entry["peak_activation_bytes"],
        path=str(file.path.relative_to(folder.path)),
        accepted=not reasons,
        reason="; ".join(reasons),
    )


def _cost(known_of: Mapping[str, Any], unit: str, *, measurable: bool) -> DeviceCost:
    def known(value: float | None) -> float:
        return math.nan if value is None else value

    measured = known_of.get("measured") or {}
    return DeviceCost(
        measured=known(measured.get("latency_ms" if unit == "ms" else "energy_mj")),
        predicted=known(known_of.get(f"predicted_{unit}")),
        upper=known(known_of.get(f"upper_{unit}")),
        measurable=measurable,
    )
