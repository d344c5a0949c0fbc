"""Predictors on disk: arrays and a JSON record in one npz file, never a pickle.

Responsible for the file's format, and for refusing a file that is about something else: another space, input, device
or machine. Whoever gets `PredictorMisfitError` calibrates again. What a kind of predictor adds to the file is in
`nas.device.codecs`.

A predictor is tied to the machine that loads it only where it was measured on it: its calibration has a fingerprint
then. One that was measured elsewhere, over a network or by somebody else, has none, and loads everywhere.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nas.device.archives import read_arrays
from nas.device.codecs import CODECS, Arrays, StoredPredictor, kind_of
from nas.device.host import differences, host_facts
from nas.device.predictor import Calibration, Scope
from nas.device.quality import Quality
from nas.errors import UserError, first_line
from nas.model.population_costs import PopulationCosts
from nas.space.moves import sample

FORMAT = 2
_ASKED, _CONFIDENCE = 8, 0.9  # rows that a predictor answers for before it is believed, and how surely
_UNFIT = (ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError, AssertionError)
_CALIBRATION_ARRAYS = ("population", "latency_ms", "random", "predicted_ms", "upper_ms")


class PredictorMisfitError(UserError):
    """A stored predictor that cannot be used here: missing, broken, or about something else. Says which."""


def save_predictor(predictor: StoredPredictor, path: Path) -> None:
    """Writes ``path`` (``.npz``), in one step: a reader sees the old file or the new one."""
    calibration, kind = predictor.calibration, kind_of(predictor)
    own_record, own_arrays = CODECS[kind].encode(predictor)
    record = {
        "format": FORMAT,
        "kind": kind,
        **_subject(predictor.scope),
        **own_record,
        "quality": predictor.quality.to_record(),
        "protocol": calibration.protocol,
        "anchor_ms": None if math.isnan(calibration.anchor_ms) else calibration.anchor_ms,
        "host": dict(calibration.host),
        "fingerprint": dict(calibration.fingerprint),
        "time": calibration.time,
        "num_unsettled": calibration.num_unsettled,
    }
    arrays = {name: getattr(calibration, name) for name in _CALIBRATION_ARRAYS} | own_arrays
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, record=np.array(json.dumps(record)), **arrays)
    unfinished.replace(path)


def load_predictor(path: Path, costs: PopulationCosts | None, *, scope: Scope) -> StoredPredictor:
    """The predictor at ``path``, for rows of ``scope.space``.

    Args:
        path: usually the device's folder and ``scope.file_name``.
        costs: features of rows, of the same space, input and classes as ``scope`` says. None where there are none: a
            predictor that needs them is refused.
        scope: what it must be about.

    Raises:
        PredictorMisfitError: there is no such file, it cannot be read, or it is about something else; the message
            says what differs, in one line.
    """
    try:
        return _load(path, costs, scope)
    except PredictorMisfitError:
        raise
    except _UNFIT as error:  # a record of another form, arrays of other shapes
        problem = f"must be a stored latency model, parts of it do not fit ({first_line(error)})"
        raise PredictorMisfitError(str(path), problem, "calibrate again") from error


def _load(path: Path, costs: PopulationCosts | None, scope: Scope) -> StoredPredictor:
    record, arrays = _read(path)
    wanted = {**_subject(scope), **CODECS[record["kind"]].needs(costs)}
    for key, value in wanted.items():
        if record.get(key) != value:
            raise PredictorMisfitError(str(path), f"{key} must be {value}, it is {record.get(key)}", "calibrate again")
    calibration = _calibration(record, arrays)
    if calibration.fingerprint:
        changed = differences(calibration.fingerprint, host_facts().fingerprint(scope.device.threads))
        if changed:
            where = "; ".join(changed)
            raise PredictorMisfitError(str(path), f"was measured elsewhere ({where})", "calibrate again")
    quality = Quality.from_record(record["quality"])
    predictor = CODECS[record["kind"]].decode(record, arrays, scope, costs, quality, calibration)
    _check_answers(predictor, scope)
    return predictor


def _check_answers(predictor: StoredPredictor, scope: Scope) -> None:
    """Refuses parameters that do not fit each other, or that answer with what is no time."""
    rows = sample(scope.space, _ASKED, np.random.default_rng(0))
    answers = np.concatenate([predictor.predict_ms(rows), predictor.upper_ms(rows, _CONFIDENCE)])
    if not (np.isfinite(answers).all() and (answers > 0).all()):
        raise ValueError("its answers are no times")


def read_record(path: Path) -> dict[str, Any]:
    """What a stored predictor says about itself, as plain JSON, whatever it is about. Raises `PredictorMisfitError`."""
    return _read(path)[0]


def _subject(scope: Scope) -> dict[str, object]:
    """What must be the same for a predictor to apply, but for the machine."""
    return {
        "space": scope.space.name,
        "space_digest": scope.space.digest,
        "input_shape": list(scope.input_shape),
        "num_classes": scope.num_classes,
        "precision": scope.precision,
        "device": scope.device.name,
        "threads": scope.device.threads,
        "batch": scope.device.batch,
    }


def _read(path: Path) -> tuple[dict[str, Any], Arrays]:
    try:
        arrays = read_arrays(path)
        record = json.loads(str(arrays["record"]))
        number, kind = record["format"], record.get("kind")
    except FileNotFoundError as error:
        raise PredictorMisfitError(str(path), "no latency model is stored", "calibrate the device") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problem = "must be a stored latency model, it cannot be read"
        raise PredictorMisfitError(str(path), problem, "calibrate again") from error
    if number != FORMAT:
        problem = f"must be of format {FORMAT}, it is of format {number}"
        raise PredictorMisfitError(str(path), problem, "calibrate again")
    if kind not in CODECS:
        problem = f"must be a latency model of a space ({', '.join(CODECS)}), it is of kind {kind}"
        raise PredictorMisfitError(str(path), problem, "calibrate again")
    if not {*CODECS[kind].arrays, *_CALIBRATION_ARRAYS} <= set(arrays):
        problem = "must be a stored latency model, parts of it are missing"
        raise PredictorMisfitError(str(path), problem, "calibrate again")
    return record, arrays


def _calibration(record: Mapping[str, Any], arrays: Arrays) -> Calibration:
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
