"""Operators models on disk: arrays and a JSON record in one npz file, never a pickle.

Responsible for `latency_models/<device>/operators-<precision>.npz`, and for refusing one that is about something else.
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
from nas.device.card import Device, Precision
from nas.device.host import differences, host_facts
from nas.device.operators import OperatorsModel, Probed, Provenance
from nas.device.operators_predictor import features_digest
from nas.device.quality import Quality
from nas.device.store import PredictorMisfitError
from nas.device.where.places import Local
from nas.errors import first_line

FORMAT = 1
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
_UNFIT = (ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError, AssertionError)
_ARRAYS = ("rates", "log_residuals", "features", "latency_ms", "random")


def operators_file(precision: Precision) -> str:
    """The file's name in the device's folder."""
    return f"operators-{precision}.npz"


def save_operators(model: OperatorsModel, path: Path) -> None:
    """Writes ``path`` (``.npz``), in one step: a reader sees the old file or the new one."""
    measured = model.provenance
    record = {
        "kind": "operators",
        "format": FORMAT,
        "feature_names": features_digest(),
        "device": measured.device,
        "precision": measured.precision,
        "threads": measured.threads,
        "batch": measured.batch,
        "protocol": measured.protocol,
        "anchor_ms": None if math.isnan(measured.anchor_ms) else measured.anchor_ms,
        "host": dict(measured.host),
        "fingerprint": dict(measured.fingerprint),
        "time": measured.time,
        "num_unsettled": measured.num_unsettled,
        "floor_ms": model.floor_ms,
        "quality": model.quality.to_record(),
        "checks": {name: errors.tolist() for name, errors in model.checks.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        np.savez_compressed(
            file,
            record=np.array(json.dumps(record)),
            rates=model.rates,
            log_residuals=model.log_residuals,
            features=model.probed.features,
            latency_ms=model.probed.latency_ms,
            random=model.probed.random,
        )
    unfinished.replace(path)


def load_operators(path: Path, *, device: Device, precision: Precision) -> OperatorsModel:
    """The model at ``path``.

    Args:
        path: usually the device's folder and `operators_file`.
        device: that it must be about; where it is measured on this machine, this must be the one that it was.
        precision: that it must be about.

    Raises:
        PredictorMisfitError: there is no such file, it cannot be read, or it is about something else; the message
            says what differs, in one line.
    """
    try:
        return _load(path, device, precision)
    except PredictorMisfitError:
        raise
    except _UNFIT as error:  # a record of another form, arrays of other shapes
        problem = f"must be a stored operators model, parts of it do not fit ({first_line(error)})"
        raise PredictorMisfitError(str(path), problem, "calibrate again") from error


def _load(path: Path, device: Device, precision: Precision) -> OperatorsModel:
    record, arrays = _read(path)
    wanted = {
        "device": device.name,
        "precision": precision,
        "threads": device.threads,
        "batch": device.batch,
        "feature_names": features_digest(),
    }
    for key, value in wanted.items():
        if record.get(key) != value:
            raise PredictorMisfitError(str(path), f"{key} must be {value}, it is {record.get(key)}", "calibrate again")
    if isinstance(device.where, Local):
        changed = differences(record["fingerprint"], host_facts().fingerprint(device.threads))
        if changed:
            raise PredictorMisfitError(str(path), f"was measured elsewhere ({'; '.join(changed)})", "calibrate again")
    return OperatorsModel(
        rates=arrays["rates"],
        floor_ms=float(record["floor_ms"]),
        log_residuals=arrays["log_residuals"],
        checks={name: np.array(errors, dtype=np.float64) for name, errors in record["checks"].items()},
        quality=Quality.from_record(record["quality"]),
        probed=Probed(features=arrays["features"], latency_ms=arrays["latency_ms"], random=arrays["random"]),
        provenance=_provenance(record),
    )


def _provenance(record: Mapping[str, Any]) -> Provenance:
    anchor_ms = record["anchor_ms"]
    return Provenance(
        device=record["device"],
        precision=record["precision"],
        threads=int(record["threads"]),
        batch=int(record["batch"]),
        protocol=record["protocol"],
        anchor_ms=float("nan") if anchor_ms is None else float(anchor_ms),
        host=record["host"],
        fingerprint=record["fingerprint"],
        time=record["time"],
        num_unsettled=int(record["num_unsettled"]),
    )


def _read(path: Path) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    try:
        arrays = read_arrays(path)
        record = json.loads(str(arrays["record"]))
        fitting = record.get("kind") == "operators" and record.get("format") == FORMAT
        complete = set(_ARRAYS) <= set(arrays)
    except FileNotFoundError as error:
        problem = "no operators model is stored"
        raise PredictorMisfitError(str(path), problem, "calibrate with operators=true") from error
    except _UNREADABLE as error:
        problem = "must be a stored operators model, it cannot be read"
        raise PredictorMisfitError(str(path), problem, "calibrate again") from error
    if not fitting or not complete:
        found = f"{record.get('kind', 'something else')} of format {record.get('format', 'unknown')}"
        problem = (
            f"must be an operators model of format {FORMAT}, it is {found}{'' if complete else ' with parts missing'}"
        )
        raise PredictorMisfitError(str(path), problem, "calibrate again")
    return record, arrays
