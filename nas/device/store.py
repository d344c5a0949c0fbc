"""Predictors on disk: arrays and a JSON record in one npz file, never a pickle.

Responsible for the file's format, and for refusing a file that is about something else: another space, input, device
or machine. Whoever gets `PredictorMisfitError` calibrates again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nas.device.formula import Formula
from nas.device.host import differences, host_facts
from nas.device.predictor import Calibration, CostPredictor, Scope
from nas.device.quality import Quality
from nas.errors import UserError
from nas.model.population_costs import PopulationCosts

FORMAT = 1
_FORMULA_ARRAYS = ("weights", "log_factors")
_CALIBRATION_ARRAYS = ("population", "latency_ms", "random", "predicted_ms", "upper_ms")


class PredictorMisfitError(UserError):
    """A stored predictor that cannot be used here: missing, broken, or about something else. Says which."""


def save_predictor(predictor: CostPredictor, path: Path) -> None:
    """Writes ``path`` (``.npz``), in one step: a reader sees the old file or the new one."""
    calibration, formula = predictor.calibration, predictor.formula
    arrays = {name: getattr(formula, name) for name in _FORMULA_ARRAYS}
    arrays |= {name: getattr(calibration, name) for name in _CALIBRATION_ARRAYS}
    record = {
        "format": FORMAT,
        **_subject(predictor.scope, predictor.costs),
        "fit": predictor.fit,
        "log_offset": formula.log_offset,
        "floor_ms": formula.floor_ms,
        "quality": predictor.quality.to_record(),
        "protocol": calibration.protocol,
        "anchor_ms": None if math.isnan(calibration.anchor_ms) else calibration.anchor_ms,
        "host": dict(calibration.host),
        "fingerprint": dict(calibration.fingerprint),
        "time": calibration.time,
        "num_unsettled": calibration.num_unsettled,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        np.savez(file, record=np.array(json.dumps(record)), log_residuals=predictor.log_residuals, **arrays)
    unfinished.replace(path)


def load_predictor(path: Path, costs: PopulationCosts, *, scope: Scope) -> CostPredictor:
    """The predictor at ``path``, for rows of ``scope.space`` on this machine.

    Args:
        path: usually the device's folder and ``scope.file_name``.
        costs: features of rows; must be of the same space, input and classes as ``scope`` says.
        scope: what it must be about.

    Raises:
        PredictorMisfitError: there is no such file, it cannot be read, or it is about something else; the message
            says what differs, in one line.
    """
    record, arrays = _read(path)
    wanted = _subject(scope, costs)
    for key, value in wanted.items():
        if record.get(key) != value:
            raise PredictorMisfitError(str(path), f"{key} must be {value}, it is {record.get(key)}", "calibrate again")
    calibration, formula = _calibration(record, arrays), _formula(record, arrays)
    changed = differences(calibration.fingerprint, host_facts().fingerprint(scope.device.threads))
    if changed:
        raise PredictorMisfitError(str(path), f"was measured elsewhere ({'; '.join(changed)})", "calibrate again")
    return CostPredictor(
        scope=scope,
        costs=costs,
        fit=str(record["fit"]),
        formula=formula,
        log_residuals=arrays["log_residuals"],
        quality=Quality.from_record(record["quality"]),
        calibration=calibration,
    )


def read_record(path: Path) -> dict[str, Any]:
    """What a stored predictor says about itself, as plain JSON, whatever it is about. Raises `PredictorMisfitError`."""
    return _read(path)[0]


def _subject(scope: Scope, costs: PopulationCosts) -> dict[str, object]:
    """What must be the same for a predictor to apply, but for the machine."""
    names = "\n".join(costs.feature_names)
    return {
        "space": scope.space.name,
        "space_digest": scope.space.digest,
        "input_shape": list(scope.input_shape),
        "num_classes": scope.num_classes,
        "precision": scope.precision,
        "device": scope.device.name,
        "threads": scope.device.threads,
        "batch": scope.device.batch,
        "features": hashlib.sha256(names.encode()).hexdigest()[:16],
    }


def _read(path: Path) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        record = json.loads(str(arrays["record"]))
        number = record["format"]
        complete = {"log_residuals", *_FORMULA_ARRAYS, *_CALIBRATION_ARRAYS} <= set(arrays)
    except FileNotFoundError as error:
        raise PredictorMisfitError(str(path), "no latency model is stored", "calibrate the device") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise PredictorMisfitError(
            str(path), "must be a stored latency model, it cannot be read", "calibrate again"
        ) from error
    if number != FORMAT:
        raise PredictorMisfitError(
            str(path), f"must be of format {FORMAT}, it is of format {number}", "calibrate again"
        )
    if not complete:
        raise PredictorMisfitError(
            str(path), "must be a stored latency model, parts of it are missing", "calibrate again"
        )
    return record, arrays


def _formula(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Formula:
    return Formula(
        weights=arrays["weights"],
        log_factors=arrays["log_factors"],
        log_offset=float(record["log_offset"]),
        floor_ms=float(record["floor_ms"]),
    )


def _calibration(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Calibration:
    anchor_ms = record["anchor_ms"]
    return Calibration(
        population=arrays["population"],
        latency_ms=arrays["latency_ms"],
        random=arrays["random"],
        predicted_ms=arrays["predicted_ms"],
        upper_ms=arrays["upper_ms"],
        protocol=record["protocol"],
        anchor_ms=float("nan") if anchor_ms is None else float(anchor_ms),
        host=record["host"],
        fingerprint=record["fingerprint"],
        time=record["time"],
        num_unsettled=int(record["num_unsettled"]),
    )
