"""A new device from few measurements: a latency model that draws on those of other devices for the same space.

Responsible for finding them, and for whether one is worth it: the model from exact features competes, and errors on
architectures that were not seen decide.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nas.commands.locate_device import device_folders, stored_files
from nas.commands.subject import Subject
from nas.device.card import Precision, device_names, load_device
from nas.device.codecs import StoredPredictor
from nas.device.encoders import Encoder
from nas.device.predictor import CostPredictor
from nas.device.store import load_predictor
from nas.device.transfer import MIN_TRANSFER_SAMPLES, fit_sources, fit_transfer
from nas.errors import UserError
from nas.space.moves import Population, sample

_ROWS = 600  # architectures that other devices' models are looked at on
_MAX_SOURCES = 6  # models that agree best with what was measured; a regression is fitted to each


def better_of(
    fitted: CostPredictor, subject: Subject, precision: Precision, *, confidence: float, rng: np.random.Generator
) -> StoredPredictor:
    """``fitted``, or a model that draws on other devices, if that errs less on architectures that it has not seen.

    Args:
        fitted: from exact features, on the same samples.
        subject: space, input and device.
        precision: of the files.
        confidence: that bounds are judged at.
        rng: draws the architectures that other devices' models are looked at on.
    """
    calibration = fitted.calibration
    known = _known(subject, precision)
    if not known or len(calibration.latency_ms) < MIN_TRANSFER_SAMPLES:
        return fitted
    rows = np.unique(sample(subject.space, _ROWS, rng), axis=0)
    rows = rows[subject.costs.buildable(rows)]
    chosen = _most_alike(known, calibration.population, calibration.latency_ms)
    measured = {name: (rows, known[name].predict_ms(rows)) for name in chosen}
    try:
        sources = fit_sources(Encoder(space=subject.space), measured, reference=rows)
        transferred = fit_transfer(
            sources,
            calibration.population,
            calibration.latency_ms,
            scope=fitted.scope,
            random=calibration.random,
            confidence=confidence,
            calibration=calibration,
        )
    except UserError:  # e.g. latencies of another device that are all the same: nothing to learn from
        return fitted
    return transferred if transferred.quality.mape < fitted.quality.mape else fitted


def _known(subject: Subject, precision: Precision) -> dict[str, StoredPredictor]:
    """Device -> its stored latency model for the space, input and precision; not of the device itself."""
    found: dict[str, StoredPredictor] = {}
    folders, name_of_file = device_folders(), subject.scope(precision).file_name
    for name in device_names(folders):
        if name == subject.device.name:
            continue
        for file in stored_files(name, name_of_file):
            try:
                scope = replace(subject.scope(precision), device=load_device(name, folders))
                found[name] = load_predictor(file, subject.costs, scope=scope)
                break
            except UserError:  # of another batch, machine or format: it does not help here
                continue
    return found


def _most_alike(known: dict[str, StoredPredictor], rows: Population, latency_ms: NDArray[np.float64]) -> list[str]:
    """Names of the models whose predictions correlate best with what was measured, on a logarithmic scale."""
    measured = np.log(latency_ms)

    def likeness(name: str) -> float:
        predicted = np.log(np.maximum(known[name].predict_ms(rows), 1e-9))
        return float(np.corrcoef(measured, predicted)[0, 1]) if np.ptp(predicted) > 0 else -1.0

    return sorted(known, key=lambda name: -likeness(name))[:_MAX_SOURCES]
